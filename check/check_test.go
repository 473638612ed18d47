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
func fake(script func(p Pings, tell func(event)) error) library {
	return func(ctx context.Context, p Pings, tell func(event)) error {
		if err := script(p, tell); err != nil {
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

// told is what the callbacks of a round were told.
type told struct {
	Sent    []int
	Replies []int
}

type outcome struct {
	Verdict  string
	Sent     int
	Received int
	RTT      time.Duration
	Err      string
	Told     told
	Took     time.Duration
}

func report(r Round, heard told, took time.Duration) outcome {
	o := outcome{r.Verdict.String(), r.Sent, r.Received, r.RTT, "", heard, took}
	if r.Err != nil {
		o.Err = r.Err.Error()
	}
	return o
}

const (
	ms = time.Millisecond
	// silence is how long a silent round takes beyond its pings and the timeout.
	silence = graces * grace
)

func TestRound(t *testing.T) {
	t.Parallel()
	refusal := errors.New("operation not permitted")
	// Five pings, 3 s apart, and 1 s for the last one, as by default.
	for _, c := range []struct {
		name   string
		script func(p Pings, tell func(event)) error
		want   outcome
	}{
		{
			"the first reply ends it",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(300 * time.Microsecond)
				tell(event{kind: answered, seq: 0})
				return nil
			},
			outcome{"up", 1, 1, 300 * time.Microsecond, "", told{[]int{1}, []int{1}}, 300 * time.Microsecond},
		},
		{
			"a reply to the second ping after the first was lost",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				tell(event{kind: sent, seq: 1})
				time.Sleep(ms)
				tell(event{kind: answered, seq: 1})
				return nil
			},
			outcome{"up", 2, 1, ms, "", told{[]int{1, 2}, []int{2}}, 3001 * ms},
		},
		{
			"a reply to the first ping after the second was sent",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				tell(event{kind: sent, seq: 1})
				time.Sleep(ms)
				tell(event{kind: answered, seq: 0})
				return nil
			},
			outcome{"up", 2, 1, 3001 * ms, "", told{[]int{1, 2}, []int{1}}, 3001 * ms},
		},
		{
			"nobody answers",
			func(p Pings, tell func(event)) error {
				sendAll(p, tell)
				return nil
			},
			outcome{"down", 5, 0, 0, "", told{[]int{1, 2, 3, 4, 5}, nil}, 13*time.Second + silence},
		},
		{
			"a reply in the last moment",
			func(p Pings, tell func(event)) error {
				sendAll(p, tell)
				time.Sleep(p.Timeout - 1)
				tell(event{kind: answered, seq: 4})
				return nil
			},
			outcome{"up", 5, 1, time.Second - 1, "", told{[]int{1, 2, 3, 4, 5}, []int{5}}, 13*time.Second - 1},
		},
		{
			"a reply that came in time and was read a little later",
			func(p Pings, tell func(event)) error {
				sendAll(p, tell)
				time.Sleep(p.Timeout + silence - 1)
				tell(event{kind: answered, seq: 4})
				return nil
			},
			outcome{"up", 5, 1, time.Second + silence - 1, "", told{[]int{1, 2, 3, 4, 5}, []int{5}}, 13*time.Second + silence - 1},
		},
		{
			"a slow machine sends late, and waits as long for the last one",
			func(p Pings, tell func(event)) error {
				for seq := range p.Count {
					tell(event{kind: sent, seq: seq})
					time.Sleep(p.Interval + stall + silence - 1)
				}
				return nil
			},
			outcome{"down", 5, 0, 0, "", told{[]int{1, 2, 3, 4, 5}, nil}, 33*time.Second + 5*silence - 4},
		},
		{
			"the first send fails",
			func(p Pings, tell func(event)) error { return errors.New("network is unreachable") },
			outcome{Verdict: "unknown", Err: "ping 172.16.0.2: network is unreachable"},
		},
		{
			"some sends fail and nobody answers",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				tell(event{kind: sent, seq: 1})
				for range 3 {
					time.Sleep(p.Interval)
					tell(event{kind: refused, err: refusal})
				}
				return nil
			},
			outcome{
				"unknown", 2, 0, 0, "ping 172.16.0.2: 3 of 5 pings could not be sent: operation not permitted",
				told{[]int{1, 2}, nil},
				13*time.Second + silence,
			},
		},
		{
			"a send fails and the next ping is answered",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				tell(event{kind: refused, err: refusal})
				time.Sleep(p.Interval)
				tell(event{kind: sent, seq: 1})
				time.Sleep(ms)
				tell(event{kind: answered, seq: 1})
				return nil
			},
			outcome{"up", 2, 1, ms, "", told{[]int{1, 3}, []int{3}}, 6001 * ms},
		},
		{
			"the library goes on trying after the round's last ping",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				for range 5 {
					time.Sleep(p.Timeout / 2)
					tell(event{kind: refused, err: refusal})
				}
				return nil
			},
			outcome{
				"unknown", 1, 0, 0, "ping 172.16.0.2: 4 of 5 pings could not be sent: operation not permitted",
				told{[]int{1}, nil},
				3*time.Second + silence,
			},
		},
		{
			"a send that never comes back",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(p.Interval)
				tell(event{kind: sent, seq: 1})
				time.Sleep(time.Hour)
				return nil
			},
			outcome{
				"unknown", 2, 0, 0, "ping 172.16.0.2: only 2 of 5 pings could be sent in time",
				told{[]int{1, 2}, nil},
				2*3*time.Second + stall + silence,
			},
		},
		{
			"receiving fails",
			func(p Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				time.Sleep(time.Second)
				return errors.New("network is down")
			},
			outcome{"unknown", 1, 0, 0, "ping 172.16.0.2: network is down", told{[]int{1}, nil}, time.Second},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				var heard told
				start := time.Now()
				r := pingBy(t.Context(), Pings{
					Address: netip.MustParseAddr("172.16.0.2"), Count: 5, Interval: 3 * time.Second, Timeout: time.Second,
					OnSend: func(seq int) { heard.Sent = append(heard.Sent, seq) },
					OnReply: func(seq int, rtt time.Duration) {
						heard.Replies = append(heard.Replies, seq)
						if rtt != c.want.RTT {
							t.Errorf("OnReply was told %s, want %s", rtt, c.want.RTT)
						}
					},
				}, fake(c.script))
				if diff := cmp.Diff(c.want, report(r, heard, time.Since(start))); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		})
	}
}

