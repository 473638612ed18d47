package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
	"pingover/vip"
)

// plan is what a check, or a watch until its next reload, is for.
type plan struct {
	source
	checks   []Task            // of the command line, and what is left
	all      []Task            // whose metrics are written
	left     map[string]bool   // of checks: no longer configured, and still held
	inherits map[string]string // of checks: the name that the cluster had
}

// options are those of a check of the task.
func (p plan) options(t Task) failover.Options {
	return failover.Options{Origin: p.path, Unconfigured: p.left[t.Name], Inherits: p.inherits[t.Name]}
}

// planned is what a check or a watch is for: the clusters of the command line,
// and, without names, those that have left the file and still hold something. A
// file that cannot be used is replaced by its last valid copy as a whole.
func (p Program) planned(c *cli.Context) (plan, error) {
	all, src, err := p.configured(c, p.Env)
	broken := err
	if p.unusable(c, &src, err) {
		all, err = p.fromCopy(c, src)
	}
	if err != nil {
		return plan{}, err
	}
	made := plan{source: src, left: map[string]bool{}, inherits: map[string]string{}}
	switch {
	case len(all) > 0:
		if made.checks, err = pick(all, namesIn(c)); err != nil {
			return plan{}, err
		}
	case !src.usable():
	case c.Args().Present():
		return plan{}, usageError{
			fmt.Sprintf("%q: no such cluster: there is no %s, and no --host", c.Args().First(), p.File),
			"define the cluster by --host and other flags, or write " + p.File,
		}
	default:
		return plan{}, p.undefined(c)
	}
	made.all = all
	if src.path != "" && (!c.Args().Present() || len(all) == 0) {
		p.addLeft(c, &made)
	}
	if len(made.checks) == 0 {
		if _, err := os.Stat(src.path); errors.Is(err, os.ErrNotExist) {
			broken = hinted{broken, fmt.Sprintf("no copy of it is in %s; if the file named a state directory, name it: --state-dir DIR", src.dir)}
		}
		return plan{}, broken // without a copy, and nothing is held
	}
	return made, nil
}

// undefined is the error where neither flags nor a file define a cluster.
func (p Program) undefined(c *cli.Context) error {
	_, err := config.FromFlags(settings(c), p.Env) // says what is missing
	return hinted{err, "such as pingover " + c.Command.Name + " --host 172.16.0.2 --vip 172.16.0.1, or write " + p.File}
}

// addLeft adds those that have left the file and still hold something, and
// finds those that are only called otherwise now.
func (p Program) addLeft(c *cli.Context, made *plan) {
	dir, err := config.StateDir(settings(c), p.Env)
	if err != nil {
		return
	}
	recorded, _ := recordedOnly(dir, made.all)
	var kernel *vip.Snapshot
	for _, r := range recorded {
		if names := namesIn(c); len(names) > 0 && !slices.Contains(names, r.Name) {
			continue
		}
		if r.Kind == state.OfPool {
			p.addLeftPool(made, r)
			continue
		}
		rec, err := r.record()
		if err != nil || !made.owns(rec.Origin, rec.Head, time.Now()) {
			continue
		}
		if heir := made.heir(rec, r.StateDir); heir != "" {
			made.inherits[heir] = r.Name
			continue
		}
		if kernel == nil {
			if kernel, err = vip.TakeSnapshot(); err != nil {
				return
			}
		}
		held := made.heldOnly(rec, kernel)
		if len(held) == 0 && len(rec.Offered) == 0 {
			continue
		}
		cluster, err := p.leftOver(rec, string(r.StateDir), held)
		if err != nil {
			errorf(p.Stderr, "%s: no longer configured, still holding %s, and it cannot be checked: %v", r.Name, prefixes(held), err)
			continue
		}
		made.add(p.task(cluster))
	}
}

