package failover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
)

// message is what the tests compare of one.
type message struct{ ID, ReplyTo, Subject string }

// messages are those in the mailbox; Message-IDs are numbered as they come.
func (s *scene) messages() (messages []message) {
	ids := map[string]string{"": ""}
	for i, l := range s.standby.mailbox {
		if _, again := ids[l.MessageID]; !again {
			ids[l.MessageID] = string(rune('A' + i))
		}
		reply, known := ids[l.InReplyTo]
		if !known {
			reply = "unknown " + l.InReplyTo
		}
		messages = append(messages, message{ids[l.MessageID], reply, plain(l.Subject)})
	}
	return messages
}

func (s *scene) wantMessages(want ...message) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.messages()); diff != "" {
		s.t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// TestTheCommandsOfALetterFindTheCluster, also where the records are kept
// elsewhere.
func TestTheCommandsOfALetterFindTheCluster(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if body := s.standby.mailbox[0].Body; !strings.Contains(body, "\n  pingover release web\n") {
			t.Errorf("the message says\n%s", body)
		}
	})
	play(t, func(t *testing.T, s *scene) {
		s.settings.Given = map[string][]string{"state-dir": {s.standby.dir}}
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if body, want := s.standby.mailbox[0].Body, "\n  pingover release web --state-dir "+s.standby.dir+"\n"; !strings.Contains(body, want) {
			t.Errorf("the message does not have %q\n%s", want, body)
		}
	})
}

// TestBlockedIsMailedOnce, again after remind, and its end is a reply.
func TestBlockedIsMailedOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Mail.Remind = 10 * time.Minute
		s.primary.noPing = true
		for range 9 {
			s.want(s.minute(), state.Blocked, "it replies to ARP: it is alive")
		}
		first := message{"A", "", "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping"}
		s.wantMessages(first)
		s.minute()
		s.minute()
		reminder := message{"B", "A", first.Subject}
		s.wantMessages(first, reminder)
		s.primary.noPing = false
		s.minute()
		s.minute()
		s.wantMessages(first, reminder)
		s.minute()
		s.minute()
		s.wantMessages(first, reminder, message{"C", "A", "[pingover] web: RESOLVED: 172.16.0.2 replies again"})
		if diff := cmp.Diff([]state.Alert(nil), s.standby.record(t, "web").Alerts); diff != "" {
			t.Errorf("troubles (-want +got):\n%s", diff)
		}
	})
}

// TestUnknownIsMailedTheThirdTime.
func TestUnknownIsMailedTheThirdTime(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").Carrier = false
		for _, want := range []int{0, 0, 1, 1} {
			s.want(s.minute(), state.Unknown, `interface "eth0" has no carrier: is the cable in?`)
			if got := len(s.standby.mailbox); got != want {
				t.Errorf("%d messages, want %d", got, want)
			}
		}
		s.wantMessages(message{"A", "", "[pingover] web: PROBLEM: HOSTNAME cannot check 172.16.0.2"})
	})
}

// TestMailThatCannotLeave waits, and that is said when it begins and when it
// ends.
func TestMailThatCannotLeave(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.fails = failing(errors.New("smtp: connection refused"), "deliver")
		var said []string
		var waiting []int
		for i := range 5 {
			if i == 3 {
				s.standby.fails = nil
			}
			report := s.minute()
			waiting = append(waiting, report.MailWaiting)
			said = append(said, strings.Join(s.notes(), ";"))
			if errorText := s.standby.record(t, "web").MailError; (errorText != nil) != (i < 3) {
				t.Errorf("run %d: mail_error of the record is %v", i+1, errorText)
			}
		}
		if diff := cmp.Diff([]string{"! mail is pending: smtp: connection refused", "", "", "! mail is delivered again", ""}, said); diff != "" {
			t.Errorf("notes of each run (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int{1, 1, 1, 0, 0}, waiting); diff != "" {
			t.Errorf("messages waiting after each run (-want +got):\n%s", diff)
		}
		s.wantMessages(message{"A", "", "[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1"})
	})
}

// TestNobodyToTell: a takeover needs nobody to be told, and says so.
func TestNobodyToTell(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Mail.To = nil
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		if diff := cmp.Diff([]string{"no recipient configured: changes are not mailed (mail-to)"}, s.notes()); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
		if got := s.calls("deliver"); got != nil {
			t.Errorf("delivered: %v", got)
		}
	})
}

// spoil makes the state directory one in which nothing can be written, even
// by root: the name of the temporary file is taken by a directory.
func (s *scene) spoil() {
	s.t.Helper()
	must(s.t, os.Mkdir(filepath.Join(s.standby.dir, "web.json.tmp"), 0o755))
}

