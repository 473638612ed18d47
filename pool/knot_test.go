package pool

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

const knotConf = `
server:
    listen: 10.2.0.53@53
    rundir: "%[1]s"
database:
    storage: "%[1]s"
key:
  - id: www
    algorithm: hmac-sha256
    secret: "%[2]s"
  - id: other
    algorithm: hmac-sha256
    secret: "%[2]s"
acl:
  - id: update
    key: www
    action: update
template:
  - id: default
    storage: "%[1]s"
    zonefile-sync: -1
zone:
  - domain: zone.com
    acl: update
    file: zone.com.zone
`

// knot starts Knot DNS as the name server.
func knot(t *testing.T, records ...string) *scene {
	t.Helper()
	s := network(t)
	lab.Need(t, "knotd", "knot")
	s.server.Key = wwwKey
	s.zone("zone.com", "www", records...)
	conf := s.dir + "/knot.conf"
	s.must(os.WriteFile(conf, fmt.Appendf(nil, knotConf, s.dir, hidden), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	daemon := s.ns.Command(ctx, "knotd", "-c", conf)
	log := new(strings.Builder)
	daemon.Stdout, daemon.Stderr = log, log
	s.must(daemon.Start())
	t.Cleanup(func() {
		cancel()
		daemon.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	s.transferred()
	return s
}

// Knot DNS agrees with BIND on all that an update is made of.
func TestKnot(t *testing.T) {
	s := knot(t, web...)
	start := s.read()
	s.want(start, Set{A: records(time.Minute, "10.2.2.10", "10.2.2.11"), AAAA: records(5*time.Minute, "2001:db8::10")})
	if zone, err := s.server.FindZone(t.Context(), www); err != nil || zone.Name != "zone.com." {
		t.Errorf("zone %+v, %v", zone, err)
	}
	s.must(s.server.TestUpdate(t.Context(), "zone.com.", start, start.Addrs()...))

	do := change(start, ips("10.2.2.11"), ips("10.2.2.12", "2001:db8::11"), 90*time.Second)
	after, err := s.server.Publish(t.Context(), do)
	s.must(err)
	s.want(after, Set{A: records(90*time.Second, "10.2.2.10", "10.2.2.12"), AAAA: records(90*time.Second, "2001:db8::10", "2001:db8::11")})
	if _, err = s.server.Publish(t.Context(), do); ProblemOf(err) != Changed {
		t.Errorf("again: %v", err)
	}
	after, err = s.server.Publish(t.Context(), do.Inverse())
	s.must(err)
	s.want(after, start)

	s.server.Key.Name = "other."
	if _, err = s.server.Publish(t.Context(), do); ProblemOf(err) != BadKey {
		t.Errorf("a key without the right: %v", err)
	}
	s.server.Key.Name = "stranger."
	if _, err = s.server.Publish(t.Context(), do); ProblemOf(err) != BadKey {
		t.Errorf("an unknown key: %v", err)
	}
	s.server.Key = Key{}
	_, err = s.server.Publish(t.Context(), do)
	wantError(t, err, Error{
		Problem: NotAuthoritative, Text: "name server 10.2.0.53:53 does not take updates of zone zone.com (NOTAUTH)",
		Hint: "set server to the zone's primary, and key-file to a key that it knows",
	})
	s.want(s.read(), start)
}
