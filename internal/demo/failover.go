package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

func vip() netip.Addr { return netip.MustParseAddr("172.16.0.1") }

const vipAdd = "ip addr add 172.16.0.1/32 dev eth0"

// The configuration of the standby. A message goes to the gateway's mail server.
const clusterFile = `defaults: {count: 3, interval: 200ms, timeout: 300ms,
           retry-wait: 1s, announce: 1}
clusters:
  web:
    host: 172.16.0.2
    vip: 172.16.0.1
    witness: 172.16.0.254
    mail-to: ops@example.org
    mail-via: smtp://172.16.0.254
`

// pair is the failover while it is shown.
type pair struct {
	*stage
	client, primary, standby, gateway *lab.Host
}

// failover shows a takeover and the failback.
func failover(ctx context.Context, stage *stage, l *lab.Lab, program string) error {
	s := &pair{stage: stage}
	s.heading("A failover, in a network of its own")
	s.say(`    client   172.16.0.9    pings the virtual IP, 172.16.0.1
    primary  172.16.0.2    serves it
    standby  172.16.0.3    runs pingover
    gateway  172.16.0.254  the witness, and in this demo the mail server`)
	s.say(`Four machines on a switch, made of network namespaces. The demo takes about
10 seconds, touches nothing on this machine, and leaves nothing behind.`)
	err := add(
		l,
		machine{&s.client, "client", "172.16.0.9/16"},
		machine{&s.primary, "primary", "172.16.0.2/16"},
		machine{&s.standby, "standby", "172.16.0.3/16"},
		machine{&s.gateway, "gateway", "172.16.0.254/16"},
	)
	if err != nil {
		return err
	}
	if err := install(s.standby, program, clusterFile); err != nil {
		return err
	}
	mail, closeMail, err := serveMail(s.gateway)
	if err != nil {
		return err
	}
	defer closeMail()
	s.mail = mail
	return s.acts(
		ctx,
		act{"All is well", s.allIsWell},
		act{"The primary loses its power", s.powerCut},
		act{"The operator has mail", s.message},
		act{"The primary is back", s.primaryReturns},
		act{"The standby hands over", s.handOver},
		act{"The history", s.history},
	)
}

func (s *pair) allIsWell(ctx context.Context) error {
	s.say(`The primary has the virtual IP. On the standby, cron runs "pingover check" once
a minute. The defaults in this file make the demo fast: normally a round has 5
pings, 3 s apart, and the second round begins 20 s after the first.`)
	if err := s.run(ctx, s.primary, vipAdd); err != nil {
		return err
	}
	if err := s.run(ctx, s.standby, "cat /etc/pingover.yaml"); err != nil {
		return err
	}
	if err := s.pingover(ctx, s.standby, "check web --verbose", state.OK); err != nil {
		return err
	}
	return s.servedBy(s.primary, s.primary, s.standby)
}

func (s *pair) powerCut(ctx context.Context) error {
	s.say(`The client pings 172.16.0.1 every 10 ms; a dot is 100 ms without a loss. The
power is cut, and then cron starts the next check:`)
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
	if err := s.pingover(ctx, s.standby, "check web --verbose", state.TookOver); err != nil {
		return err
	}
	if err := s.servedBy(s.standby, s.standby); err != nil {
		return err
	}
	if !within(ctx, v.servedSince(cut)) {
		return fmt.Errorf("the client has had no reply from %s since the power cut, and should have from the standby", vip())
	}
	pause(ctx, 600*time.Millisecond)
	if gap := v.end(); gap < 500*time.Millisecond {
		return fmt.Errorf("the client was without a reply for %s at most, though the primary had no power for longer", gap)
	}
	s.say("With the defaults and cron the outage is 46 s to two minutes.")
	return nil
}

const subject = "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"

func (s *pair) message(ctx context.Context) error {
	if err := s.wantMail(ctx, subject); err != nil {
		return err
	}
	lines, err := excerpt(s.mail.all()[0])
	for _, line := range lines {
		s.shown(line)
	}
	s.print("\n")
	return err
}

func (s *pair) primaryReturns(ctx context.Context) error {
	s.say(`It has booted, without the virtual IP. The standby sees that it replies, and
keeps the address until an operator decides. With "failback: auto" it would
hand over after three good checks.`)
	if err := s.primary.PowerOn(); err != nil {
		return err
	}
	if err := s.pingover(ctx, s.standby, "check web --verbose", state.Holding); err != nil {
		return err
	}
	return s.servedBy(s.standby, s.primary, s.standby)
}

func (s *pair) handOver(ctx context.Context) error {
	s.say(`"release" removes the address, and adds it again unless another machine takes
it within 10 s. Here the operator adds it on the primary; a post-release hook
can do the same by ssh.`)
	v, err := s.watch()
	if err != nil {
		return err
	}
	defer v.close()
	pause(ctx, 600*time.Millisecond)
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
		err = s.run(ctx, s.primary, vipAdd)
	}
	added := time.Now()
	if err := errors.Join(err, s.ends(release, state.Released), s.servedBy(s.primary, s.primary, s.standby)); err != nil {
		return err
	}
	if !within(ctx, v.servedSince(added)) {
		return fmt.Errorf("the client has had no reply from %s since the standby released it, and should have from the primary", vip())
	}
	pause(ctx, 600*time.Millisecond)
	v.end()
	s.say(`The client still had the standby's MAC for 172.16.0.1: the standby announced the
primary's. From now on it stands by again:`)
	return s.pingover(ctx, s.standby, "check web", state.OK)
}

func (s *pair) history(ctx context.Context) error {
	if err := s.wantMail(ctx, subject, "[pingover] web: standby released 172.16.0.1"); err != nil {
		return err
	}
	s.say("A second message told the operator about the release. Every change is kept:")
	if err := s.run(ctx, s.standby, "pingover history web"); err != nil {
		return err
	}
	s.print("\n")
	return wantHistory(s.standby, "web", state.TookOver, state.Released)
}

// pings are what the client sees of the virtual IP.
type pings struct {
	*strip
	trace *lab.Trace
}

func (s *pair) watch() (pings, error) {
	trace, err := s.client.Watch(vip(), pingEvery)
	if err != nil {
		return pings{}, err
	}
	return pings{s.newStrip(func() string { return dots(trace.Samples()) }), trace}, nil
}

func (p pings) close() {
	p.strip.close()
	p.trace.Stop()
}

// end shows the strip with the length of its gap.
func (p pings) end() (gap time.Duration) {
	p.close()
	gap = p.trace.Gap()
	p.strip.end("no reply for " + p.Red(fmt.Sprintf("%d ms", gap.Milliseconds())))
	return gap
}

// servedSince tells whether the client has had a reply since then.
func (p pings) servedSince(t time.Time) func() bool {
	return func() bool {
		_, replied := p.trace.FirstReplyAfter(t)
		return replied
	}
}

// servedBy verifies, by the kernels, that one of the hosts has the virtual IP
// and no other, of those whose power is on.
func (s *pair) servedBy(want *lab.Host, on ...*lab.Host) error {
	for _, h := range on {
		switch has, err := holds(h); {
		case err != nil:
			return err
		case has && h != want:
			return fmt.Errorf("%s is on %s, and should be on %s", vip(), h.Name(), want.Name())
		case !has && h == want:
			return fmt.Errorf("%s is not on %s, and should be", vip(), h.Name())
		}
	}
	return nil
}

// holds tells whether a host has the virtual IP.
func holds(h *lab.Host) (has bool, err error) {
	err = h.Do(func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.Equal(vip().AsSlice()) {
				has = true
			}
		}
		return err
	})
	return has, err
}
