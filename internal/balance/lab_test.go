package balance

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/lab"
	"pingover/pool"
	"pingover/state"
)

// On the standby of a lab this test binary is the program: it makes the check that
// the variable describes, and prints the report.
const onHostVariable = "PINGOVER_TEST_CHECK"

type onHost struct {
	Settings map[string][]string
	Drain    []netip.Addr
	Kill     bool // right after the update
}

func TestMain(m *testing.M) {
	if text := os.Getenv(onHostVariable); text != "" {
		os.Exit(checkHere(text))
	}
	if inside, code, err := lab.Enter(); err == nil && !inside {
		os.Exit(code)
	}
	flag.Set("test.parallel", "8") // the labs mostly wait; a flag of the command line overrides it
	os.Exit(m.Run())
}

func checkHere(text string) (code int) {
	var do onHost
	if err := json.Unmarshal([]byte(text), &do); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	p, err := config.PoolFrom(do.Settings, config.Env{Hostname: "standby", Root: true, Getenv: os.Getenv})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 78
	}
	env := Real(p)
	if do.Kill {
		connect := env.NameServer
		env.NameServer = func(p config.Pool) (NameServer, error) {
			s, err := connect(p)
			return killing{s}, err
		}
	}
	o := Options{Origin: "/etc/pingover.yaml"}
	var r Report
	if do.Drain != nil {
		r, err = DrainIn(context.Background(), env, p, do.Drain, time.Time{}, o)
	} else {
		r, err = CheckIn(context.Background(), env, p, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
	return r.Code
}

// killing ends the process when the server has published a change.
type killing struct{ NameServer }

func (k killing) Publish(ctx context.Context, c pool.Change) (pool.Set, error) {
	set, err := k.NameServer.Publish(ctx, c)
	if err == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	}
	return set, err
}

// hosts are three members, a name server and a standby on one switch.
type hosts struct {
	*testing.T
	members  []*lab.Host
	standby  *lab.Host
	settings map[string][]string
	events   string
}

func newHosts(t *testing.T) *hosts {
	t.Helper()
	t.Parallel()
	l := lab.ForTest(t)
	lab.Need(t, "named", "bind9")
	h := &hosts{T: t}
	add := func(name, addr string) *lab.Host {
		host, err := l.Add(name, addr)
		if err != nil {
			t.Fatal(err)
		}
		return host
	}
	for i, addr := range []string{"10.2.2.10/16", "10.2.2.11/16", "10.2.2.12/16"} {
		h.members = append(h.members, add(fmt.Sprintf("host%d", i+1), addr))
	}
	ns := add("ns", "10.2.0.53/16")
	h.standby = add("standby", "10.2.0.3/16")
	dir := t.TempDir()
	key, statement, err := lab.TSIGKey(dir, "www")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := lab.DynamicZone(dir, "zone.com", "www", "host1 60 A 10.2.2.10", "host1 60 A 10.2.2.11", "host1 60 A 10.2.2.12", "host1 60 A 10.2.9.9")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ns.NameServer(dir, statement, zone); err != nil {
		t.Fatal(err)
	}
	h.events = filepath.Join(dir, "events")
	h.settings = map[string][]string{
		"name": {"www"}, "record": {"host1.zone.com"}, "server": {"10.2.0.53"}, "key-file": {key}, "members": {"10.2.2.10", "10.2.2.11", "10.2.2.12"},
		"count": {"2"}, "interval": {"100ms"}, "timeout": {"300ms"}, "retry-wait": {"100ms"}, "rise": {"2"}, "witness": {"10.2.0.53"},
		"state-dir": {filepath.Join(dir, "state")}, "notify": {"sh -c 'cat >> " + h.events + "'"},
	}
	return h
}

// run makes a run of the program on the standby, in a second of its own.
func (h *hosts) run(do onHost) (r Report, err error) {
	h.Helper()
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	do.Settings = h.settings
	text, err := json.Marshal(do)
	if err != nil {
		h.Fatal(err)
	}
	cmd := h.standby.Command(h.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), onHostVariable+"="+string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if e := json.Unmarshal(out, &r); e != nil && !do.Kill {
		h.Fatalf("%v: %s%s", err, out, &stderr)
	}
	return r, err
}

