package failover

import (
	"context"
	"strings"
	"time"

	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// The hooks that come before a change. Those that follow one are the state's:
// they may be pending from run to run.
const (
	preTakeover = "pre-takeover"
	preRelease  = "pre-release"
)

// slowHook is how long a hook may take before the observation is too old to act
// upon.
const slowHook = time.Second

// hookOf is the operator's command for it, nil for none.
func (j *job) hookOf(name string) []string {
	switch name {
	case preTakeover:
		return j.Set.Hooks.PreTakeover
	case state.PostTakeover:
		return j.Set.Hooks.PostTakeover
	case preRelease:
		return j.Set.Hooks.PreRelease
	case state.PostRelease:
		return j.Set.Hooks.PostRelease
	}
	return nil
}

// runHook runs a hook, and renews leases meanwhile. No command: the zero Result.
func runHook(ctx context.Context, j *job, l observe.Local, aliases []state.Alias, name, reason string) (proc.Result, state.Command, []state.Alias) {
	argv := j.hookOf(name)
	if argv == nil {
		return proc.Result{}, state.Command{}, aliases
	}
	j.Doing(name)
	j.Event(run.Stage(name))
	event := "takeover"
	if name == preRelease || name == state.PostRelease {
		event = "release"
	}
	vips := make([]string, len(j.Set.VIPs))
	for i, v := range j.Set.VIPs {
		vips[i] = v.Prefix.String()
	}
	var result proc.Result
	aliases = j.hold.While(l, aliases, func() {
		result = j.env.Hook(ctx, proc.Command{
			Argv: argv,
			Env: proc.Environment(
				"PINGOVER_CLUSTER="+j.Set.Name,
				"PINGOVER_EVENT="+event,
				"PINGOVER_HOST="+j.Set.Host,
				"PINGOVER_VIPS="+strings.Join(vips, " "),
				"PINGOVER_INTERFACE="+l.ShownInterface(),
				"PINGOVER_REASON="+reason,
			),
			Timeout: j.Set.Hooks.Timeout,
		})
	}).Aliases
	command := state.Command{Argv: argv, Hook: name, Code: &result.Code, Output: result.Output}
	j.Event(HookRan{Hook: name, Command: command, Error: result.Err})
	return result, command, aliases
}

// ranHook is the entry of the history about it.
func ranHook(name, event, reason string, r proc.Result) state.Entry {
	if r.Err != nil {
		reason = r.Err.Error()
	}
	return state.Entry{
		Kind: state.HookEntry, What: name, Code: &r.Code, Duration: state.Milliseconds(r.Duration.Milliseconds()),
		Change: state.Change{Event: event, Time: now(), Reason: reason},
	}
}

// hook runs a hook beside a switch, and returns how long it took. The error is
// that it did not exit with 0.
func (a *actor) hook(ctx context.Context, name, reason string) (took time.Duration, err error) {
	if a.j.hookOf(name) == nil {
		return 0, nil
	}
	result, command, aliases := runHook(ctx, a.j, a.done.Obs.Local, a.done.Aliases, name, reason)
	a.done.Aliases = aliases
	a.done.Commands = append(a.done.Commands, command)
	event := ""
	if a.intent != nil {
		event = a.intent.Event
	}
	a.done.Hooks = append(a.done.Hooks, ranHook(name, event, reason, result))
	if result.Err != nil && name != preTakeover {
		a.done.Failed = append(a.done.Failed, notify.HookFailure{Hook: name, Reason: result.Err.Error(), Command: command})
	}
	return result.Duration, result.Err
}
