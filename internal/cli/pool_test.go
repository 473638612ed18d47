package cli

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/check"
	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/failover"
	"pingover/pool"
	"pingover/state"
	"pingover/vip"
)

// www is a pool in memory: the checks are real, and so are the records on disk.
type www struct {
	Program
	t         *testing.T
	dir, file string
	published []netip.Addr
	silent    map[string]bool
	refuses   error
}

// newWWW is a pool that a file defines, with a cluster beside it.
func newWWW(t *testing.T) *www {
	dir := t.TempDir()
	w := &www{
		t: t, dir: filepath.Join(dir, "state"), file: filepath.Join(dir, "pingover.yaml"), silent: map[string]bool{},
		published: []netip.Addr{netip.MustParseAddr("10.2.2.10"), netip.MustParseAddr("10.2.2.11")},
	}
	w.write(`
clusters:
  web: {host: 172.16.0.2}
` + poolInFile)
	w.Program = faked(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
		return failover.Report{Version: 1, Cluster: c.Name, Host: c.Host, Outcome: state.OK, Reason: "172.16.0.2 replies"}, nil
	})
	w.Pools = Pools{
		Check: func(ctx context.Context, p config.Pool, o balance.Options) (balance.Report, error) {
			return balance.CheckIn(ctx, w.env(), p, o)
		},
		Drain: func(ctx context.Context, p config.Pool, members []netip.Addr, until time.Time, o balance.Options) (balance.Report, error) {
			return balance.DrainIn(ctx, w.env(), p, members, until, o)
		},
		Undrain: func(ctx context.Context, p config.Pool, members []netip.Addr, o balance.Options) (balance.Report, error) {
			return balance.UndrainIn(ctx, w.env(), p, members, o)
		},
		Examine: func(context.Context, config.Pool, bool) []doctor.Finding {
			return []doctor.Finding{{Grade: doctor.Good, Text: "the pool"}}
		},
	}
	w.File = w.file
	return w
}

const poolInFile = `pools:
  www:
    record: host1.zone.com
    server: 192.0.2.53
    members: [10.2.2.10, 10.2.2.11]
    count: 1
    retry-wait: 0s
    rise: 1
    witness: none
`

// write replaces the file. The state directory is that of the test.
func (w *www) write(text string) {
	text = "defaults: {state-dir: " + w.dir + "}\n" + text
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *www) env() balance.Env {
	return balance.Env{
		Snapshot: func() (*vip.Snapshot, error) {
			return &vip.Snapshot{Links: []vip.Link{{Index: 2, Name: "eth0", Up: true, Carrier: true, ARP: true}}}, nil
		},
		Route: func(netip.Addr, netip.Addr) (vip.Route, error) {
			return vip.Route{Interface: "eth0", OnLink: true}, nil
		},
		Gateway: func(string, bool, netip.Addr) (netip.Addr, bool, error) { return netip.Addr{}, false, nil },
		Ping: func(_ context.Context, p check.Pings) check.Round {
			if w.silent[p.Address.String()] {
				return check.Round{Verdict: check.Down, Sent: p.Count}
			}
			return check.Round{Verdict: check.Up, Sent: 1, Received: 1, RTT: time.Millisecond}
		},
		MayPing:    func() error { return nil },
		NameServer: func(config.Pool) (balance.NameServer, error) { return w, nil },
		Trusted:    func([]string) error { return nil },
		Locks:      new(state.Locks),
		Deliver:    func(context.Context, []state.Message) ([]state.Message, error) { return nil, nil },
	}
}

func (w *www) set(name string) pool.Set {
	return pool.Set{Name: name}.With(nil, w.published, time.Minute)
}

func (w *www) Read(_ context.Context, name string) (pool.Set, error) { return w.set(name), nil }

func (w *www) FindZone(context.Context, string) (pool.Zone, error) {
	return pool.Zone{Name: "zone.com."}, nil
}

func (w *www) TestUpdate(context.Context, string, pool.Set, ...netip.Addr) error { return nil }

