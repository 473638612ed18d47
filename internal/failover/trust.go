package failover

import (
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// reportUntrusted reports what root does not run because others can write to it or
// replace it: a hook, a service command, sendmail or the tool. With a new cluster that is an error. One
// that was checked before, or holds something, goes on: pre-takeover then blocks,
// the other hooks count as failed, mail waits. It is said once an hour, and so is
// what is wrong with mail's credentials.
func reportUntrusted(j *job, rec state.Record, l observe.Local) error {
	last, gap := rec.LastCheck()
	warning := j.mode != modeCheck || state.HourBegins(j.Began, gap)
	for _, r := range proc.Refused(j.runs(), j.env.Trusted) {
		if last.IsZero() && !l.Holding() {
			return &run.Error{Code: run.CodeSettings, Text: r.Text, Hint: r.Fix}
		}
		j.Event(run.Note{Text: r.Text + "; " + r.Fix, Warning: warning})
	}
	for _, p := range j.Set.Mail.Unusable {
		j.Event(run.Note{Text: p.Error() + "; mail stays pending", Warning: warning})
	}
	return nil
}

// notUsed is what the settings name and root does not use, while mail, or what a
// holder may need, depends on it. Of a machine that stands by, readiness names the
// rest.
func (j *job) notUsed(holding bool) (all []string) {
	for _, p := range j.runs() {
		if err := j.env.Trusted(p.Argv); err != nil && (holding || p.Setting == "mail-via") {
			all = append(all, p.Setting+": "+err.Error())
		}
	}
	for _, p := range j.Set.Mail.Unusable {
		all = append(all, p.Error())
	}
	return all
}

// runs are the programs that a run of this cluster may start.
func (j *job) runs() (all []proc.Program) {
	for _, hook := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		if argv := j.hookOf(hook); argv != nil {
			all = append(all, proc.Program{Setting: hook, Argv: argv})
		}
	}
	for _, s := range j.Set.Services {
		if s.Argv != nil {
			all = append(all, proc.Program{Setting: "service", Argv: s.Argv})
		}
	}
	if tool, ok := j.env.Tool.(vip.Tool); ok {
		all = append(all, proc.Program{Setting: "tool", Argv: []string{tool.Path}})
	}
	return append(all, j.Set.Mail.Programs()...)
}
