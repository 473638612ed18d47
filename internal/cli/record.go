package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/run"
	"pingover/state"
)

// recalled is a task with the settings of its last check, overridden by flags.
// Where those are not known, the record still has the virtual IPs.
func (p Program) recalled(t Task, flags map[string][]string) (Task, error) {
	p.Env.Kept = true
	return p.recalledAnew(t, flags)
}

// recalledAnew is recalled where what the settings name must be there.
func (p Program) recalledAnew(t Task, flags map[string][]string) (Task, error) {
	dir, name := string(t.StateDir), t.Name
	values, err := lastSettings(t)
	if err != nil {
		rec, unread := t.record()
		if unread != nil || len(flags["host"]) == 0 || len(setIn(rec)) == 0 {
			return Task{}, err
		}
		values = recordedValues(rec, dir, setIn(rec))
	}
	values = maps.Clone(values)
	maps.Copy(values, flags)
	values["name"], values["state-dir"] = []string{name}, []string{dir}
	if t.Kind == state.OfPool {
		pool, err := config.PoolFrom(values, p.Env)
		return p.poolTask(pool), err
	}
	cluster, err := config.FromFlags(values, p.Env)
	if err != nil {
		err = hinted{err, fmt.Sprintf("settings without a flag are those of the last check of %s", name)}
	}
	return p.task(cluster), err
}

// setIn are the virtual IPs that were configured at the last check.
func setIn(rec *state.Record) []netip.Prefix {
	set := []netip.Prefix{}
	for _, a := range rec.VIPs {
		if !a.LeftOver {
			set = append(set, a.Prefix)
		}
	}
	return set
}

// lastSettings are the settings of the last check of a task.
func lastSettings(t Task) (map[string][]string, error) {
	settings, err := t.StateDir.Settings(t.Name)
	if err == nil {
		return settings, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, &run.Error{Code: exit.Permission, Text: fmt.Sprintf("%s: %v", t.Name, err)}
	}
	hint := "give --host and the other flags of its check, or wait for the next check: it writes them"
	if t.Kind == state.OfPool {
		hint = "wait for the next check: it writes them"
	}
	if untrusted, ok := errors.AsType[*state.UntrustedError](err); ok {
		hint = "after reviewing it: " + untrusted.Fix
	} else if errors.As(err, new(*state.ForeignError)) {
		hint = "remove it, or choose another --state-dir"
	}
	return nil, &run.Error{Code: exit.Config, Text: fmt.Sprintf("%s: %v", t.Name, err), Hint: hint}
}
