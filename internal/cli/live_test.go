package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/state"
)

// Control sequences of a drawn line: cut at the margin, whole again, erased.
const (
	cut     = "\033[?7l"
	wrapped = "\033[?7h\r"
	erased  = "\r\033[K"
)

// terminal shows what a person sees: lines that stay, and how the one below
// them looked, with the time at which it came to look so.
type terminal struct {
	mu    sync.Mutex
	start time.Time
	lines []string
	last  string   // line, as it is now
	shown string   // at the end of the last write
	seen  []string // whenever that was another
	raw   strings.Builder
}

func newTerminal() *terminal { return &terminal{start: time.Now()} }

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.raw.Write(p)
	text := strings.NewReplacer(cut, "", wrapped, "").Replace(string(p))
	for text != "" {
		switch next := strings.IndexAny(text, "\r\n"); {
		case strings.HasPrefix(text, erased):
			t.last, text = "", text[len(erased):]
		case strings.HasPrefix(text, "\n"):
			t.lines, t.last, text = append(t.lines, t.last), "", text[1:]
		case next < 0:
			t.last, text = t.last+text, ""
		default:
			t.last, text = t.last+text[:next], text[next:]
		}
	}
	if t.last != t.shown {
		t.shown = t.last
		t.seen = append(t.seen, strings.TrimSpace(fmt.Sprintf("%.1fs %s", time.Since(t.start).Seconds(), t.last)))
	}
	return len(p), nil
}

// wantSeen fails the test unless the drawn line looked so, one after the other,
// and these lines stayed above it.
func (t *terminal) wantSeen(tb testing.TB, seen, lines string) {
	tb.Helper()
	if diff := cmp.Diff(strings.Split(seen, "\n"), t.seen); diff != "" {
		tb.Errorf("seen (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(lines, strings.TrimSpace(betweenStartAndEnd(strings.Join(t.lines, "\n")))); diff != "" {
		tb.Errorf("lines (-want +got)\n%s", diff)
	}
	if t.last != "" {
		tb.Errorf("a line is left: %q", t.last)
	}
}

// live runs a command line on such a terminal.
func (p Program) live(ctx context.Context, color bool, args ...string) (*terminal, printed) {
	term := newTerminal()
	var stdout strings.Builder
	p.Stdout, p.Stderr, p.Terminal, p.Live, p.Color = &stdout, term, true, true, color
	code := p.Run(ctx, args)
	return term, printed{Code: code, Stdout: stdout.String()}
}

// silent is a takeover in the time that it takes.
func silent(_ config.Cluster, o failover.Options) (failover.Report, error) {
	host := netip.MustParseAddr("172.16.0.2")
	down := state.Round{Verdict: "down", Sent: 3}
	for n := 1; n <= 2; n++ {
		o.OnEvent(run.RoundBegan{N: n, Host: "172.16.0.2", Address: host, Count: 3, Interval: 2 * time.Second, Timeout: time.Second})
		time.Sleep(5 * time.Second)
		o.OnEvent(run.RoundEnded{N: n, Round: down})
		if n == 1 {
			o.OnEvent(run.Waiting{For: 2500 * time.Millisecond, Why: "before the second round"})
			time.Sleep(2500 * time.Millisecond)
		}
	}
	o.OnEvent(failover.Decided{Decision: state.Decision{Rule: 14, Outcome: state.TookOver}})
	for _, what := range []string{"post-takeover", "sending mail"} {
		time.Sleep(time.Second)
		o.OnEvent(run.Stage(what))
	}
	time.Sleep(time.Second)
	return failover.Report{Cluster: "web", Outcome: state.TookOver, Code: 11, Changed: true, Reason: "172.16.0.2 is silent", Held: []netip.Prefix{}}, nil
}

func TestALiveTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		term, got := faked(silent).live(t.Context(), true, web...)
		want(t, got, printed{Code: 11})
		term.wantSeen(t, `0.0s web: round 1: 172.16.0.2 ○··
2.0s web: round 1: 172.16.0.2 ○○·
4.0s web: round 1: 172.16.0.2 ○○○
5.0s web: round 1: 172.16.0.2 ○○○ down
5.0s web: waiting 3s: before the second round
5.5s web: waiting 2s: before the second round
6.5s web: waiting 1s: before the second round
7.5s web: round 2: 172.16.0.2 ○··
9.5s web: round 2: 172.16.0.2 ○○·
11.5s web: round 2: 172.16.0.2 ○○○
12.5s web: round 2: 172.16.0.2 ○○○ down
12.5s web: decision: `+"\033[33mtook-over\033[0m"+`
13.5s web: post-takeover
14.5s web: sending mail
15.5s`, `pingover: web: round 1: pinging 172.16.0.2, at most 3 pings, 2s apart
pingover: web: round 1: down: no reply to 3 pings
pingover: web: waiting 2.5s: before the second round
pingover: web: round 2: pinging 172.16.0.2, at most 3 pings, 2s apart
pingover: web: round 2: down: no reply to 3 pings
pingover: web: decision: took-over, by rule 14
pingover: web: `+"\033[33mtook-over\033[0m"+`: 172.16.0.2 is silent`)
	})
}