// want makes a check and compares how it ends, and what a client is told by the
// name server.
func (h *hosts) want(do onHost, outcome state.Outcome, last ...string) Report {
	h.Helper()
	r, _ := h.run(do)
	if r.Outcome != outcome {
		h.Errorf("%s: %s\nwant %s", r.Outcome, r.Reason, outcome)
	}
	h.published(last...)
	return r
}

func (h *hosts) published(last ...string) {
	h.Helper()
	out, err := h.standby.Run("dig", "+short", "+tcp", "@10.2.0.53", "host1.zone.com", "A")
	if err != nil {
		h.Fatal(err)
	}
	got := strings.Fields(out)
	slices.Sort(got)
	if diff := cmp.Diff(last, got); diff != "" {
		h.Errorf("in DNS (-want +got):\n%s", diff)
	}
}

// told are the kinds of the notifications until now.
func (h *hosts) told(want ...string) {
	h.Helper()
	text, _ := os.ReadFile(h.events)
	var got []string
	for line := range strings.Lines(string(text)) {
		var e struct{ Kind, State string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.Fatal(err)
		}
		got = append(got, e.Kind+" "+e.State)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("notifications (-want +got):\n%s", diff)
	}
}

func (h *hosts) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

const foreign = "10.2.9.9" // somebody else's record

func TestLabOneOfThreeMembersDiesAndComesBack(t *testing.T) {
	h := newHosts(t)
	lab.Need(t, "dig", "bind9-dnsutils")
	all := []string{"10.2.2.10", "10.2.2.11", "10.2.2.12", foreign}
	two := []string{"10.2.2.10", "10.2.2.12", foreign}
	h.want(onHost{}, state.OK, all...)
	h.must(h.members[1].PowerOff())
	h.want(onHost{}, state.Removed, two...)
	h.told("removed change")
	h.want(onHost{}, state.Reduced, two...)
	h.must(h.members[1].PowerOn())
	h.want(onHost{}, state.Reduced, two...)
	h.want(onHost{}, state.Restored, all...)
	h.told("removed change", "restored change")
	h.want(onHost{}, state.OK, all...)
	h.want(onHost{Drain: []netip.Addr{netip.MustParseAddr("10.2.2.10")}}, state.Removed, "10.2.2.11", "10.2.2.12", foreign)
	h.want(onHost{}, state.Reduced, "10.2.2.11", "10.2.2.12", foreign)
}

func TestLabAllMembersDie(t *testing.T) {
	h := newHosts(t)
	lab.Need(t, "dig", "bind9-dnsutils")
	all := []string{"10.2.2.10", "10.2.2.11", "10.2.2.12", foreign}
	h.want(onHost{}, state.OK, all...)
	for _, m := range h.members {
		h.must(m.PowerOff())
	}
	h.want(onHost{}, state.Blocked, all...)
	h.want(onHost{}, state.Blocked, all...)
	h.told("blocked firing")
}

func TestLabKilledBetweenUpdateAndRecord(t *testing.T) {
	h := newHosts(t)
	lab.Need(t, "dig", "bind9-dnsutils")
	two := []string{"10.2.2.10", "10.2.2.12", foreign}
	h.want(onHost{}, state.OK, "10.2.2.10", "10.2.2.11", "10.2.2.12", foreign)
	h.must(h.members[1].PowerOff())
	if _, err := h.run(onHost{Kill: true}); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("it was not killed: %v", err)
	}
	h.published(two...)
	h.told()
	h.want(onHost{}, state.Removed, two...)
	h.told("removed change")
	h.want(onHost{}, state.Reduced, two...)
	h.must(h.members[1].PowerOn())
	h.want(onHost{}, state.Reduced, two...)
	h.want(onHost{}, state.Restored, "10.2.2.10", "10.2.2.11", "10.2.2.12", foreign)
}
