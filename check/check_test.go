package check

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
)

// fake is a ping library that does what its script says, and then waits for
// its end like the real one.
func fake(script func(p Pings, emit func(event)) error) library {
	return func(ctx context.Context, p Pings, emit func(event)) error {
		if err := script(p, emit); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// bubble runs a test with a clock of its own, and in the end lets a library end
// that was left behind.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(2 * time.Hour)
	})
}

// calls are the callbacks of a round.
type calls struct {
	Sent    []int
	Replies []int
}

type outcome struct {
	Verdict  string
	Sent     int
	Received int
	RTT      time.Duration
	Err      string
	Calls    calls
	Took     time.Duration
}

func report(r Round, got calls, took time.Duration) outcome {
	o := outcome{r.Verdict.String(), r.Sent, r.Received, r.RTT, "", got, took}
	if r.Err != nil {
		o.Err = r.Err.Error()
	}
	return o
}

const (
	ms = time.Millisecond
	// silence is how long a silent round takes beyond its pings and the timeout.
	silence = readTurns * readWait
)

func TestRound(t *testing.T) {
	t.Parallel()
	refusal := errors.New("operation not permitted")
	// Five pings, 3 s apart, and 1 s for the last one, as by default.
	for _, c := range []struct {
		name   string
		script func(p Pings, emit func(event)) error
		want   outcome
	}{
		{
			"the first reply ends it",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(300 * time.Microsecond)
				emit(event{kind: replied, seq: 0})
				return nil
			},
			outcome{"up", 1, 1, 300 * time.Microsecond, "", calls{[]int{1}, []int{1}}, 300 * time.Microsecond},
		},
		{
			"a reply to the second ping after the first was lost",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				emit(event{kind: sent, seq: 1})
				time.Sleep(ms)
				emit(event{kind: replied, seq: 1})
				return nil
			},
			outcome{"up", 2, 1, ms, "", calls{[]int{1, 2}, []int{2}}, 3001 * ms},
		},
		{
			"a reply to the first ping after the second was sent",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				emit(event{kind: sent, seq: 1})
				time.Sleep(ms)
				emit(event{kind: replied, seq: 0})
				return nil
			},
			outcome{"up", 2, 1, 3001 * ms, "", calls{[]int{1, 2}, []int{1}}, 3001 * ms},
		},
		{
			"no reply, and the network refused a ping",
			func(p Pings, emit func(event)) error {
				emit(event{kind: opened, refusal: func() error { return refused(addr("172.16.0.2"), addr("172.16.0.254"), false, 3, 13) }})
				sendAll(p, emit)
				return nil
			},
			outcome{"unknown", 5, 0, 0, "ping 172.16.0.2: refused by 172.16.0.254: communication administratively prohibited (ICMP type 3 code 13)", calls{[]int{1, 2, 3, 4, 5}, nil}, 13*time.Second + silence},
		},
		{
			"no reply, and an ICMP message reports that",
			func(p Pings, emit func(event)) error {
				emit(event{kind: opened, refusal: func() error { return refused(addr("172.16.0.2"), addr("172.16.0.254"), false, 3, 1) }})
				sendAll(p, emit)
				return nil
			},
			outcome{"down", 5, 0, 0, "", calls{[]int{1, 2, 3, 4, 5}, nil}, 13*time.Second + silence},
		},
		{
			"no reply",
			func(p Pings, emit func(event)) error {
				sendAll(p, emit)
				return nil
			},
			outcome{"down", 5, 0, 0, "", calls{[]int{1, 2, 3, 4, 5}, nil}, 13*time.Second + silence},
		},
		{
			"a reply in the last moment",
			func(p Pings, emit func(event)) error {
				sendAll(p, emit)
				time.Sleep(p.Timeout - 1)
				emit(event{kind: replied, seq: 4})
				return nil
			},
			outcome{"up", 5, 1, time.Second - 1, "", calls{[]int{1, 2, 3, 4, 5}, []int{5}}, 13*time.Second - 1},
		},
		{
			"a reply that came in time and was read a little later",
			func(p Pings, emit func(event)) error {
				sendAll(p, emit)
				time.Sleep(p.Timeout + silence - 1)
				emit(event{kind: replied, seq: 4})
				return nil
			},
			outcome{"up", 5, 1, time.Second + silence - 1, "", calls{[]int{1, 2, 3, 4, 5}, []int{5}}, 13*time.Second + silence - 1},
		},
		{
			"a slow machine sends late, and waits as long for the last one",
			func(p Pings, emit func(event)) error {
				for seq := range p.Count {
					emit(event{kind: sent, seq: seq})
					time.Sleep(p.Interval + sendTimeout + silence - 1)
				}
				return nil
			},
			outcome{"down", 5, 0, 0, "", calls{[]int{1, 2, 3, 4, 5}, nil}, 33*time.Second + 5*silence - 4},
		},
		{
			"the first send fails",
			func(p Pings, emit func(event)) error { return errors.New("network is unreachable") },
			outcome{Verdict: "unknown", Err: "ping 172.16.0.2: network is unreachable"},
		},
		{
			"some sends fail and there is no reply",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				emit(event{kind: sent, seq: 1})
				for range 3 {
					time.Sleep(p.Interval)
					emit(event{kind: rejected, err: refusal})
				}
				return nil
			},
			outcome{
				"unknown", 2, 0, 0, "ping 172.16.0.2: 3 of 5 pings could not be sent: operation not permitted",
				calls{[]int{1, 2}, nil},
				13*time.Second + silence,
			},
		},
		{
			"a send fails and the next ping has a reply",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				emit(event{kind: rejected, err: refusal})
				time.Sleep(p.Interval)
				emit(event{kind: sent, seq: 1})
				time.Sleep(ms)
				emit(event{kind: replied, seq: 1})
				return nil
			},
			outcome{"up", 2, 1, ms, "", calls{[]int{1, 3}, []int{3}}, 6001 * ms},
		},
		{
			"the library goes on trying after the round's last ping",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				for range 5 {
					time.Sleep(p.Timeout / 2)
					emit(event{kind: rejected, err: refusal})
				}
				return nil
			},
			outcome{
				"unknown", 1, 0, 0, "ping 172.16.0.2: 4 of 5 pings could not be sent: operation not permitted",
				calls{[]int{1}, nil},
				3*time.Second + silence,
			},
		},
		{
			"a send that never returns",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				emit(event{kind: sent, seq: 1})
				time.Sleep(time.Hour)
				return nil
			},
			outcome{
				"unknown", 2, 0, 0, "ping 172.16.0.2: only 2 of 5 pings could be sent in time",
				calls{[]int{1, 2}, nil},
				2*3*time.Second + sendTimeout + silence,
			},
		},
		{
			"receiving fails",
			func(p Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				time.Sleep(time.Second)
				return errors.New("network is down")
			},
			outcome{"unknown", 1, 0, 0, "ping 172.16.0.2: network is down", calls{[]int{1}, nil}, time.Second},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				var got calls
				start := time.Now()
				r := pingBy(t.Context(), Pings{
					Address: netip.MustParseAddr("172.16.0.2"), Count: 5, Interval: 3 * time.Second, Timeout: time.Second,
					OnSend: func(seq int) { got.Sent = append(got.Sent, seq) },
					OnReply: func(seq int, rtt time.Duration) {
						got.Replies = append(got.Replies, seq)
						if rtt != c.want.RTT {
							t.Errorf("OnReply was calls %s, want %s", rtt, c.want.RTT)
						}
					},
				}, fake(c.script))
				if diff := cmp.Diff(c.want, report(r, got, time.Since(start))); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		})
	}
}