// late is a check whose second ping is answered, after the third was sent.
func late(_ config.Cluster, o failover.Options) (failover.Report, error) {
	o.OnEvent(run.RoundBegan{N: 1, Host: "db", Address: netip.MustParseAddr("172.16.0.2"), Count: 5, Interval: time.Second})
	time.Sleep(2500 * time.Millisecond)
	o.OnEvent(run.Replied{N: 1, Seq: 2, RTT: 1500 * time.Millisecond})
	time.Sleep(2 * time.Second)
	round := state.Round{Verdict: "up", Sent: 3, Received: 1, RTT: new(1500.0)}
	o.OnEvent(run.RoundEnded{N: 1, Round: round})
	return failover.Report{
		Cluster: "web", Host: "db", Outcome: state.OK, Reason: "db replies",
		Evidence: state.Evidence{Rounds: []state.Round{round}},
	}, nil
}

func TestALiveWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
			switch n++; n {
			case 1:
				return late(c, o)
			case 2:
				return failover.Report{}, &run.Error{Code: 75, Text: "another run is checking this cluster"}
			case 3:
				return failover.Report{}, &run.Error{Code: 77, Text: "no right to ping"}
			}
			return failover.Report{Cluster: "web", Outcome: state.Holding, Code: 10, Reason: "holding 172.16.0.1"}, nil
		})
		term, got := p.live(t.Context(), false, watchWeb("--every", "6s", "--for", "20s")...)
		want(t, got, printed{})
		term.wantSeen(t, `0.0s web: round 1: 172.16.0.2 ○····
1.0s web: round 1: 172.16.0.2 ○○···
2.0s web: round 1: 172.16.0.2 ○○○··
2.5s web: round 1: 172.16.0.2 ○●○··
4.5s web: round 1: 172.16.0.2 ○●○·· up
4.5s web: ok, db replies in 1500.0 ms; next check in 2s
5.0s web: ok, db replies in 1500.0 ms; next check in 1s
6.0s web: busy, another run is checking this cluster; next check in 6s
7.0s web: busy, another run is checking this cluster; next check in 5s
8.0s web: busy, another run is checking this cluster; next check in 4s
9.0s web: busy, another run is checking this cluster; next check in 3s
10.0s web: busy, another run is checking this cluster; next check in 2s
11.0s web: busy, another run is checking this cluster; next check in 1s
12.0s web: error, no right to ping; next check in 6s
13.0s web: error, no right to ping; next check in 5s
14.0s web: error, no right to ping; next check in 4s
15.0s web: error, no right to ping; next check in 3s
16.0s web: error, no right to ping; next check in 2s
17.0s web: error, no right to ping; next check in 1s
18.0s web: holding 172.16.0.1; next check in 6s
18.0s`, `pingover: web: no right to ping
pingover: web: holding: holding 172.16.0.1`)
	})
}

func TestALongNameIsShortInTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
			o.OnEvent(run.RoundBegan{N: 1, Host: "172.16.0.2", Address: netip.MustParseAddr("172.16.0.2"), Count: 1})
			o.OnEvent(run.Waiting{For: time.Second, Why: "before the second round"})
			o.OnEvent(failover.Decided{Decision: state.Decision{Rule: 14, Outcome: state.TookOver}})
			time.Sleep(time.Second)
			return failover.Report{Cluster: c.Name, Outcome: state.TookOver, Code: 11, Changed: true, Reason: "172.16.0.2 is silent"}, nil
		})
		for _, tt := range []struct{ name, shown string }{
			{"twelve.chars", "twelve.chars"},
			{"averylongname-of-a-cluster", "averylongna…"},
		} {
			term, _ := p.live(t.Context(), false, "watch", "--host", "172.16.0.2", "--for", "1s", "--name", tt.name)
			term.wantSeen(t, strings.ReplaceAll(`0.0s NAME: round 1: 172.16.0.2 ○
0.0s NAME: waiting 1s: before the second round
0.0s NAME: decision: took-over
1.0s NAME: took-over, 172.16.0.2 is silent; next check in 9s
1.0s`, "NAME", tt.shown), "pingover: "+tt.name+": took-over: 172.16.0.2 is silent")
		}
	})
}

func TestManyClustersAreCounted(t *testing.T) {
	path := file(t, "a", "b", "c")
	check := func(c config.Cluster, _ failover.Options) (failover.Report, error) {
		time.Sleep(time.Duration(c.Name[0]-'a') * time.Second)
		if c.Name == "b" {
			return failover.Report{Cluster: "b", Outcome: state.Holding, Code: 10, Reason: "holding"}, nil
		}
		return failover.Report{Cluster: c.Name, Outcome: state.OK, Reason: "fine"}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		term, got := faked(check).live(t.Context(), true, "check", "--file", path)
		want(t, got, printed{Code: 10})
		term.wantSeen(t, "0.0s 1 of 3 checked\n1.0s 2 of 3 checked\n2.0s 3 of 3 checked\n2.0s",
			"pingover: a: \033[32mok\033[0m: fine\npingover: b: \033[33mholding\033[0m: holding\npingover: c: \033[32mok\033[0m: fine")
	})
	synctest.Test(t, func(t *testing.T) {
		term, got := faked(check).live(t.Context(), true, "watch", "--file", path, "--for", "5s")
		want(t, got, printed{})
		term.wantSeen(t, `0.0s 1 of 3 checked: 1 `+"\033[32mok\033[0m"+`
1.0s 2 of 3 checked: b `+"\033[33mholding\033[0m; 1 \033[32mok\033[0m"+`
2.0s 3 clusters: b `+"\033[33mholding\033[0m; 2 \033[32mok\033[0m"+`
2.0s`, "")
	})
}

