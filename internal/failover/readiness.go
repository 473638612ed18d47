package failover

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

const (
	// rehearseEvery is the time between two rehearsals that succeed.
	rehearseEvery = time.Hour
	// inARow failed rehearsals, or checks that are isolated, fire an alert.
	inARow = 3
)

// rehearse tries what a takeover needs, with ordinary requests, while this machine
// stands by and the primary replies: each witness replies in the way that would
// count, each virtual IP can be asked for, the uptime can be read, the hooks can be
// run. It returns what failed; tried is false where nothing was due.
func rehearse(ctx context.Context, j *job, asker *vip.Asker, rec state.Record, o Observation) (tried bool, failed []string) {
	unrunnable := j.unrunnable()
	for _, text := range unrunnable {
		j.Infof("%s", text)
	}
	if j.mode != modeCheck || j.DryRun || len(j.set.VIPs) == 0 || o.holding(j) || o.Primary != check.Up || !rehearsalDue(j, rec) {
		return false, nil
	}
	j.Doing("rehearsing a takeover")
	g := startGuards(ctx, j, asker, o, guardPlan{length: lastGuard, once: true, brief: true})
	seen := g.finish(o)
	if ctx.Err() != nil {
		return false, nil
	}
	for _, f := range seen.faults[len(o.faults):] {
		failed = append(failed, f.Text)
	}
	if seen.Witness == state.WitnessNone {
		failed = append(failed, NoWitness)
	}
	for _, w := range seen.Evidence.Witnesses {
		if !w.Answers {
			failed = append(failed, fmt.Sprintf("witness %s does not reply", w.Address))
		}
	}
	for _, t := range seen.targets() {
		if why := seen.cannotTake(t.Address); why != "" {
			failed = append(failed, fmt.Sprintf("%s cannot be assigned: %s", t.Address, why))
		} else if j.set.DuplicateCheck && !seen.replies.asked[t.Address] && len(failed) == 0 {
			failed = append(failed, fmt.Sprintf("%s cannot be asked for on %s", t.Address, t.Interface))
		}
	}
	if _, err := j.Uptime(); err != nil {
		failed = append(failed, fmt.Sprintf("the uptime cannot be read, which boot-wait needs: %v", err))
	}
	return true, append(failed, unrunnable...)
}

// rehearsalDue tells whether a rehearsal is due: at the first check and once in an
// hour, at a minute by the cluster's name so that many clusters do not rehearse at
// once; and at each check after one that failed, until the alert has resolved.
func rehearsalDue(j *job, rec state.Record) bool {
	name := fnv.New32a()
	_, _ = name.Write([]byte(j.Name))
	hour := func(t time.Time) int64 {
		return (t.Unix() - int64(name.Sum32()%uint32(rehearseEvery.Seconds()))) / int64(rehearseEvery.Seconds())
	}
	return rec.Rehearsed.IsZero() || rec.Streaks.NotReady > 0 || rec.Firing(string(notify.NotReady)) != nil || hour(rec.Rehearsed) != hour(j.Began)
}

// unrunnable are the hooks that cannot be run, and what root does not run.
func (j *job) unrunnable() (failed []string) {
	for _, name := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		argv := j.hookOf(name)
		if argv == nil {
			continue
		}
		if err := j.Runnable(argv); err != nil {
			failed = append(failed, fmt.Sprintf("%s cannot be run: %v", name, err))
		}
	}
	for _, p := range j.runs() {
		if err := j.Trusted(p.argv); err != nil && p.setting != "mail-via" {
			failed = append(failed, fmt.Sprintf("%s: %v", p.setting, err))
		}
	}
	return failed
}

// isolation is why a machine that holds cannot know whether another one has the
// addresses, or may not be reached itself; "" for none.
func (o Observation) isolation(j *job, asker *vip.Asker) string {
	why := ""
	switch {
	case !o.holding(j):
		return ""
	case j.set.DuplicateCheck:
		why = o.cannotListen(j, asker)
	}
	if o.Witness == state.WitnessSilent {
		silent := "no witness replies"
		if why == "" {
			return silent
		}
		return why + "; " + silent
	}
	return why
}

// conditions are the bad states besides the outcome.
func conditions(j *job, rec state.Record, r Result) (all []notify.Condition) {
	s, holding := rec.Streaks, r.Obs.holding(j)
	all = append(all, notify.Condition{
		Kind: notify.Isolated, Firing: s.Isolated >= inARow, Good: s.Connected, Over: !holding, Reason: r.Isolation,
	})
	if r.Rehearsed {
		all = append(all, notify.Condition{
			Kind: notify.NotReady, Firing: s.NotReady >= inARow, Good: s.Ready, Reason: strings.Join(r.NotReady, "; "),
		})
	}
	left := j.opt.Unconfigured && holding
	all = append(all, notify.Condition{
		Kind: notify.Unconfigured, Firing: left, Over: !left, Reason: "no longer configured, still holding " + AddressList(r.Obs.held(j)),
	})
	if a := rec.Firing(string(notify.HookFailed)); a != nil {
		all = append(all, notify.Condition{Kind: notify.HookFailed, Firing: holding, Over: !holding, Reason: a.Reason})
	}
	return all
}

// runnable is Env.Runnable.
func runnable(argv []string) error {
	_, err := proc.Runnable(argv)
	return err
}
