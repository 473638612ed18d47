package failover

import (
	"cmp"
	"errors"

	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// reportUntrusted reports what root does not run because others can write to it or
// replace it: a hook, sendmail or the tool. With a new cluster that is an error. One
// that was checked before, or holds something, goes on: pre-takeover then blocks,
// the other hooks count as failed, mail waits. It is said once an hour, and so is
// what is wrong with mail's credentials.
func reportUntrusted(j *job, rec state.Record, l observe.Local) error {
	last, gap := lastCheck(rec)
	warning := j.mode != modeCheck || state.HourBegins(j.Began, gap)
	for _, used := range j.runs() {
		err := j.env.Trusted(used.argv)
		if err == nil {
			continue
		}
		hint := ""
		if e, ok := errors.AsType[*proc.UntrustedError](err); ok {
			hint = "after reviewing it: " + e.Fix
		}
		if last.IsZero() && !l.Holding() {
			return &run.Error{Code: run.CodeSettings, Text: used.setting + ": " + err.Error(), Hint: hint}
		}
		j.Event(run.Note{Text: used.setting + ": " + err.Error() + "; " + hint, Warning: warning})
	}
	for _, p := range j.Set.Mail.Unusable {
		j.Event(run.Note{Text: p.Error() + "; mail stays pending", Warning: warning})
	}
	return nil
}

// program is a command line that a run may start, and the setting it comes from.
type program struct {
	setting string
	argv    []string
}

// runs are the programs that a run of this cluster may start.
func (j *job) runs() (all []program) {
	for _, hook := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		if argv := j.hookOf(hook); argv != nil {
			all = append(all, program{hook, argv})
		}
	}
	if argv := j.Set.Mail.Notify; argv != nil {
		all = append(all, program{"notify", argv})
	}
	if tool, ok := j.env.Tool.(vip.Tool); ok {
		all = append(all, program{"tool", []string{tool.Path}})
	}
	if m := j.Set.Mail; len(m.To) > 0 && m.Via.Scheme == "sendmail" {
		all = append(all, program{"mail-via", []string{cmp.Or(m.Via.Path, "sendmail")}})
	}
	return all
}
