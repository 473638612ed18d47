package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// fate is how a run ends in which a call fails.
type fate struct {
	call    string // its beginning
	from    time.Duration
	outcome state.Outcome // "" with an exit code instead
	code    int
	says    string // what the operator can read: reason, error or a note
}

// fates say how a run ends in which exactly one call of the Env fails that
// a takeover makes. The first that fits counts.
var fates = []fate{
	{"may ", 0, "", 77, "it broke"},
	{"resolve ", 0, state.Unknown, 20, "it broke"},
	{"route to 172.16.0.254", 0, state.TookOver, 11, ""}, // a witness that is no neighbour can still be pinged
	{"route to 172.16.0.2", 0, state.Unknown, 20, "no it broke"},
	{"route to 172.16.0.1", 0, state.TookOver, 11, ""}, // its network leads there as well
	{"gateway of", 0, state.Blocked, 21, "there is no witness"},
	{"neighbour 172.16.0.254", 0, state.TookOver, 11, "the gateway's MAC is unknown: it broke"},
	{"boot id", 0, state.TookOver, 11, "the boot id cannot be read: it broke"},
	{"uptime", 0, state.Blocked, 21, "this machine has been up for less than 3m (boot-wait)"},
	{"look #5", 46 * time.Second, state.TookOver, 11, "the kernel cannot be asked for its interfaces: it broke"},
	{"look #", 0, state.Unknown, 20, "the kernel cannot be asked for its interfaces: it broke"},
	{"look", 0, "", 20, "the kernel cannot be asked for its addresses: it broke"},
	{"ping 172.16.0.254", 0, state.TookOver, 11, ""}, // it is asked by ARP as well
	{"ping 172.16.0.1", 0, state.TookOver, 11, ""},   // as is who has the virtual IP
	{"ping 172.16.0.2", 0, state.Unknown, 20, "it broke"},
	{"listen on eth0", 0, state.Unknown, 20, "it broke"},
	{"go on listening on eth0", 0, state.Unknown, 20, "could not go on listening on eth0: it broke"},
	{"ask for 172.16.0.254", 0, state.TookOver, 11, ""}, // it is pinged as well
	{"ask for 172.16.0.1 ", 46 * time.Second, state.TookOver, 11, "172.16.0.1 could not be asked for on eth0: it broke"},
	{"ask for 172.16.0.1 ", 0, state.Unknown, 20, "172.16.0.1 could not be asked for on eth0: it broke"},
	{"ask for 172.16.0.2 ", 0, state.Unknown, 20, "172.16.0.2 could not be asked for on eth0: it broke"},
	{"raise ", 0, state.TakeoverFailed, 30, "it broke"},
	{"announce ", 0, state.TookOver, 11, "172.16.0.1 could not be announced on eth0: it broke; clients may take a minute to find it"},
	{"deliver ", 0, state.TookOver, 11, "mail is pending: it broke"},
}

// TestAnyCallMayFail: whatever fails, nothing is taken over that was not asked
// for, what is begun is finished, the operator can read why, and no message is
// lost.
func TestAnyCallMayFail(t *testing.T) {
	var calls []call
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		calls = s.standby.calls
	})
	if len(calls) < 100 {
		t.Fatalf("a takeover makes %d calls: not much of a test", len(calls))
	}
	for _, c := range calls {
		i := slices.IndexFunc(fates, func(f fate) bool { return strings.HasPrefix(c.What, f.call) && c.At >= f.from })
		if i < 0 {
			t.Errorf("%v: what is to happen when it fails?", c)
			continue
		}
		fate := fates[i]
		t.Run(c.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				failed := false
				s.standby.fails = func(call string) error {
					if call != c.What || failed {
						return nil
					}
					failed = true
					return errors.New("it broke")
				}
				report, err := s.try()
				if !failed {
					t.Fatal("it was never called")
				}
				var e *run.Error
				if errors.As(err, &e) {
					report.Code, report.Reason = e.Code, e.Text
				} else if err != nil {
					t.Fatalf("%T is no error of a check: %v", err, err)
				}
				if report.Code != fate.code || report.Outcome != fate.outcome {
					t.Errorf("it ended %s (%d), %q; want %s (%d)", report.Outcome, report.Code, report.Reason, fate.outcome, fate.code)
				}
				if said := report.Reason + "\n" + strings.Join(s.notes(), "\n"); !strings.Contains(said, fate.says) {
					t.Errorf("what was said is %q, want in it %q", said, fate.says)
				}
				took := fate.outcome == state.TookOver
				if got := s.standby.holds(vipAddr); got != took {
					t.Errorf("172.16.0.1 is here: %t, want %t", got, took)
				}

				// The next run finds a record to go on with, and nothing
				// is lost, nor told twice.
				s.standby.fails = nil
				s.minute()
				var told []string
				for _, l := range s.standby.mailbox {
					told = append(told, l.MessageID)
				}
				slices.Sort(told)
				if len(slices.Compact(told)) != len(s.standby.mailbox) {
					t.Errorf("messages came twice: %q", s.subjects())
				}
				rec := s.standby.record(t, "web")
				if rec.Role != state.Active || !s.standby.holds(vipAddr) || len(rec.Outbox) > 0 {
					t.Errorf("after the next run: %s, held %t, %d messages wait", rec.Role, s.standby.holds(vipAddr), len(rec.Outbox))
				}
				if n := count(s.subjects(), "took over"); n != 1 {
					t.Errorf("the takeover was told %d times: %q", n, s.subjects())
				}
			})
		})
	}
}

