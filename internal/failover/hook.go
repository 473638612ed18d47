package failover

import (
	"context"
	"strings"
	"time"

	"pingover/internal/proc"
	"pingover/state"
)

// The hooks that come before a change. Those that follow one are the state's,
// for they may be owed from run to run.
const (
	preTakeover = "pre-takeover"
	preRelease  = "pre-release"
)

// slowHook is how long a hook may take before what was seen is too old to act
// on.
const slowHook = time.Second

// hookOf is the operator's command for it, nil where there is none.
func (r *run) hookOf(name string) []string {
	switch name {
	case preTakeover:
		return r.set.Hooks.PreTakeover
	case state.PostTakeover:
		return r.set.Hooks.PostTakeover
	case preRelease:
		return r.set.Hooks.PreRelease
	case state.PostRelease:
		return r.set.Hooks.PostRelease
	}
	return nil
}

// hook runs a hook and says how long it took; no hook takes no time. The error
// is that it did not end with exit code 0.
func (r *run) hook(ctx context.Context, name, reason string) (took time.Duration, err error) {
	argv := r.hookOf(name)
	if argv == nil {
		return 0, nil
	}
	r.doing(name)
	event := "takeover"
	if name == preRelease || name == state.PostRelease {
		event = "release"
	}
	vips := make([]string, len(r.set.VIPs))
	for i, v := range r.set.VIPs {
		vips[i] = v.Prefix.String()
	}
	var result proc.Result
	command := proc.Command{
		Argv: argv,
		Env: proc.Environment(
			"PINGOVER_CLUSTER="+r.set.Name,
			"PINGOVER_EVENT="+event,
			"PINGOVER_HOST="+r.set.Host,
			"PINGOVER_VIPS="+strings.Join(vips, " "),
			"PINGOVER_INTERFACE="+r.shownInterface(),
			"PINGOVER_REASON="+reason,
		),
		Timeout: r.set.Hooks.Timeout,
	}
	r.keeping(func() { result = r.Hook(ctx, command) })
	c := state.Command{Argv: argv, Hook: name, Code: &result.Code, Output: result.Output}
	r.evidence.Commands = append(r.evidence.Commands, c)
	r.tell(HookRan{Hook: name, Command: c, Error: result.Err})
	if result.Err != nil && name != preTakeover {
		r.hooksFailed = append(r.hooksFailed, hookFailure{name, result.Err, c})
	}
	return result.Duration, result.Err
}

// hookFailure is a hook that failed and stopped nothing by that.
type hookFailure struct {
	hook    string
	err     error
	command state.Command
}

// runOwedHook runs the hook that belongs to the last change, be it of this run
// or of one that was killed, and crosses it off. What has been overtaken is
// dropped: services are not started where nothing is held any more. After a
// signal it stays owed, for it may take long.
func (r *run) runOwedHook(ctx context.Context) {
	owed := r.rec.PendingHook
	switch {
	case owed == nil || ctx.Err() != nil:
		return
	case r.hookOf(owed.Hook) != nil && (owed.Hook == state.PostTakeover) == r.holding():
		before := len(r.evidence.Commands)
		_, err := r.hook(ctx, owed.Hook, owed.Reason)
		if err != nil && ctx.Err() != nil {
			return
		}
		r.addToLetter(r.evidence.Commands[before:])
	}
	r.rec.PendingHook = nil
	r.save(true)
}