func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		ended      map[string]state.Outcome
	}{
		{"all are well", "3 clusters: 3 ok", map[string]state.Outcome{"a": state.OK, "b": state.OK, "c": state.OK}},
		{"one is not", "3 clusters: web down; 2 ok", map[string]state.Outcome{"a": state.OK, "web": state.Down, "c": state.OK}},
		{"none is", "3 clusters: a blocked, b down, c holding", map[string]state.Outcome{"c": state.Holding, "a": state.Blocked, "b": state.Down}},
		{"not all are checked", "1 of 3 checked: b error", map[string]state.Outcome{"b": exit.ErrorOutcome}},
		{
			"too many to name", "5 clusters: 3 down, 1 holding, 1 ok",
			map[string]state.Outcome{"a": state.Down, "b": state.Down, "c": state.Holding, "d": state.OK, "e": state.Down},
		},
	} {
		clusters := max(3, len(tt.ended))
		if got := (&watcher{screen: &screen{}, now: plan{checks: make([]Task, clusters)}, ended: tt.ended}).summary(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Whatever ends it: the line is gone, and no colour is left.
func TestALiveLineIsTakenAwayAtTheEnd(t *testing.T) {
	for name, command := range map[string][]string{"check": web, "watch": watchWeb()} {
		bubble(name+" by a signal", t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(3*time.Second, func() { cancel(errors.New("SIGINT")) })
			p := faked(nil)
			p.Check = func(ctx context.Context, _ config.Cluster, o failover.Options) (failover.Report, error) {
				o.OnEvent(run.Waiting{For: time.Minute, Why: "for you"})
				<-ctx.Done()
				return failover.Report{}, context.Cause(ctx)
			}
			term, _ := p.live(ctx, true, command...)
			if !strings.HasSuffix(term.raw.String(), wrapped+erased) && !strings.HasSuffix(term.raw.String(), "anything\n"+cut+"web: waiting 57s: for you"+wrapped+erased) || term.last != "" {
				t.Errorf("%q", term.raw.String())
			}
			time.Sleep(time.Hour) // nothing draws it again
			if term.last != "" {
				t.Errorf("%q", term.last)
			}
		})
		bubble(name+" by a bug", t, func(t *testing.T) {
			p := faked(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
				o.OnEvent(run.Waiting{For: time.Minute, Why: "for you"})
				panic("lost")
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			term, got := p.live(ctx, true, command...)
			if term.last != "" || got.Code != 70 {
				t.Errorf("code %d, %q", got.Code, term.raw.String())
			}
		})
	}
}

func TestWhatIsNotForATerminalHasNoControlCharacters(t *testing.T) {
	for name, flags := range map[string][]string{"--json": {"--json"}, "--json --verbose": {"--json", "--verbose"}, "--quiet": {"--quiet"}} {
		for _, command := range [][]string{web, watchWeb("--for", "1s")} {
			bubble(command[0]+" "+name, t, func(t *testing.T) {
				term, _ := faked(silent).live(t.Context(), true, append(command, flags...)...)
				if strings.ContainsAny(term.raw.String(), "\033\r") {
					t.Errorf("%q", term.raw.String())
				}
			})
		}
	}
	for name, command := range map[string][]string{"check": append(web, "-v"), "watch": watchWeb("--for", "1s", "-v")} {
		bubble(name+" without a terminal", t, func(t *testing.T) {
			if got := faked(silent).run(command...); strings.ContainsAny(got.Stderr+got.Stdout, "\033\r") {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWhatComesFromOutsideStaysInTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := faked(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
			o.OnEvent(run.Waiting{For: time.Second, Why: "a\033[31m\nb"})
			time.Sleep(time.Second)
			return failover.Report{Cluster: "web", Outcome: state.Unknown, Reason: "a\033[31m\nb"}, nil
		})
		term, _ := p.live(t.Context(), false, watchWeb("--for", "1s")...)
		term.wantSeen(t, "0.0s web: waiting 1s: a [31m b\n1.0s web: unknown, a [31m b; next check in 9s\n1.0s", "")
	})
}

func TestColours(t *testing.T) {
	for o, with := range map[state.Outcome]string{
		state.OK: "32", state.Holding: "33", state.TookOver: "33", state.Released: "33", state.Elsewhere: "33",
		state.Down: "31", state.Unserved: "31", state.Unknown: "31", state.Blocked: "31",
		state.TakeoverFailed: "31", state.ReleaseFailed: "31", state.StateFailed: "31", exit.ErrorOutcome: "31",
	} {
		if got := colored(true, o); got != "\033["+with+"m"+string(o)+"\033[0m" {
			t.Errorf("%s: %q", o, got)
		}
		if got := colored(false, o); got != string(o) {
			t.Errorf("%s without colours: %q", o, got)
		}
	}
}
