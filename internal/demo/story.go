package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The check, as it is typed. A message goes to the gateway's mail server.
const check = `pingover check --name web --host 172.16.0.2 --vip 172.16.0.1 \
  --witness 172.16.0.254 --mail-to ops@example.org \
  --mail-via smtp://172.16.0.254 --count 3 --interval 200ms \
  --timeout 300ms --retry-wait 1s --verbose`

// show makes the machines, tells the story, and takes them away.
func show(ctx context.Context, o Options) error {
	began := time.Now()
	s := &story{screen: newScreen(o.Out, o.Terminal, o.Color)}
	s.prologue()
	l, err := lab.New()
	if err != nil {
		return err
	}
	if err := errors.Join(s.play(ctx, l, o.Program), l.Close()); err != nil {
		return err
	}
	s.epilogue(time.Since(began))
	return s.failed()
}

// play is the story on the machines.
func (s *story) play(ctx context.Context, l *lab.Lab, program string) error {
	if err := s.machines(l, program); err != nil {
		return err
	}
	mail, closeMail, err := serveMail(s.gateway)
	if err != nil {
		return err
	}
	defer closeMail()
	s.mail = mail
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"1. All is well", s.allIsWell},
		{"2. The primary loses its power", s.powerCut},
		{"3. The operator has mail", s.message},
		{"4. The primary is back", s.primaryReturns},
		{"5. The standby hands over", s.handOver},
		{"6. What is written down", s.history},
	} {
		s.heading(chapter.title)
		err := chapter.tell(ctx)
		if err == nil {
			err = s.failed()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return nil
}

func (s *story) prologue() {
	s.heading("A failover, on a network of its own")
	s.say(`Four machines, made of network namespaces, on a switch. This takes about 15
seconds, touches nothing of this machine, and leaves nothing behind.`)
	s.say(`    client   172.16.0.9    pings the virtual IP, 172.16.0.1, all the time
    primary  172.16.0.2    serves it
    standby  172.16.0.3    has pingover
    gateway  172.16.0.254  the witness, and here also the mail server`)
}

func (s *story) allIsWell(ctx context.Context) error {
	s.say("The primary has brought up the virtual IP:")
	if err := s.raise(ctx); err != nil {
		return err
	}
	s.say(`
On the standby, cron would run this once a minute. Only for the demo is it in a
hurry: by default it pings five times, 3 s apart, and waits 20 s before it does
so again. One reply ends the check:`)
	if err := s.pingover(ctx, check, state.OK); err != nil {
		return err
	}
	return s.servedBy(s.primary, s.primary, s.standby)
}

func (s *story) powerCut(ctx context.Context) error {
	s.say(`The client pings 172.16.0.1 every 10 ms. A dot is 100 ms without a loss. The
power is cut, and cron's minute happens to be over:`)
	v, err := s.watch()
	if err != nil {
		return err
	}
	defer v.close()
	pause(ctx, 600*time.Millisecond)
	if err := s.primary.PowerOff(); err != nil {
		return err
	}
	cut := time.Now()
	pause(ctx, 200*time.Millisecond)
	if err := s.pingover(ctx, check, state.TookOver); err != nil {
		return err
	}
	if err := s.servedBy(s.standby, s.standby); err != nil {
		return err
	}
	if !within(ctx, v.servedSince(cut)) {
		return fmt.Errorf("the client has had no answer from %s since the power cut, and should have from the standby", vip)
	}
	s.say("11 is took-over. What the client saw:")
	if gap := v.end(); gap < 500*time.Millisecond {
		return fmt.Errorf("the client was without an answer for %s at most, though the primary had no power for longer", gap)
	}
	s.say(`The standby serves it now, and nobody had to do anything. With the defaults, and
cron, the gap is 46 s to two minutes.`)
	return nil
}

const subject = "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"

func (s *story) message(ctx context.Context) error {
	s.say("As the mail server received it:")
	if err := s.wantMail(ctx, subject); err != nil {
		return err
	}
	for line := range strings.Lines(string(s.mail.all()[0])) {
		s.shown(line)
	}
	s.print("\n")
	return nil
}

// wantMail verifies that these messages have come, and no others.
func (s *story) wantMail(ctx context.Context, subjects ...string) error {
	within(ctx, func() bool { return len(s.mail.all()) >= len(subjects) })
	if got := s.mail.subjects(); !slices.Equal(got, subjects) {
		return fmt.Errorf("the mail that came is %q, and should be %q", got, subjects)
	}
	return nil
}

func (s *story) primaryReturns(ctx context.Context) error {
	s.say(`It has booted, without the virtual IP. The standby sees that it answers, and
keeps the address until somebody decides; with --failback auto it would hand
over by itself after three good checks.`)
	if err := s.primary.PowerOn(); err != nil {
		return err
	}
	if err := s.pingover(ctx, check, state.Holding); err != nil {
		return err
	}
	return s.servedBy(s.standby, s.primary, s.standby)
}

func (s *story) handOver(ctx context.Context) error {
	s.say(`release lowers the address, and raises it again when nobody has brought it up
within 10 s. Here somebody sits at the primary and does; a script over there, or
ssh in a post-release hook, does as well.`)
	v, err := s.watch()
	if err != nil {
		return err
	}
	defer v.close()
	pause(ctx, time.Second)
	release, err := s.typed(ctx, s.standby, "pingover release web --verbose")
	if err != nil {
		return err
	}
	free := within(ctx, func() bool {
		has, err := holds(s.standby)
		return err == nil && !has
	})
	if free {
		pause(ctx, 200*time.Millisecond) // nobody types faster
		err = s.raise(ctx)
	}
	raised := time.Now()
	if err := errors.Join(err, s.ends(release, state.Released), s.servedBy(s.primary, s.primary, s.standby)); err != nil {
		return err
	}
	if !within(ctx, v.servedSince(raised)) {
		return fmt.Errorf("the client has had no answer from %s since the standby released it, and should have from the primary", vip)
	}
	pause(ctx, time.Second)
	s.say("12 is released. What the client saw:")
	v.end()
	s.say(`The client still had the standby's hardware address for 172.16.0.1; it was the
standby that announced the primary's. Now it stands by again:`)
	return s.pingover(ctx, check, state.OK)
}

func (s *story) history(ctx context.Context) error {
	if err := s.wantMail(ctx, subject, "[pingover] web: standby released 172.16.0.1"); err != nil {
		return err
	}
	s.say("The operator has had a second message, about the release. What was done, when\nand why, is kept:")
	if err := s.pingover(ctx, "pingover history web", state.OK); err != nil {
		return err
	}
	return s.wantHistory(state.TookOver, state.Released)
}

// wantHistory verifies that these changes are written down, and no others.
func (s *story) wantHistory(want ...state.Outcome) error {
	text, err := s.standby.Run("cat", "/var/lib/pingover/web.json")
	if err != nil {
		return err
	}
	record, err := state.Parse([]byte(text))
	if err != nil {
		return err
	}
	text, err = s.standby.Run("cat", "/var/lib/pingover/web.history")
	if err != nil {
		return err
	}
	moved, err := state.ParseHistory([]byte(text))
	if err != nil {
		return err
	}
	var got []state.Outcome
	for _, c := range state.MergeHistory(moved, record.Recent) {
		got = append(got, c.Outcome)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the changes that are written down are %q, and should be %q", got, want)
	}
	return nil
}

func (s *story) epilogue(took time.Duration) {
	s.print(fmt.Sprintf("All of it happened as told, in %.0f s, and the machines are gone.\n", took.Seconds()))
}
