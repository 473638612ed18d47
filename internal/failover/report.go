package failover

import (
	"fmt"
	"net/netip"
	"time"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// Report is how one check of one cluster ended: the object that --json prints,
// one a line. Keys may be added and are never renamed; all are always there, and
// the lists are never null.
type Report struct {
	Version   int            `json:"version"` // of this object: 1
	Cluster   string         `json:"cluster"`
	Time      time.Time      `json:"time"`    // when the check began, UTC
	Outcome   state.Outcome  `json:"outcome"` // or "busy", "error" where no check was made
	Code      int            `json:"code"`
	Changed   bool           `json:"changed"` // the outcome is another than at the last check
	DryRun    bool           `json:"dry_run"`
	Reason    string         `json:"reason"`
	Error     *string        `json:"error"`
	Role      state.Role     `json:"role"`
	Held      []netip.Prefix `json:"held"` // virtual IPs on this machine now, by the kernel
	Interface string         `json:"interface"`
	Paused    bool           `json:"paused"`
	Host      string         `json:"host"`
	Paths     []string       `json:"paths"` // all entries of host
	state.Evidence
	MailWaiting int                `json:"mail_waiting"`
	Duration    state.Milliseconds `json:"duration_ms"`
	Arbiter     *state.KeyStatus   `json:"arbiter"` // null without one
	notify.Attention
	// Hint is what to do about a manual command that was refused; "" for nothing.
	Hint string `json:"-"`
	// Check is what the record keeps of it, or would, could it be written.
	Check state.Check `json:"-"`
}

// What a check of a cluster reports besides the events of packages run and observe.
type (
	// Decided carries the decision, before anything is done about it.
	Decided struct {
		Decision state.Decision
	}
	// HookRan carries a hook that was run.
	HookRan struct {
		Hook    string // pre-takeover, …
		Command state.Command
		Error   error // nil for exit code 0
	}
	// Announced says that the clients on Interface were told that Address is at MAC.
	Announced struct {
		Address   netip.Addr
		Interface string
		MAC       string
	}
)

// report puts together what is shown of the run.
func report(j *job, rec state.Record, r Result, changed bool, saveErr error) Report {
	held := []netip.Prefix{}
	for _, a := range r.Obs.Held() {
		held = append(held, r.Obs.Assigned(a)[0].Address.Prefix)
	}
	e := r.Obs.Evidence
	e.Rounds, e.Witnesses = orEmpty(e.Rounds), orEmpty(e.Witnesses)
	e.Holders, e.Commands = orEmpty(e.Holders), orEmpty(r.Commands)
	e.Answers = nil // they are in Attention
	report := Report{
		Version: 1, Cluster: j.Set.Name, Time: j.Began.UTC().Truncate(time.Second),
		Outcome: r.Outcome, Code: r.Outcome.Code(), Changed: changed, DryRun: j.DryRun, Reason: r.Reason,
		Role: rec.Role, Held: held, Interface: r.Obs.ShownInterface(), Paused: time.Now().Before(j.PausedUntil()),
		Host: j.Set.Host, Paths: j.Set.Hosts(), Evidence: e, MailWaiting: len(rec.Outbox),
		Arbiter:  j.arb.Key().Status(),
		Duration: state.Milliseconds(time.Since(j.Began).Milliseconds()), Attention: notify.AttentionOf(rec.Head, rec.Answers),
	}
	if j.mode == modeRelease && r.Obs.NoTaker && r.Outcome == state.Blocked {
		report.Hint = releaseHint(j, r.Obs.Local)
	}
	switch {
	case j.mode != modeTakeOver || r.Outcome != state.Blocked:
	case r.Cause == state.CauseInUse:
		report.Hint = fmt.Sprintf("remove it from the machine that has it, then run this again; pingover takeover --force %s does not ask", j.Set.Name)
	case r.Obs.Arbiter.State == state.ArbiterOther:
		report.Hint = fmt.Sprintf("release it on %s first: pingover release --force %s; or run this again when the key is free", r.Obs.Arbiter.Holder, j.Name)
	}
	if saveErr != nil {
		text := saveErr.Error()
		report.Error = &text
	}
	if j.mode == modeCheck && !j.DryRun {
		report.Check = *rec.Last
		report.Check.Outcome, report.Check.Code, report.Check.Duration = report.Outcome, report.Code, report.Duration
	}
	return report
}

// planned is the report of a dry run, with the commands of the decision.
func planned(j *job, rec state.Record, o observe.Observation, d state.Decision) Report {
	r := Result{Outcome: d.Outcome, Reason: d.Reason, Cause: d.Cause, Obs: o, Commands: dryRun(j, o.Local, rec.VIPs, d)}
	for _, c := range r.Commands {
		j.Event(run.Ran{Command: c, DryRun: true})
	}
	_, changed := counted(j, rec, d, r)
	if j.mode != modeCheck {
		changed = d.Release || len(d.Raise) > 0
	}
	return report(j, rec, r, changed, nil)
}

// reportLength tells an operator who watches how long a check may take.
func reportLength(j *job) {
	if text := LongCheck(j.Set); text != "" {
		j.Infof("%s", text)
	}
	if j.DryRun {
		j.Infof("a check with these settings ends after %s at the latest, whatever hangs", config.DurationText(j.Set.Deadline()))
	}
}

// LongCheck is what follows from a check that may not be over when the next is
// due; "" when it will be.
func LongCheck(c config.Cluster) string {
	d := c.LongestCheck()
	if d <= time.Minute {
		return ""
	}
	return fmt.Sprintf("with these settings a check can take %s, mail aside; while it runs, further ones exit at once with code %d",
		config.DurationText(d.Round(time.Second)), run.CodeBusy)
}

// releaseHint is how addresses get away from here that nobody could take.
func releaseHint(j *job, l observe.Local) string {
	if l.PrimaryIsVIP() {
		return fmt.Sprintf("to move it to the peer: pingover release --force %s here, then pingover takeover %s there", j.Name, j.Name)
	}
	return fmt.Sprintf("release it when %s is up again; pingover release --force %s leaves it unassigned", j.Set.Host, j.Name)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