// sendAll sends all pings of a round and returns after the last.
func sendAll(p Pings, tell func(event)) {
	for seq := range p.Count {
		if seq > 0 {
			time.Sleep(p.Interval)
		}
		tell(event{kind: sent, seq: seq})
	}
}

func TestRoundWithoutCallbacks(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := pingBy(t.Context(), Pings{
			Address: netip.MustParseAddr("172.16.0.2"), Count: 1, Interval: time.Second, Timeout: time.Second,
		}, fake(func(p Pings, tell func(event)) error {
			tell(event{kind: sent, seq: 0})
			time.Sleep(ms)
			tell(event{kind: answered, seq: 0})
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
	}, func(_ context.Context, _ Pings, tell func(event)) error {
		tell(event{kind: sent, seq: 0})
		return nil
	})
	want := outcome{Verdict: "unknown", Sent: 1, Err: "ping 172.16.0.2: the ping library gave up after 1 of 2 pings"}
	if diff := cmp.Diff(want, report(r, told{}, 0)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The library may go on telling after the round: nobody is there any more, and
// it must neither wait for that nor reach the callbacks.
func TestNothingIsToldAfterTheRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var heard told
		r := pingBy(t.Context(), Pings{
			Address: netip.MustParseAddr("172.16.0.2"), Count: 3, Interval: time.Second, Timeout: time.Second,
			OnSend: func(seq int) { heard.Sent = append(heard.Sent, seq) },
		}, func(ctx context.Context, _ Pings, tell func(event)) error {
			tell(event{kind: sent, seq: 0})
			tell(event{kind: answered, seq: 0})
			<-ctx.Done()
			for seq := 1; seq < 3; seq++ {
				tell(event{kind: sent, seq: seq})
				tell(event{kind: answered, seq: seq})
			}
			return errors.New("too late")
		})
		synctest.Wait() // for the library: a tell that waits is a deadlock here
		want := outcome{Verdict: "up", Sent: 1, Received: 1, Told: told{Sent: []int{1}}}
		if diff := cmp.Diff(want, report(r, heard, 0)); diff != "" {
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
		}, fake(func(p Pings, tell func(event)) error {
			sendAll(p, tell)
			return nil
		}))
		want := outcome{Verdict: "unknown", Sent: 2, Err: "ping 172.16.0.2: context deadline exceeded", Took: 4 * time.Second}
		if diff := cmp.Diff(want, report(r, told{}, time.Since(start))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the context's error", r.Err)
		}
	})
}

// Whatever is wrong with what was asked is said before anything is sent.
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
			if diff := cmp.Diff(want, report(Ping(t.Context(), p), told{}, 0)); diff != "" {
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
			}, fake(func(_ Pings, tell func(event)) error {
				tell(event{kind: sent, seq: 0})
				return nil
			}))
			want := outcome{Verdict: "unknown", Sent: 1, Err: "ping 172.16.0.2: context deadline exceeded"}
			if diff := cmp.Diff(want, report(r, told{}, 0)); diff != "" {
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
			var heard told
			r := Ping(t.Context(), Pings{
				Address: addr(a), Count: 5, Interval: time.Minute, Timeout: time.Minute,
				OnSend:  func(seq int) { heard.Sent = append(heard.Sent, seq) },
				OnReply: func(seq int, rtt time.Duration) { heard.Replies = append(heard.Replies, seq) },
			})
			if r.RTT <= 0 || r.RTT > 10*time.Second {
				t.Errorf("round trip time %s", r.RTT)
			}
			r.RTT = 0
			want := outcome{Verdict: "up", Sent: 1, Received: 1, Told: told{[]int{1}, []int{1}}}
			if diff := cmp.Diff(want, report(r, heard, 0)); diff != "" {
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