func (w *www) Publish(_ context.Context, c pool.Change) (pool.Set, error) {
	if w.refuses != nil {
		return pool.Set{}, w.refuses
	}
	w.published = c.After.Addrs()
	return w.set(c.Before.Name), nil
}

// expect runs a command line, and compares the exit code; each text must be in what
// is printed, one that begins with ! must not.
func (w *www) expect(code int, line string, texts ...string) string {
	w.t.Helper()
	got := w.run(strings.Fields(line)...)
	all := got.Stdout + got.Stderr
	if got.Code != code {
		w.t.Errorf("%s: exit code %d, want %d\n%s", line, got.Code, code, all)
	}
	for _, text := range texts {
		unwanted, not := strings.CutPrefix(text, "!")
		if not == strings.Contains(all, unwanted) {
			w.t.Errorf("%s: %q\n%s", line, text, all)
		}
	}
	return all
}

func TestAPoolIsCheckedBesideAClusterAndShown(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "status www", "10.2.2.10  ?       -      never")
	w.expect(0, "check --verbose", "pingover: www: decision: ok, by rule 8", "pingover: web: ok: ")
	w.expect(0, "status www",
		"all is well: 1 pool\n", "POOL  RECORD", "www   host1.zone.com  10.2.2.10  published, up", "10.2.2.11  published, up")
	w.silent["10.2.2.11"] = true
	w.expect(11, "check", "pingover: www: removed: 10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com\n")
	w.expect(10, "check www", "")
	w.published = append(w.published, netip.MustParseAddr("10.2.2.99"))
	w.expect(10, "check www", "")
	w.expect(0, "status", "need attention: ", "10.2.2.11  out, down", "10.2.2.11: taken out by pingover\n", "10.2.2.99  published, no member",
		"10.2.2.11 is out of host1.zone.com")
	w.expect(1, "status www --monitoring", "PINGOVER WARNING - www: reduced, 10.2.2.11 is out of host1.zone.com, 10.2.2.11: taken out by pingover | members=2 published=1 drained=0 age=")
	w.expect(0, "status www --json", `"kind":"pool","cluster":"www","record":"host1.zone.com","server":"192.0.2.53:53","zone":"zone.com"`,
		`"published":["10.2.2.10","10.2.2.99"],"members":[{"address":"10.2.2.10","verdict":"up"`, `"foreign":["10.2.2.99"]`, `"update":{"leave":["10.2.2.11"]`)
	w.expect(0, "history www --details", "removed\n", "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com",
		"the update, as input of nsupdate:\n", "      update delete host1.zone.com. A 10.2.2.11\n", "to undo it, as input of nsupdate:")
	w.expect(0, "doctor www --verbose", "the pool")
	w.expect(0, "config www", "record              host1.zone.com", "valid, 2 clusters and pools")
	w.expect(0, "config www --json", `{"version":1,"cluster":"www","kind":"pool","settings":{`)
}

// On 60 columns what the file says is left out, never a member or its state.
func TestAPoolFitsANarrowTerminal(t *testing.T) {
	w := newWWW(t)
	w.silent["10.2.2.11"] = true
	w.expect(11, "check", "")
	w.Out.Columns = 60
	text := w.expect(0, "status www", `
POOL  MEMBER     IN DNS         LAST CHECK
www   10.2.2.10  published, up  `, `s ago: removed
      10.2.2.11  out, down
    10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com
    10.2.2.11: taken out by pingover
    (a wider terminal also shows: RECORD, SINCE)
`)
	for line := range strings.Lines(text) {
		if len(line) > 61 {
			t.Errorf("%q has more than 60 columns", line)
		}
	}
	w.expect(0, "history www --details", "    round 1: 10.2.2.11 down: no reply to 1 ping\n")
}