func count(subjects []string, word string) (n int) {
	for _, subject := range subjects {
		if strings.Contains(subject, word) {
			n++
		}
	}
	return n
}

// TestWhatNeverWorks: a call that fails each time never ends in a takeover
// of what was not asked for.
func TestWhatNeverWorks(t *testing.T) {
	for _, test := range []struct {
		call    string
		outcome state.Outcome
		change  func(s *scene)
	}{
		{"ping", state.Unknown, nil},
		{"ask", state.Unknown, nil},
		{"ask for 172.16.0.1 ", state.Unknown, nil},
		{"listen", state.Unknown, nil},
		{"go on listening", state.Unknown, nil},
		{"ping 172.16.0.1", state.TookOver, nil},
		{"ping 172.16.0.1", state.Unknown, func(s *scene) { s.settings.DuplicateCheck = false }},
		{"ping 172.16.0.1", state.Blocked, func(s *scene) { s.standby.nic("eth0").ARP = false }},
		{"announce", state.TookOver, nil},
		{"gateway", state.Blocked, nil},
	} {
		t.Run(fmt.Sprintf("%s, ending %s", test.call, test.outcome), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				if test.change != nil {
					test.change(s)
				}
				s.standby.fails = func(call string) error {
					if !strings.HasPrefix(call, test.call) {
						return nil
					}
					return errors.New("it broke")
				}
				s.ends(test.outcome, "")
			})
		})
	}
}

// TestASignalAtAnyTime ends a check that has not acted, with nothing changed;
// one that has written its intent is finished first.
func TestASignalAtAnyTime(t *testing.T) {
	const decided, told = 46 * time.Second, 49300 * time.Millisecond
	signal := errors.New("terminated")
	for at := 50 * time.Millisecond; at < told; at += 100 * time.Millisecond {
		play(t, func(t *testing.T, s *scene) {
			s.primary.powerOff()
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(at, func() { cancel(signal) })
			report, _, err := s.standby.run(ctx, s.settings, false)
			if took := time.Since(s.began); took != at {
				t.Errorf("signal after %v: the run ended after %v", at, took)
			}
			s.quiet()
			files, _ := os.ReadDir(s.standby.dir)
			var names []string
			for _, f := range files {
				names = append(names, f.Name())
			}
			if at < decided {
				if err != signal || s.standby.holds(vipAddr) || !slices.Equal(names, []string{"web.lock"}) {
					t.Errorf("signal after %v: error %v, here %t, files %v", at, err, s.standby.holds(vipAddr), names)
				}
				return
			}
			rec := s.standby.record(t, "web")
			if err != nil || report.Outcome != state.TookOver || !s.standby.holds(vipAddr) ||
				rec.Role != state.Active || rec.Pending != nil || len(rec.Recent) != 1 || len(rec.Outbox) != 1 || len(s.standby.mailbox) != 0 {
				t.Errorf("signal after %v: error %v, %s, here %t, the record says %s, pending %v, %d changes, %d messages wait, %d sent", at, err,
					report.Outcome, s.standby.holds(vipAddr), rec.Role, rec.Pending, len(rec.Recent), len(rec.Outbox), len(s.standby.mailbox))
			}
			s.want(s.minute(), state.Holding, "holding 172.16.0.1; 172.16.0.2 does not reply")
			if n := count(s.subjects(), "took over"); n != 1 || len(s.standby.mailbox) != 1 {
				t.Errorf("signal after %v: messages of the next run: %q", at, s.subjects())
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestASignalWhileTheToolRuns does not reach the tool.
func TestASignalWhileTheToolRuns(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		ctx, cancel := context.WithCancel(t.Context())
		s.standby.raising = func(tool context.Context, _ vip.Alias) error {
			cancel()
			return tool.Err()
		}
		report, _, err := s.standby.run(ctx, s.settings, false)
		must(t, err)
		s.want(report, state.TookOver, "")
	})
}

// TestASignalWhileHolding changes nothing either, and ends at once.
func TestASignalWhileHolding(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.set("eth0", "172.16.0.1/32")
		signal := errors.New("terminated")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(signal) })
		_, _, err := s.standby.run(ctx, s.settings, false)
		if err != signal || time.Since(s.began) != 5*time.Second || !s.standby.holds(vipAddr) {
			t.Errorf("error %v after %v, here %t", err, time.Since(s.began), s.standby.holds(vipAddr))
		}
	})
}