// sendAll sends all pings of a round and returns after the last.
func sendAll(p Pings, emit func(event)) {
	for seq := range p.Count {
		if seq > 0 {
			time.Sleep(p.Interval)
		}
		emit(event{kind: sent, seq: seq})
	}
}

func TestRoundWithoutCallbacks(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := pingBy(t.Context(), Pings{
			Address: netip.MustParseAddr("172.16.0.2"), Count: 1, Interval: time.Second, Timeout: time.Second,
		}, fake(func(p Pings, emit func(event)) error {
			emit(event{kind: sent, seq: 0})
			time.Sleep(ms)
			emit(event{kind: replied, seq: 0})
			return nil
		}))
		if diff := cmp.Diff(Round{Verdict: Up, Sent: 1, Received: 1, RTT: ms}, r); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestLibraryThatEndsByItself(t *testing.T) {
	t.Parallel()
	r := pingBy(t.Context(), Pings{
		Address: netip.MustParseAddr("172.16.0.2"), Count: 2, Interval: time.Second, Timeout: time.Second,
	}, func(_ context.Context, _ Pings, emit func(event)) error {
		emit(event{kind: sent, seq: 0})
		return nil
	})
	want := outcome{Verdict: "unknown", Sent: 1, Err: "ping 172.16.0.2: the ping library stopped after 1 of 2 pings"}
	if diff := cmp.Diff(want, report(r, calls{}, 0)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The library may go on emitting events after the round: it must not block, and
// not reach the callbacks.
func TestNoCallbackAfterTheRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got calls
		r := pingBy(t.Context(), Pings{
			Address: netip.MustParseAddr("172.16.0.2"), Count: 3, Interval: time.Second, Timeout: time.Second,
			OnSend: func(seq int) { got.Sent = append(got.Sent, seq) },
		}, func(ctx context.Context, _ Pings, emit func(event)) error {
			emit(event{kind: sent, seq: 0})
			emit(event{kind: replied, seq: 0})
			<-ctx.Done()
			for seq := 1; seq < 3; seq++ {
				emit(event{kind: sent, seq: seq})
				emit(event{kind: replied, seq: seq})
			}
			return errors.New("too late")
		})
		synctest.Wait() // for the library: an emit that blocks is a deadlock here
		want := outcome{Verdict: "up", Sent: 1, Received: 1, Calls: calls{Sent: []int{1}}}
		if diff := cmp.Diff(want, report(r, got, 0)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestContextEndsTheRound(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		start := time.Now()
		r := pingBy(ctx, Pings{
			Address: netip.MustParseAddr("172.16.0.2"), Count: 5, Interval: 3 * time.Second, Timeout: time.Second,
		}, fake(func(p Pings, emit func(event)) error {
			sendAll(p, emit)
			return nil
		}))
		want := outcome{Verdict: "unknown", Sent: 2, Err: "ping 172.16.0.2: context deadline exceeded", Took: 4 * time.Second}
		if diff := cmp.Diff(want, report(r, calls{}, time.Since(start))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the context's error", r.Err)
		}
	})
}

// A bad round is refused before anything is sent.
func TestBadPings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Pings)
		want   string
	}{
		{"no address", func(p *Pings) { p.Address = netip.Addr{} }, "ping invalid IP: no address"},
		{"no ping", func(p *Pings) { p.Count = 0 }, "ping 127.0.0.1: count 0: must be from 1 to 100"},
		{"pings without end", func(p *Pings) { p.Count = -1 }, "ping 127.0.0.1: count -1: must be from 1 to 100"},
		{"too many pings", func(p *Pings) { p.Count = 101 }, "ping 127.0.0.1: count 101: must be from 1 to 100"},
		{"a source of the other family", func(p *Pings) { p.Source = netip.IPv6Loopback() }, "ping 127.0.0.1: source ::1: is of the other address family"},
		{"a source that is not here", func(p *Pings) { p.Source = addr("192.0.2.77") }, "ping 127.0.0.1: source 192.0.2.77: cannot assign requested address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			needPing(t)
			p := Pings{Address: addr("127.0.0.1"), Count: 1, Interval: time.Second, Timeout: 100 * ms}
			c.change(&p)
			p.OnSend = func(int) { t.Error("a ping was sent") }
			want := outcome{Verdict: "unknown", Err: c.want}
			if diff := cmp.Diff(want, report(Ping(t.Context(), p), calls{}, 0)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// While a callback takes its time the context ends, and the library with it.
func TestContextEndsDuringACallback(t *testing.T) {
	t.Parallel()
	for range 20 { // which of the two is seen first is left to chance
		bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := pingBy(ctx, Pings{
				Address: netip.MustParseAddr("172.16.0.2"), Count: 1, Interval: time.Minute, Timeout: time.Minute,
				OnSend: func(int) { time.Sleep(2 * time.Second) },
			}, fake(func(_ Pings, emit func(event)) error {
				emit(event{kind: sent, seq: 0})
				return nil
			}))
			want := outcome{Verdict: "unknown", Sent: 1, Err: "ping 172.16.0.2: context deadline exceeded"}
			if diff := cmp.Diff(want, report(r, calls{}, 0)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestVerdictWords(t *testing.T) {
	t.Parallel()
	var got []string
	for _, v := range []Verdict{Unknown, Down, Up, 3} {
		text, err := v.MarshalText()
		if err != nil {
			t.Error(err)
		}
		got = append(got, v.String(), string(text))
	}
	want := strings.Fields("unknown unknown down down up up unknown unknown")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// needPing skips a test where this process may not ping.
func needPing(t testing.TB) {
	t.Helper()
	if err := Permission(); err != nil {
		lab.Skip(t, err)
	}
}

func TestPingLoopback(t *testing.T) {
	t.Parallel()
	needPing(t)
	for _, a := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		t.Run(a, func(t *testing.T) {
			t.Parallel()
			var got calls
			r := Ping(t.Context(), Pings{
				Address: addr(a), Count: 5, Interval: time.Minute, Timeout: time.Minute,
				OnSend:  func(seq int) { got.Sent = append(got.Sent, seq) },
				OnReply: func(seq int, rtt time.Duration) { got.Replies = append(got.Replies, seq) },
			})
			if r.RTT <= 0 || r.RTT > 10*time.Second {
				t.Errorf("round trip time %s", r.RTT)
			}
			r.RTT = 0
			want := outcome{Verdict: "up", Sent: 1, Received: 1, Calls: calls{[]int{1}, []int{1}}}
			if diff := cmp.Diff(want, report(r, got, 0)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func BenchmarkPingLoopback(b *testing.B) {
	needPing(b)
	p := Pings{Address: addr("127.0.0.1"), Count: 5, Interval: time.Second, Timeout: time.Second}
	for b.Loop() {
		if r := Ping(b.Context(), p); r.Verdict != Up {
			b.Fatalf("%+v", r)
		}
	}
}

// TestMachineStallsAtTheEndOfTheRound: the timer fires late, replies may have
// been lost meanwhile, so the silence proves nothing.
func TestMachineStallsAtTheEndOfTheRound(t *testing.T) {
	late := 0 * ms
	for _, c := range []struct {
		late time.Duration
		want string
	}{
		{0, "down"},
		{70 * ms, "unknown"},
	} {
		// A callback that blocks delays the timer's turn, as a stopped process does.
		p := Pings{Address: addr("172.16.0.2"), Count: 1, Interval: ms, Timeout: 100 * ms}
		late = c.late
		p.OnSend = func(int) {
			if late > 0 {
				time.Sleep(p.Timeout + late)
			}
		}
		bubble(t, func(t *testing.T) {
			r := pingBy(t.Context(), p, fake(func(p Pings, emit func(event)) error {
				emit(event{kind: sent})
				return nil
			}))
			if got := r.Verdict.String(); got != c.want || errors.Is(r.Err, ErrStalled) != (c.late > 0) {
				t.Errorf("%v late: %s, %v, want %s", c.late, got, r.Err, c.want)
			}
			if c.late > 0 && r.Err.Error() != "ping 172.16.0.2: this machine stalled: the round ended 70ms late" {
				t.Errorf("error %q", r.Err)
			}
		})
	}
}

// TestWhatAnICMPErrorProves: a router that has no reply from the host only says
// that it does not reply. All else refuses the pings, as firewalls do with any code
// (REJECT is "port unreachable" by default), or loses them in a routing loop; and a
// host that says itself that it is unreachable is alive.
func TestWhatAnICMPErrorProves(t *testing.T) {
	const router, router6, host, host6 = "172.16.0.254", "2001:db8::254", "10.0.0.1", "2001:db8:9::1"
	for _, c := range []struct {
		to, sender string
		kind, code uint8
		want       string // "": silence
	}{
		{host, router, 3, 0, "refused by 172.16.0.254: network unreachable (ICMP type 3 code 0)"},
		{host, router, 3, 1, ""},
		{host, "::ffff:" + router, 3, 2, "refused by 172.16.0.254: protocol unreachable (ICMP type 3 code 2)"},
		{host, router, 3, 3, "refused by 172.16.0.254: port unreachable (ICMP type 3 code 3)"},
		{host, router, 3, 5, "refused by 172.16.0.254: destination unreachable (ICMP type 3 code 5)"},
		{host, router, 3, 7, ""},
		{host, router, 3, 12, ""},
		{host, router, 3, 13, "refused by 172.16.0.254: communication administratively prohibited (ICMP type 3 code 13)"},
		{host, router, 11, 0, "refused by 172.16.0.254: time exceeded, a routing loop (ICMP type 11 code 0)"},
		{host, host, 3, 1, "refused by 10.0.0.1: host unreachable (ICMP type 3 code 1)"},
		{host, host, 3, 12, "refused by 10.0.0.1: host unreachable for this type of service (ICMP type 3 code 12)"},
		{host6, router6, 1, 0, "refused by 2001:db8::254: no route to destination (ICMPv6 type 1 code 0)"},
		{host6, router6, 1, 3, ""},
		{host6, router6, 1, 4, "refused by 2001:db8::254: port unreachable (ICMPv6 type 1 code 4)"},
		{host6, router6, 3, 0, "refused by 2001:db8::254: time exceeded, a routing loop (ICMPv6 type 3 code 0)"},
		{host6, host6, 1, 3, "refused by 2001:db8:9::1: address unreachable (ICMPv6 type 1 code 3)"},
		{"fe80::2%eth0", "fe80::2", 1, 3, "refused by fe80::2: address unreachable (ICMPv6 type 1 code 3)"},
	} {
		got := ""
		if err := refused(addr(c.to), addr(c.sender), addr(c.to).Is6(), c.kind, c.code); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("from %s to %s, type %d code %d: %q, want %q", c.sender, c.to, c.kind, c.code, got, c.want)
		}
	}
}

// TestOnlyQuotesOfOurOwnPings are read from ICMP errors, whatever is sent.
func TestOnlyQuotesOfOurOwnPings(t *testing.T) {
	ip := func(protocol byte) []byte {
		b := make([]byte, 20)
		b[0], b[9] = 0x45, protocol
		copy(b[16:], []byte{172, 16, 0, 2})
		return b
	}
	echo := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 0}
	header := []byte{3, 13, 0, 0, 0, 0, 0, 0}
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for name, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"a ping":               {join(header, ip(1), echo), true},
		"a reply":              {join(header, ip(1), []byte{0, 0, 0, 0, 0x12, 0x34, 0, 0}), false},
		"UDP":                  {join(header, ip(17), echo), false},
		"cut off in the ping":  {join(header, ip(1), echo[:7]), false},
		"cut off in the quote": {join(header, ip(1)[:19]), false},
		"cut off":              {header[:7], false},
		"time exceeded":        {join([]byte{11, 0, 0, 0, 0, 0, 0, 0}, ip(1), echo), true},
		"a redirect":           {join([]byte{5, 1, 0, 0, 0, 0, 0, 0}, ip(1), echo), false},
		"empty":                {nil, false},
	} {
		about, ok := parseError(c.b, false)
		if ok != c.ok || ok && about != (quote{addr("172.16.0.2"), 0x1234}) {
			t.Errorf("%s: %v, %t", name, about, ok)
		}
	}
}

func FuzzParseICMPError(f *testing.F) {
	f.Add([]byte{3, 13, 0, 0, 0, 0, 0, 0, 0x4f, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 172, 16, 0, 2}, false)
	f.Add(append([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 8, 58}, make([]byte, 41)...), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if about, ok := parseError(b, v6); ok && about.to.Is6() != v6 {
			t.Errorf("%v", about)
		}
	})
}