// A terminal of 20 columns shows what one of 80 does, in more lines; names are whole.
func TestATerminalOf20Columns(t *testing.T) {
	w := newWWW(t)
	w.silent["10.2.2.11"] = true
	w.Out, w.Terminal = Output{Columns: 20, Rows: 5, Live: true}, true
	w.expect(11, "check", "pingover: www: removed: ")
	w.expect(0, "status www", "www   10.2.2.10  published, up\n    ", "s ago: removed\n      10.2.2.11  out, down\n    10.2.2.11 is\n")
	w.expect(0, "history www", "www\n    removed: ")
	w.expect(0, "history www --details", "    10.2.2.11 is\n    down: 10.2.2.11\n")
	w.expect(0, "history www --summary", "served by members", "day ")
	w.expect(0, "doctor www", "ok    1 check passed\n      (--verbose\n      shows them)\n")
	w.expect(0, "config www", "host1.zone.com")
	w.expect(0, "watch --every 1s --for 1s --quiet www", "")
}

func TestADryRunOfAPoolShowsTheScript(t *testing.T) {
	w := newWWW(t)
	w.silent["10.2.2.10"] = true
	w.expect(11, "check www --dry-run", "pingover: www: would send, as input of nsupdate:\n",
		"pingover: www:   update delete host1.zone.com. A 10.2.2.10\n", "removed (dry run)")
	if len(w.published) != 2 {
		t.Errorf("a dry run has published %v", w.published)
	}
	w.expect(11, "drain www 10.2.2.11 -n", "would send, as input of nsupdate:", "removed (dry run)")
}

func TestDrainAndUndrain(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "check", "")
	w.expect(11, "drain www 10.2.2.11 --for 2h", "pingover: www: removed: drained manually: 10.2.2.11 leaves host1.zone.com\n",
		"hint: a drain belongs to one checker: where others check www, run it on each of them too\n")
	if want := []netip.Addr{netip.MustParseAddr("10.2.2.10")}; !slices.Equal(w.published, want) {
		t.Errorf("published: %v", w.published)
	}
	w.expect(0, "status www", "10.2.2.11  out, up, drained", "10.2.2.11: taken out by pingover, drained until "+time.Now().Add(2*time.Hour).Format("2006-01-02 "))
	w.expect(1, "status www --monitoring", "drained=1")
	w.expect(10, "drain www 10.2.2.11", "reduced: 10.2.2.11 is already out of host1.zone.com")
	w.expect(0, "status www", "drained; to end this: pingover")
	w.expect(21, "drain www 10.2.2.10", "blocked: not drained: 10.2.2.10 is the last of its family in host1.zone.com")
	w.expect(0, "undrain www 10.2.2.11", "ok: no longer drained: 10.2.2.11")
	w.expect(12, "check www", "restored")
	w.refuses = errors.New("REFUSED")
	w.expect(30, "drain www 10.2.2.11", "update-failed: ")
}

func TestADrainThatIsNotWrittenDown(t *testing.T) {
	w := newWWW(t)
	full := func(context.Context, config.Pool, []netip.Addr) (balance.Report, error) {
		return balance.Report{Outcome: state.StateFailed, Code: 32, Reason: "drained manually", Error: new("no space left on device")}, nil
	}
	w.Pools.Drain = func(ctx context.Context, p config.Pool, members []netip.Addr, _ time.Time, _ balance.Options) (balance.Report, error) {
		return full(ctx, p, members)
	}
	w.Pools.Undrain = func(ctx context.Context, p config.Pool, members []netip.Addr, _ balance.Options) (balance.Report, error) {
		return full(ctx, p, members)
	}
	w.expect(32, "drain www 10.2.2.11", "pingover: www: state-failed: drained manually: no space left on device\n",
		"hint: the drain is not written down: later checks put the member back while it replies; fix what keeps the state from being written, then drain again\n")
	w.expect(32, "undrain www 10.2.2.11", "hint: the drain goes on: fix what keeps the state from being written, then undrain again\n")
}