// TestAKillAtAnyTime: a run that is killed has left behind what was on the
// disk, in the kernel and in the mailbox at that moment. Later runs finish it;
// the message may come twice, but only as the same message.
func TestAKillAtAnyTime(t *testing.T) {
	var calls []call
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		calls = slices.DeleteFunc(s.standby.calls, func(c call) bool { return c.At < 46*time.Second })
	})
	const delivered = "the message has left" // and is not crossed off
	for _, c := range append(calls, call{What: delivered}) {
		t.Run(c.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				path := filepath.Join(s.standby.dir, "web.json")
				var disk []byte
				var kernel []nic
				var mailbox []state.Message
				s.standby.fails = func(call string) error {
					if call == c.What || c.What == delivered && call == "deliver 1" {
						disk, _ = os.ReadFile(path)
						s.do(func() { kernel, mailbox = copyNICs(s.standby.nics), slices.Clone(s.standby.mailbox) })
					}
					return nil
				}
				s.ends(state.TookOver, "")
				s.standby.fails, s.standby.nics = nil, kernel
				if c.What != delivered {
					s.standby.mailbox = mailbox
				}
				if disk == nil {
					must(t, os.Remove(path))
				} else {
					must(t, writeFile(path, disk))
				}

				s.minute()
				s.want(s.minute(), state.Holding, "holding 172.16.0.1; 172.16.0.2 does not reply")
				rec := s.standby.record(t, "web")
				if rec.Role != state.Active || rec.Pending != nil || len(rec.Outbox) > 0 || len(rec.Recent) != 1 || rec.Recent[0].Outcome != state.TookOver {
					t.Errorf("the record says %s, pending %v, %d messages wait, changes %v", rec.Role, rec.Pending, len(rec.Outbox), rec.Recent)
				}
				ids := map[string]bool{}
				for _, l := range s.standby.mailbox {
					ids[l.MessageID] = true
				}
				if c.What == delivered && len(s.standby.mailbox) != 2 {
					t.Errorf("messages %q", s.subjects())
				}
				if len(ids) != 1 || count(s.subjects(), "took over") != len(s.standby.mailbox) {
					t.Errorf("messages %q, %d of them different", s.subjects(), len(ids))
				}
			})
		})
	}
}

// TestAStateThatNeverCouldBeWritten: no run remembers that it was said; so it is
// said by the clock, once an hour where a check is made each minute.
func TestAStateThatNeverCouldBeWritten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		file := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(file, nil, 0o600))
		s.standby.dir = filepath.Join(file, "state")
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(30 * time.Minute)))
		loud := 0
		for range 120 {
			s.want(s.check(), state.OK, "")
			for _, n := range s.notes() {
				if strings.HasPrefix(n, "! the state cannot be written: ") {
					loud++
				}
			}
			time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
		}
		if loud != 2 {
			t.Errorf("it was said %d times in two hours", loud)
		}
	})
}

// TestItStandsAlthoughRaisingFailed: the tool reports another address that
// went at the same time. The clients are told all the same.
func TestItStandsAlthoughRaisingFailed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.standby.raising = func(context.Context, vip.Alias) error {
			s.do(func() { s.standby.set("eth0", "172.16.0.1/32") })
			return errors.New("10.0.0.1 has gone from eth0 at the same time")
		}
		s.ends(state.TakeoverFailed, "10.0.0.1 has gone from eth0 at the same time")
		if n := len(s.calls("announce 172.16.0.1 on eth0")); n != 3 {
			t.Errorf("announced %d times", n)
		}
		if rec := s.standby.record(t, "web"); rec.Role != state.Active || !rec.VIPs[0].Raised {
			t.Errorf("role %s, %+v", rec.Role, rec.VIPs)
		}
	})
}
