// Package doctor judges the survey and the probe of a check for an operator: what
// would keep a check or a takeover from working, and how to fix it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Grade says how much a finding matters.
type Grade string

// The grades. With a Fail, checks or takeovers would not work.
const (
	Good Grade = "ok"
	Warn Grade = "warn"
	Fail Grade = "fail"
)

// Finding is one thing that was examined.
type Finding struct {
	Grade Grade
	Text  string
	Fix   string // what to do about it; "" for what is good
}

// Run examines all that a takeover of the cluster needs, by the functions of a
// check. It changes nothing, but for an arbiter's test key and a test address on lo,
// takes no lock, and sends only what a dry run sends, and with sendTest a message to
// each recipient. When ctx ends, the rest is
// missing from what it returns.
func Run(ctx context.Context, c config.Cluster, sendTest bool) []Finding {
	env, err := failover.Real(c)
	found := RunIn(ctx, env, c, sendTest)
	if err != nil {
		found = append([]Finding{refusal(err)}, found...)
	}
	return found
}

// RunIn is Run in an environment of the caller's making. What needs a tool, or
// mail functions, is left out where it has none.
func RunIn(ctx context.Context, env failover.Env, c config.Cluster, sendTest bool) []Finding {
	x := &examination{env: env, set: c, subject: subject{
		kind: state.OfCluster, name: c.Name, metricsFile: c.MetricsFile, way: c.Mail, dir: state.Dir(c.StateDir), began: time.Now(),
		mayRun: env.Trusted, testMail: env.TestMail, sendMail: env.SendTest, command: env.Notify,
	}}
	x.examine(ctx)
	x.head, x.about = &x.Record.Head, failover.About(c, x.Local, x.Record.Neighbour)
	x.rights()
	x.stateDir()
	x.record()
	x.tool()
	for _, err := range x.Refused {
		x.add(refusal(err))
	}
	if x.Local.Snapshot != nil {
		x.network(ctx)
	}
	for _, text := range x.notes {
		x.warn("find out why; checks go on meanwhile", "%s", text)
	}
	x.arbiter(ctx)
	x.times()
	x.hooks()
	x.metrics()
	x.mail(ctx, sendTest)
	return x.found
}

// examination is what a check finds, and what is to be said about it.
type examination struct {
	Record state.Record
	// RecordErr is why Record is a new one, nil where it is not. A *run.Error ends
	// a check; after any other it goes on with what the kernel shows.
	RecordErr   error
	Local       observe.Local // without a Snapshot nothing below is known
	Refused     []error       // each of them ends a check
	Plans       [][]string    // the commands of a takeover
	Probed      bool          // the network was asked
	Observation observe.Observation
	NotAsked    []observe.Fault // what kept some from being asked

	env failover.Env
	set config.Cluster
	subject
}

// subject is what is examined of clusters and pools alike, and what was found.
type subject struct {
	kind        state.Kind
	name        string
	metricsFile string
	way         config.Mail
	head        *state.Head
	about       notify.Cluster
	dir         state.Dir
	began       time.Time
	notes       []string
	found       []Finding

	mayRun   func(argv []string) error // why root must not
	testMail func(context.Context) (how string, err error)
	sendMail func(ctx context.Context, m state.Message, to string) (reply string, err error)
	command  notify.Command
}

// add adds a finding, unless its text is there already.
func (x *subject) add(f Finding) {
	if !slices.ContainsFunc(x.found, func(known Finding) bool { return known.Text == f.Text }) {
		x.found = append(x.found, f)
	}
}

func (x *subject) good(format string, args ...any) {
	x.add(Finding{Grade: Good, Text: fmt.Sprintf(format, args...)})
}

func (x *subject) warn(fix, format string, args ...any) {
	x.add(Finding{Warn, fmt.Sprintf(format, args...), fix})
}

func (x *subject) fail(fix, format string, args ...any) {
	x.add(Finding{Fail, fmt.Sprintf(format, args...), fix})
}

// refusal is an error that ends a check.
func refusal(err error) Finding {
	f := Finding{Fail, err.Error(), "change the setting, or this machine"}
	if refused, ok := errors.AsType[*run.Error](err); ok && refused.Hint != "" {
		f.Fix = refused.Hint
	}
	return f
}

func (x *examination) isVIP(a netip.Addr) bool {
	return slices.ContainsFunc(x.set.VIPs, func(v config.VIP) bool { return v.Prefix.Addr() == a })
}

func (x *examination) rights() {
	if err := x.env.MayPing(); err != nil {
		x.fail("run pingover as root, or with the capability CAP_NET_RAW", "%v", err)
	} else {
		x.good("this process may ping")
	}
	if len(x.set.VIPs) == 0 {
		return
	}
	if err := x.env.MayRaise(); err != nil {
		x.fail("run pingover as root, or with the ambient capabilities CAP_NET_ADMIN and CAP_NET_RAW", "%v", err)
	} else {
		x.good("this process may change addresses, and so may its tool")
	}
}

func (x *examination) tool() {
	switch {
	case len(x.set.VIPs) == 0:
		x.warn("set vip for takeovers", "no vip: checks only report, and never take over")
		return
	case x.env.Tool == nil:
		return
	}
	if tool, ok := x.env.Tool.(vip.Tool); !ok || x.trusted("tool", []string{tool.Path}) {
		x.good("tool: %s", x.env.Tool)
	}
	if text := failover.ShortLease(x.set, x.Record.Gap.Duration()); text != "" {
		what := "the lease"
		if x.set.Arbiter.Set() {
			what = "arbiter-ttl"
		}
		x.warn("make "+what+" longer, or check more often", "%s", text)
	} else if x.set.Lease > 0 && len(x.Refused) == 0 {
		x.good("lease %s: can be set", config.DurationText(x.set.Lease))
	}
}

// times are what follows from settings that are durations.
func (x *examination) times() {
	if text := failover.LongCheck(x.set); text != "" {
		x.good("%s", text)
	}
	if len(x.set.VIPs) == 0 {
		return
	}
	uptime, err := x.env.Uptime()
	switch wait := x.set.BootWait - uptime; {
	case err != nil:
		x.fail("find out why /proc/uptime cannot be read", "the uptime of this machine is unknown, so there will be no takeover: %v", err)
	case wait > 0:
		x.warn("wait, or make boot-wait shorter", "this machine has been up for %s: no takeover for another %s",
			config.DurationText(uptime.Round(time.Second)), config.DurationText(wait.Round(time.Second)))
	case x.set.BootWait > 0:
		x.good("this machine has been up for longer than %s", config.DurationText(x.set.BootWait))
	}
}