func TestDrainThatMakesNoSense(t *testing.T) {
	w := newWWW(t)
	w.expect(64, "drain www", "a pool and at least one member are missing", "hint: such as pingover drain www 10.2.2.11")
	w.expect(64, "drain www 10.2.2.12", `"10.2.2.12": no member of www; known: 10.2.2.10, 10.2.2.11`)
	w.expect(64, "drain www web1", `"web1": not an address; members are given by their addresses`)
	w.expect(64, "drain wwww 10.2.2.11", `"wwww": no such cluster`, "hint: did you mean www?")
	w.expect(64, "drain web 10.2.2.11", `"web": a cluster; drain is for pools`)
	w.expect(64, "takeover www", `"www": a pool; takeover is for clusters`, "hint: pingover drain www MEMBER takes members out of DNS")
	w.expect(64, "release www", `"www": a pool; release is for clusters`)
}

func TestPauseOfAPool(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "check", "")
	w.expect(0, "pause www --for 1h", "pingover: www: paused until ", "checks go on, DNS is not changed")
	w.silent["10.2.2.11"] = true
	w.expect(21, "check www", "paused, although 10.2.2.11 is down")
	w.expect(0, "resume www", "pingover: www: resumed: checks change DNS again")
	w.expect(0, "resume www", "nothing to resume: not paused")
	w.expect(11, "check www", "")
}

func TestAPoolThatLeavesTheFile(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "check", "")
	w.expect(64, "forget www", "is configured in")
	w.write("clusters:\n  web: {host: 172.16.0.2}\n")
	w.expect(0, "check", "")
	w.expect(0, "status", "2 of 2 clusters and pools need attention: web, www", "no longer configured in the file", "pingover forget www",
		"10.2.2.11  published, no member", "records without a member since", "are published, and no longer members of this pool")
	w.expect(1, "status www --monitoring", "records without a member")
	w.expect(0, "forget www", "pingover: www: deleted; host1.zone.com keeps 10.2.2.10, 10.2.2.11 in DNS")
	w.expect(0, "status", "!www")
}

// A file with a mistake ends no protection: the last valid one is used, pools
// included, and manual commands go on with the settings of the last check.
func TestAPoolInAFileThatCannotBeUsed(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "check", "")
	w.write("clusters: {web: {hots: 172.16.0.2}}\n" + poolInFile)
	w.silent["10.2.2.11"] = true
	w.expect(11, "check", "going on with the last valid file", "pingover: www: removed: ")
	w.expect(10, "drain www 10.2.2.11", "going on with the settings of the last check", "already out")
}

func TestMetricsOfAPool(t *testing.T) {
	w := newWWW(t)
	file := filepath.Join(t.TempDir(), "pingover.prom")
	w.silent["10.2.2.11"] = true
	if got := w.run("check", "--metrics-file", file); got.Code != 11 {
		t.Fatalf("%+v", got)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`pingover_member_up{pool="www",member="10.2.2.10"} 1`,
		`pingover_member_up{pool="www",member="10.2.2.11"} 0`,
		`pingover_member_published{pool="www",member="10.2.2.11"} 0`,
		`pingover_member_drained{pool="www",member="10.2.2.11"} 0`,
		`pingover_outcome{cluster="www",outcome="removed"} 1`,
		`pingover_changes_total{cluster="www",kind="removed"} 1`,
	} {
		if !strings.Contains(string(data), line+"\n") {
			t.Errorf("%s is missing\n%s", line, data)
		}
	}
	if strings.Contains(string(data), `cluster="www",outcome="holding"`) {
		t.Errorf("a pool has an outcome of clusters\n%s", data)
	}
}

func TestCompletionOfMembers(t *testing.T) {
	w := newWWW(t)
	for line, offers := range map[string]string{
		"drain ":                       "www\n",
		"drain www ":                   "10.2.2.10\n10.2.2.11\n",
		"undrain www 10.2.2.10 ":       "10.2.2.11\n",
		"undrain www 10.2.2.10 10.2.2": "10.2.2.11\n",
	} {
		words := strings.Split(line, " ")
		if got := w.run(append([]string{"__complete", "--"}, words...)...); got.Stdout != offers {
			t.Errorf("%q offers %q, want %q", line, got.Stdout, offers)
		}
	}
}
