package failover

import (
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

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
