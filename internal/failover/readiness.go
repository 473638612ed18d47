package failover

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pingover/check"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

const (
	// rehearseEvery is the time between two rehearsals that succeed.
	rehearseEvery = time.Hour
	// leastFiles is how many files a run must be allowed to have open: a takeover on one
	// interface fails with 18, and each further interface and protocol needs some more.
	leastFiles = 64
	// inARow failed rehearsals, or checks that are isolated, fire an alert.
	inARow = 3
)

// rehearse tries what a takeover needs, with ordinary requests, while this machine
// stands by and the primary replies: each witness replies in the way that would
// count, each virtual IP can be asked for, the uptime can be read, the hooks can be
// run. It returns what failed; tried is false where nothing was due.
func rehearse(ctx context.Context, j *job, n *observe.Network, rec state.Record, o observe.Observation) (tried bool, failed []string) {
	unrunnable := j.unrunnable()
	for _, text := range unrunnable {
		j.Infof("%s", text)
	}
	if j.mode != modeCheck || j.DryRun || len(j.Set.VIPs) == 0 || o.Holding() || o.Primary != check.Up || len(unrunnable) == 0 && !rehearsalDue(j, rec) {
		return false, nil
	}
	j.Doing("rehearsing a takeover")
	failed, tried = n.Rehearse(ctx, o)
	if !tried {
		return false, nil
	}
	if _, err := j.Uptime(); err != nil {
		failed = append(failed, fmt.Sprintf("the uptime cannot be read, which boot-wait needs: %v", err))
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < leastFiles {
		failed = append(failed, fmt.Sprintf("only %d files may be open (ulimit -n), and a takeover needs up to %d", limit.Cur, leastFiles))
	}
	if err := j.arb.Ready(ctx); err != nil {
		failed = append(failed, fmt.Sprintf("the arbiter does not answer: %v", err))
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

// unrunnable are the hooks and service commands that cannot be run, and what root
// does not run.
func (j *job) unrunnable() (failed []string) {
	for _, p := range j.runs() {
		if p.Setting == "mail-via" {
			continue
		}
		if p.Setting != "tool" && p.Setting != "notify" {
			if err := j.env.Runnable(p.Argv); err != nil {
				failed = append(failed, fmt.Sprintf("%s cannot be run: %v", p.Setting, err))
				continue
			}
		}
		if err := j.env.Trusted(p.Argv); err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", p.Setting, err))
		}
	}
	return failed
}

// conditions are the bad states besides the outcome.
func conditions(j *job, rec state.Record, r Result) (all []notify.Condition) {
	s, holding := rec.Streaks, r.Obs.Holding()
	all = append(all, notify.Condition{
		Kind: notify.Isolated, Firing: s.Isolated >= inARow, Good: s.Connected, Over: !holding, Reason: r.Isolation,
	})
	if r.Rehearsed {
		all = append(all, notify.Condition{
			Kind: notify.NotReady, Firing: s.NotReady >= inARow, Good: s.Ready, Reason: strings.Join(r.NotReady, "; "),
		})
	}
	silent := j.arb.Status().State == state.ArbiterSilent
	all = append(all, notify.Condition{Kind: notify.NoArbiter, Firing: holding && silent, Over: !holding || !silent, Reason: r.Reason})
	all = append(all, notify.ServiceConditions(rec, r.Obs.Observation, j.Set.Fall, r.Obs.Certificates)...)
	left := j.opt.Unconfigured && holding
	all = append(all, notify.Condition{
		Kind: notify.Unconfigured, Firing: left, Over: !left, Reason: "no longer configured, still holding " + observe.AddressList(r.Obs.Held()),
	})
	unused := j.notUsed(holding)
	all = append(all, notify.Condition{Kind: notify.NotUsed, Firing: len(unused) > 0, Over: len(unused) == 0, Reason: strings.Join(unused, "; ")})
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