// addLeftPool adds a pool that has left the file and has records in DNS, unless
// another pool of the file has its name in DNS now.
func (p Program) addLeftPool(made *plan, t Task) {
	rec, err := t.poolRecord()
	if err != nil || !made.owns(rec.Origin, rec.Head, time.Now()) || len(recordsOf(rec)) == 0 ||
		slices.ContainsFunc(made.all, func(t Task) bool { return t.pool.Record == rec.DNSName }) {
		return
	}
	left, err := p.recalled(t, nil)
	if err != nil {
		errorf(p.Stderr, "%s: no longer configured, with records in DNS, and it cannot be checked: %v", t.Name, err)
		return
	}
	made.add(left)
}

// add adds a task that has left the file.
func (p *plan) add(t Task) {
	if len(p.all) > 0 {
		t.MetricsFile = p.all[0].MetricsFile
	}
	p.checks, p.left[t.Name] = append(slices.Clip(p.checks), t), true
	p.all = append(slices.Clip(p.all), t)
}

// owns reports whether a cluster or pool that is not configured belongs to this file: one
// of another file never does, and one of flags only when nobody checks it any
// more.
func (p plan) owns(origin string, h state.Head, now time.Time) bool {
	switch origin {
	case p.path:
		return true
	case "", state.FlagsOrigin:
		return h.Last != nil && state.Overdue(now.Sub(h.Last.Time), h.Gap.Duration())
	}
	return false
}

// heir is the configured cluster that has all virtual IPs of a record, "" for
// none.
func (p plan) heir(rec *state.Record, dir state.Dir) string {
	vips := setIn(rec)
	if len(vips) == 0 {
		return ""
	}
	for _, t := range p.all {
		if t.StateDir == dir && p.inherits[t.Name] == "" && !p.left[t.Name] && len(without(vips, t.About.VIPs)) == 0 {
			return t.Name
		}
	}
	return ""
}

// heldOnly are the virtual IPs of a record that pingover has assigned here, and
// that no configured cluster has.
func (p plan) heldOnly(rec *state.Record, kernel *vip.Snapshot) (held []netip.Prefix) {
	for _, a := range rec.VIPs {
		ours := rec.Ours(a) || rec.Role == state.Active && !a.LeftOver
		if ours && kernel.Holds(a.Address()) {
			held = append(held, a.Prefix)
		}
	}
	for _, t := range p.all {
		held = without(held, t.About.VIPs)
	}
	return held
}

func prefixesOf(c config.Cluster) (vips []netip.Prefix) {
	for _, v := range c.VIPs {
		vips = append(vips, v.Prefix)
	}
	return vips
}

// leftOver is a cluster with the settings of its last check, for what it holds.
// Where they are not known, the record says enough to guard that.
func (p Program) leftOver(rec *state.Record, dir string, held []netip.Prefix) (config.Cluster, error) {
	env := p.Env
	env.Kept = true
	if len(held) == 0 {
		held = setIn(rec)
	}
	values, err := state.Dir(dir).Settings(rec.Name)
	if err == nil {
		values = maps.Clone(values)
		values["name"], values["state-dir"] = []string{rec.Name}, []string{dir}
		cluster, err := config.FromFlags(values, env)
		if err == nil {
			cluster.VIPs = slices.DeleteFunc(cluster.VIPs, func(v config.VIP) bool {
				return len(without([]netip.Prefix{v.Prefix}, held)) > 0
			})
		}
		if err == nil && len(cluster.VIPs) == len(held) {
			return cluster, nil
		}
	}
	return config.FromFlags(recordedValues(rec, dir, held), env)
}

// recordedValues are the settings that a record itself knows.
func recordedValues(rec *state.Record, dir string, vips []netip.Prefix) map[string][]string {
	values := map[string][]string{"name": {rec.Name}, "host": {rec.Host}, "state-dir": {dir}}
	for _, v := range vips {
		values["vip"] = append(values["vip"], v.String())
	}
	return values
}