// TestStateThatCannotBeWritten: the takeover happens, its message leaves at
// once and only once, and the exit code says it.
func TestStateThatCannotBeWritten(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(s *scene)
	}{
		{"since just now", func(s *scene) { s.ends(state.OK, ""); s.spoil() }},
		{"never could be", func(s *scene) { s.spoil() }},
		{"for its directory is a file", func(s *scene) {
			s.standby.dir = filepath.Join(s.standby.dir, "file")
			if err := writeFile(s.standby.dir, []byte("not a directory")); err != nil {
				s.t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.spoil(s)
				s.primary.powerOff()
				report := s.minute()
				if report.Outcome != state.StateFailed || report.Code != 32 || report.Error == nil || !report.Changed ||
					!strings.HasPrefix(*report.Error, "the state cannot be written: ") || !strings.Contains(report.Reason, "172.16.0.1 is not in use") {
					t.Errorf("report %+v", report)
				}
				if !s.standby.holds(vipAddr) {
					t.Error("172.16.0.1 is not here")
				}
				// The line about the takeover has the error in it.
				if notes := s.notes(); len(notes) == 0 || !strings.HasPrefix(notes[len(notes)-1], "the state cannot be written: ") {
					t.Errorf("notes %q", notes)
				}
				for range 4 {
					s.want(s.minute(), state.Holding, "holding 172.16.0.1")
				}
				s.wantMessages(message{"A", "", "[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1"})
				if len(s.standby.mailbox) == 0 {
					return
				}
				if body := s.standby.mailbox[0].Body; !strings.Contains(body, "the state cannot be written") {
					t.Errorf("the message does not tell of the state:\n%s", body)
				}
			})
		})
	}
}

// TestASignalWhileTheStateCannotBeWritten: no later run knows of the message,
// so it leaves all the same.
func TestASignalWhileTheStateCannotBeWritten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.spoil()
		s.primary.powerOff()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(47*time.Second, cancel)
		report, _, err := s.standby.run(ctx, s.settings, false)
		must(t, err)
		s.want(report, state.StateFailed, "")
		s.wantMessages(message{"A", "", "[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1"})
		s.quiet()
	})
}

// TestTroubleThatCannotBeWritten is told by the first run only.
func TestTroubleThatCannotBeWritten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		s.want(s.minute(), state.OK, "")
		s.spoil()
		s.primary.noPing = true
		for range 4 {
			s.want(s.minute(), state.Blocked, "it is alive")
		}
		s.wantMessages(message{"A", "", "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping"})
	})
}

// TestStateThatCanBeWrittenAgain: what was pending before is still sent.
func TestStateThatCanBeWrittenAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.noPing = true
		s.standby.fails = failing(errors.New("no mail today"), "deliver")
		s.minute()
		s.standby.fails = nil
		s.spoil()
		s.minute()
		must(t, os.Remove(filepath.Join(s.standby.dir, "web.json.tmp")))
		s.minute()
		if n := count(s.subjects(), "not taken over"); n != 1 {
			t.Errorf("messages: %q", s.subjects())
		}
		if rec := s.standby.record(t, "web"); len(rec.Outbox) != 0 {
			t.Errorf("%d messages wait", len(rec.Outbox))
		}
	})
}

// TestTheActLockIsBusy: another cluster on this machine is switching and does
// not come to an end; nothing is raised without the lock.
func TestTheActLockIsBusy(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		unlock, err := state.Dir(s.standby.dir).LockSwitch(context.Background())
		must(t, err)
		s.primary.powerOff()
		s.ends(state.TakeoverFailed, "act.lock: another cluster on this machine is still switching")
		if s.took < 46*time.Second+config.SwitchPatience || s.took > 47*time.Second+config.SwitchPatience {
			t.Errorf("it took %v", s.took)
		}
		unlock()
		s.want(s.minute(), state.TookOver, "")
	})
}

// TestAnotherRunHoldsTheLock.
func TestAnotherRunHoldsTheLock(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		unlock, err := state.Dir(s.standby.dir).Lock("web")
		must(t, err)
		_, err = s.try()
		if diff := cmp.Diff(&run.Error{Code: 75, Text: "another run is checking this cluster"}, err); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		s.dry = true
		s.ends(state.OK, "") // it takes no lock
		unlock()
		s.dry = false
		s.ends(state.OK, "")
	})
}

// TestProcessThatCannotWriteRemembersWhatItMailed: a watch on a full disk mails
// each change and alert once, however often it checks.
func TestProcessThatCannotWriteRemembersWhatItMailed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.memory = new(state.Memory)
		every := func(n int, outcome state.Outcome) {
			t.Helper()
			for range n {
				time.Sleep(time.Second)
				s.want(s.check(), outcome, "")
			}
		}
		every(3, state.OK)
		s.spoil()
		s.primary.noPing = true
		every(20, state.Blocked)
		s.primary.noPing = false
		every(20, state.OK)
		s.primary.powerOff()
		every(1, state.StateFailed)
		every(20, state.Holding)
		want := []string{
			"[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping",
			"[pingover] web: RESOLVED: 172.16.0.2 replies again",
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
		must(t, os.Remove(filepath.Join(s.standby.dir, "web.json.tmp")))
		every(2, state.Holding)
		if rec := s.standby.record(t, "web"); rec.Role != state.Active || len(rec.Outbox) != 0 || rec.LastChange().Outcome != state.TookOver {
			t.Errorf("record: %+v", rec)
		}
	})
}

// TestRecordThatAnotherProcessWroteCounts: what this one remembers is older.
func TestRecordThatAnotherProcessWroteCounts(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.memory = new(state.Memory)
		s.ends(state.OK, "")
		s.spoil()
		s.minute()
		must(t, os.Remove(filepath.Join(s.standby.dir, "web.json.tmp")))
		rec, err := state.Dir(s.standby.dir).Load("web", false)
		must(t, err)
		rec.ManualRelease = true
		must(t, state.Dir(s.standby.dir).Save(rec, true))
		s.primary.powerOff()
		s.want(s.minute(), state.Blocked, "released manually")
	})
}
