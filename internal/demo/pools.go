package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The configuration of the checker. Messages go to the host of the name server.
const poolFile = `defaults: {count: 3, interval: 200ms, timeout: 300ms,
           retry-wait: 1s, rise: 2}
pools:
  www:
    record: www.example.org
    server: 10.2.0.53
    key-file: /etc/pingover/www.key
    members: [10.2.2.1, 10.2.2.2, 10.2.2.3]
    witness: 10.2.0.53
    mail-to: ops@example.org
    mail-via: smtp://10.2.0.53
`

const (
	site       = "www.example.org"
	nameServer = "10.2.0.53:53"
)

// farm is a pool of web hosts while it is shown.
type farm struct {
	*stage
	client, checker, ns *lab.Host
	web                 [3]*lab.Host
}

// pools shows how a host that is down leaves DNS, and how it returns.
func pools(ctx context.Context, stage *stage, l *lab.Lab, program string) error {
	s := &farm{stage: stage}
	s.heading("A pool, in a network of its own")
	s.say(`    client            10.2.0.9    connects to www.example.org
    web1, web2, web3  10.2.2.1-3  serve it: the members of the pool
    ns                10.2.0.53   the name server; in this demo also for mail
    checker           10.2.0.3    runs pingover`)
	s.say(`Six machines on a switch, made of network namespaces. The demo takes about
10 seconds, touches nothing on this machine, and leaves nothing behind.`)
	err := add(
		l,
		machine{&s.client, "client", "10.2.0.9/16"},
		machine{&s.checker, "checker", "10.2.0.3/16"},
		machine{&s.ns, "ns", "10.2.0.53/16"},
		machine{&s.web[0], "web1", "10.2.2.1/16"},
		machine{&s.web[1], "web2", "10.2.2.2/16"},
		machine{&s.web[2], "web3", "10.2.2.3/16"},
	)
	if err != nil {
		return err
	}
	if err := install(s.checker, program, poolFile); err != nil {
		return err
	}
	if err := s.serveNames(); err != nil {
		return err
	}
	for i, h := range s.web {
		closeWeb, err := serveWeb(h, fmt.Sprint(i+1))
		if err != nil {
			return err
		}
		defer closeWeb()
	}
	mail, closeMail, err := serveMail(s.ns)
	if err != nil {
		return err
	}
	defer closeMail()
	s.mail = mail
	return s.acts(
		ctx,
		act{"One name, three hosts", s.allUp},
		act{"A host loses its power", s.powerCut},
		act{"The host is back", s.hostReturns},
		s.lastAct(s.checker, "www", "that web2 is back", []string{removed, "[pingover] www: 10.2.2.2 is back in www.example.org"},
			state.Removed, state.Restored),
	)
}

// serveNames starts BIND on ns. Its files are on the disk of that host, where
// BIND may write under AppArmor too; the checker gets a copy of the key.
func (s *farm) serveNames() error {
	dir := s.ns.Path("/var/lib/bind")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	file, key, err := lab.TSIGKey(dir, "www")
	if err != nil {
		return err
	}
	zone, err := lab.DynamicZone(dir, "example.org", "www", "www 60 A 10.2.2.1", "www 60 A 10.2.2.2", "www 60 A 10.2.2.3")
	if err != nil {
		return err
	}
	if _, err := s.ns.NameServer(dir, key, zone); err != nil {
		return err
	}
	_, err = s.checker.Run("install", "-D", "-m", "600", file, "/etc/pingover/www.key")
	return err
}

func (s *farm) allUp(ctx context.Context) error {
	s.say(`The client resolves the name anew for each connection, and takes the first
address; the digit is the host that it reaches. The name server rotates them:`)
	v := s.visit(ctx)
	defer v.close()
	if !within(ctx, v.reaches(9, "123")) {
		v.end()
		return errors.New("the client does not reach all three hosts in turn")
	}
	v.end()
	if err := s.run(ctx, s.checker, "cat /etc/pingover.yaml"); err != nil {
		return err
	}
	return s.pingover(ctx, s.checker, "check www", state.OK)
}

const removed = "[pingover] www: 10.2.2.2 is down! removed from www.example.org"

func (s *farm) powerCut(ctx context.Context) error {
	s.say(`One connection in three fails, until the next check takes web2 out of DNS:`)
	v := s.visit(ctx)
	defer v.close()
	pause(ctx, 600*time.Millisecond)
	if err := s.web[1].PowerOff(); err != nil {
		return err
	}
	pause(ctx, 200*time.Millisecond)
	if err := s.pingover(ctx, s.checker, "check www", state.Removed); err != nil {
		return err
	}
	if !within(ctx, v.reaches(v.count(), "13")) {
		v.end()
		return errors.New("since the check the client does not reach web1 and web3 only")
	}
	if v.end() == 0 {
		return errors.New("every connection of the client succeeded, though web2 had no power")
	}
	s.say("Clients with a cache follow when the TTL of the records is over, here 60 s.")
	update, err := s.update()
	if err != nil {
		return err
	}
	s.say("The update as a line of nsupdate(1). It was made only if the set was as read,\nand the history keeps it with its inverse:")
	s.shown(update)
	s.say("\nThe operator has mail:")
	if err := s.wantMail(ctx, removed); err != nil {
		return err
	}
	s.shown("Subject: " + removed)
	s.print("\n")
	return nil
}

// update is what the last change has done, in the language of nsupdate.
func (s *farm) update() (string, error) {
	all, err := history(s.checker, "www")
	if err != nil {
		return "", err
	}
	if len(all) > 0 && all[len(all)-1].Evidence.Update != nil {
		for line := range strings.Lines(all[len(all)-1].Evidence.Update.Script) {
			if strings.HasPrefix(line, "update ") {
				return strings.TrimSpace(line), nil
			}
		}
	}
	return "", errors.New("the history has no update")
}

func (s *farm) hostReturns(ctx context.Context) error {
	s.say(`It gets clients again after two good checks ("rise"; 3 by default):`)
	v := s.visit(ctx)
	defer v.close()
	if err := s.web[1].PowerOn(); err != nil {
		return err
	}
	if err := s.pingover(ctx, s.checker, "check www", state.Reduced); err != nil {
		return err
	}
	pause(ctx, 1100*time.Millisecond) // good checks count once a second
	if err := s.pingover(ctx, s.checker, "check www", state.Restored); err != nil {
		return err
	}
	if !within(ctx, v.reaches(v.count(), "123")) {
		v.end()
		return errors.New("since the check the client does not reach all three hosts in turn")
	}
	v.end()
	return s.pingover(ctx, s.checker, "check www", state.OK)
}
