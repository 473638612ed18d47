package check

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Ping does not do what the names say that the library does.
func TestLibraryTraps(t *testing.T) {
	needPing(t)
	for _, c := range []struct {
		trap string
		test func(*testing.T)
	}{
		{"an interval or a timeout of 0 panics, and a negative one", panics},
		{"it knows no context, and Stop before Run still sends a ping", stopBeforeRun},
		{"Run returns up to 100 ms after the reply", runReturnsLate},
		{"Run never returns when a send hangs", runNeverReturns},
		{"its goroutines go on reading after Run", lingers},
		{"a link-local ping without a zone, or with one that is not there, leaves by any interface", losesZone},
		{"it pings whatever it is calls", pingsAnything},
		{"it logs packets that it cannot parse as fatal", logsAsFatal},
	} {
		t.Run(c.trap, c.test)
	}
}

func panics(t *testing.T) {
	for _, c := range []struct {
		interval, timeout time.Duration
		want              string
	}{
		{0, time.Second, "ping 127.0.0.1: interval 0s: must be above 0"},
		{-time.Second, time.Second, "ping 127.0.0.1: interval -1s: must be above 0"},
		{time.Second, 0, "ping 127.0.0.1: timeout 0s: must be above 0"},
		{time.Second, -time.Second, "ping 127.0.0.1: timeout -1s: must be above 0"},
	} {
		r := Ping(t.Context(), Pings{Address: addr("127.0.0.1"), Count: 1, Interval: c.interval, Timeout: c.timeout})
		if diff := cmp.Diff(outcome{Verdict: "unknown", Err: c.want}, report(r, calls{}, 0)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func stopBeforeRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := pingBy(ctx, Pings{Address: addr("127.0.0.1"), Count: 1, Interval: time.Second, Timeout: time.Second},
		func(context.Context, Pings, func(event)) error {
			t.Error("the library was started")
			return nil
		})
	if diff := cmp.Diff(outcome{Verdict: "unknown", Err: "ping 127.0.0.1: context canceled"}, report(r, calls{}, 0)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !errors.Is(r.Err, context.Canceled) {
		t.Errorf("%v does not wrap the context's error", r.Err)
	}
}

func runReturnsLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		r := pingBy(t.Context(), Pings{Address: addr("172.16.0.2"), Count: 5, Interval: time.Second, Timeout: time.Second},
			func(ctx context.Context, _ Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(ms)
				emit(event{kind: replied, seq: 0})
				<-ctx.Done()
				time.Sleep(100 * ms)
				return nil
			})
		want := outcome{Verdict: "up", Sent: 1, Received: 1, RTT: ms, Took: ms}
		if diff := cmp.Diff(want, report(r, calls{}, time.Since(start))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func runNeverReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		r := pingBy(t.Context(), Pings{Address: addr("172.16.0.2"), Count: 5, Interval: time.Second, Timeout: time.Second},
			func(_ context.Context, _ Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(time.Hour) // whatever the context does
				return nil
			})
		want := outcome{
			Verdict: "unknown", Sent: 1, Err: "ping 172.16.0.2: only 1 of 5 pings could be sent in time",
			Took: time.Second + sendTimeout + silence,
		}
		if diff := cmp.Diff(want, report(r, calls{}, time.Since(start))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func lingers(t *testing.T) {
	for range 10 {
		Ping(t.Context(), Pings{Address: addr("127.0.0.1"), Count: 5, Interval: time.Minute, Timeout: time.Second})
	}
	stacks := make([]byte, 1<<20)
	for start := time.Now(); ; time.Sleep(10 * ms) {
		all := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(all, "go-ping") {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("still running:\n%s", all)
		}
	}
}

func losesZone(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"fe80::1", "ping fe80::1: a link-local address needs its interface, such as fe80::1%eth0"},
		{"fe80::1%nowhere", `ping fe80::1%nowhere: no interface "nowhere"`},
		{"fe80::1%4000000", `ping fe80::1%4000000: no interface "4000000"`},
	} {
		r := Ping(t.Context(), Pings{Address: addr(c.address), Count: 1, Interval: time.Second, Timeout: 100 * ms})
		if diff := cmp.Diff(outcome{Verdict: "unknown", Err: c.want}, report(r, calls{}, 0)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// A trap too, but it takes seconds: after the last ping the library has time for two more.
func TestAPingThatCouldNotBeSentIsNotReplaced(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	pingsFiltered(t, standby, primary)
	p := pings{Address: addr("172.16.0.2"), Count: 3, Interval: time.Second, Timeout: 2500 * ms}
	got := on(t, standby, task{Rounds: []pings{p}}, func(int) { forbidden(t, standby, primary) }).Rounds[0]
	got.Took = 0
	want := unknown(1, "ping 172.16.0.2: 2 of 3 pings could not be sent: operation not permitted (by a firewall rule of this machine?)")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := forbiddenPings(t, standby); n != 2 {
		t.Errorf("%d pings were dropped, want 2", n)
	}
}

func pingsAnything(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"0.0.0.0", "ping 0.0.0.0: is the unspecified address"},
		{"::", "ping ::: is the unspecified address"},
		{"224.0.0.1", "ping 224.0.0.1: is a multicast address"},
		{"ff02::1%lo", "ping ff02::1%lo: is a multicast address"},
		{"255.255.255.255", "ping 255.255.255.255: is a broadcast address"},
		{"::ffff:255.255.255.255", "ping 255.255.255.255: is a broadcast address"},
		{"127.255.255.255", "ping 127.255.255.255: is a broadcast address"},
	} {
		r := Ping(t.Context(), Pings{Address: addr(c.address), Count: 1, Interval: time.Second, Timeout: 100 * ms})
		if diff := cmp.Diff(outcome{Verdict: "unknown", Err: c.want}, report(r, calls{}, 0)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func logsAsFatal(t *testing.T) {
	var got []error
	refuse := sendErrors(func(err error) { got = append(got, err) })
	refuse.Fatalf("processing received packet: %s", errors.New("message too short"))
	refuse.Fatalf("sending packet: %s", syscall.EPERM)
	refuse.Errorf("%s", syscall.EIO)
	refuse.Warnf("%s", syscall.EIO)
	refuse.Infof("%s", syscall.EIO)
	refuse.Debugf("%s", syscall.EIO)
	if !slices.Equal(got, []error{syscall.EPERM}) {
		t.Errorf("got %v, want the ping that could not be sent alone", got)
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	sendto := func(errno syscall.Errno) error {
		return &net.OpError{Op: "write", Net: "ip4", Err: os.NewSyscallError("sendto", errno)}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{sendto(syscall.ENETUNREACH), "network is unreachable"},
		{sendto(syscall.EHOSTUNREACH), "no route to host"},
		{sendto(syscall.ENOBUFS), "no buffer space available"},
		{sendto(syscall.EPERM), "operation not permitted (by a firewall rule of this machine?)"},
		{sendto(syscall.EACCES), "permission denied (by a prohibit route?)"},
		{sendto(syscall.EINVAL), "invalid argument (a blackhole route?)"},
		{os.NewSyscallError("bind", syscall.EADDRNOTAVAIL), "source 172.16.0.3: cannot assign requested address"},
		{errors.New("anything else"), "anything else"},
	} {
		got := plain(c.err, Pings{Source: addr("172.16.0.3")})
		if got.Error() != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
		if denied(got) {
			t.Errorf("%v looks like a missing permission to ping", c.err)
		}
	}
}
