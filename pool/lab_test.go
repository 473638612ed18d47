package pool

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pingover/internal/lab"
)

const www = "host1.zone.com."

func TestMain(m *testing.M) {
	if inside, code, err := lab.Enter(); err == nil && !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// scene is a standby and a name server on one switch.
type scene struct {
	*testing.T
	lab         *lab.Lab
	standby, ns *lab.Host
	dir         string
	named       *lab.NameServer
	server      Server // as the standby asks it, with the right key
}

// bind starts BIND with zone.com, which has these records and the key www.
func bind(t *testing.T, records ...string) *scene {
	t.Helper()
	s := network(t)
	lab.Need(t, "named", "bind9")
	zone := s.zone("zone.com", "www", records...)
	s.start(s.key("www"), zone)
	return s
}

// network has no name server yet.
func network(t *testing.T) *scene {
	t.Helper()
	t.Parallel()
	l := lab.ForTest(t)
	s := &scene{T: t, lab: l, dir: t.TempDir()}
	var err error
	s.ns, err = l.Add("ns", "10.2.0.53/16")
	s.must(err)
	s.standby, err = l.Add("standby", "10.2.0.3/16")
	s.must(err)
	s.server = Server{Address: "10.2.0.53:53", Dial: s.dial, Timeout: time.Second}
	return s
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// dial opens the socket in the standby's network.
func (s *scene) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.standby.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// key makes a key, which the server uses from now on, and returns its statement.
func (s *scene) key(name string) string {
	s.Helper()
	file, statement, err := lab.TSIGKey(s.dir, name)
	s.must(err)
	s.server.Key, err = ReadKey(file)
	s.must(err)
	return statement
}

func (s *scene) zone(name, key string, records ...string) string {
	s.Helper()
	statement, err := lab.DynamicZone(s.dir, name, key, records...)
	s.must(err)
	return statement
}

func (s *scene) start(conf ...string) {
	s.Helper()
	var err error
	s.named, err = s.ns.NameServer(s.dir, conf...)
	s.must(err)
}

func (s *scene) read() Set {
	s.Helper()
	set, err := s.server.Read(s.Context(), www)
	s.must(err)
	return set
}

// transferred waits until a secondary has the zone.
func (s *scene) transferred() Set {
	s.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if set, err := s.server.Read(s.Context(), www); err == nil {
			return set
		} else if time.Now().After(end) {
			s.Fatal(err)
		}
	}
}

func (s *scene) want(got Set, want Set) {
	s.Helper()
	want.Name = www
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("record set (-want +got):\n%s", diff)
	}
}

// wantError compares problem, sentence and hint.
func wantError(t *testing.T, err error, want Error) {
	t.Helper()
	e, ok := err.(*Error)
	if !ok {
		t.Errorf("error %v, want %q", err, want.Text)
		return
	}
	got := Error{Problem: e.Problem, Text: e.Text, Hint: e.Hint}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Error{})); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func change(before Set, remove, add []netip.Addr, ttl time.Duration) Change {
	return Change{Zone: "zone.com.", Before: before, After: before.With(remove, add, ttl)}
}

// records is a record set.
func records(ttl time.Duration, addrs ...string) Records {
	return Records{Addrs: ips(addrs...), TTL: ttl}
}

func ips(addrs ...string) (all []netip.Addr) {
	for _, a := range addrs {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

var web = []string{"host1 60 A 10.2.2.11", "host1 60 A 10.2.2.10", "host1 300 AAAA 2001:db8::10", "other 60 A 10.2.2.99"}

func TestReadsBothFamiliesOfTheNameItself(t *testing.T) {
	s := bind(t, web...)
	s.want(s.read(), Set{A: records(time.Minute, "10.2.2.10", "10.2.2.11"), AAAA: records(5*time.Minute, "2001:db8::10")})

	none, err := s.server.Read(t.Context(), "nothing.zone.com.")
	if diff := cmp.Diff(Set{Name: "nothing.zone.com."}, none, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
		t.Errorf("a name that does not exist: error %v (-want +got):\n%s", err, diff)
	}
}

func TestFindsTheZone(t *testing.T) {
	s := bind(t, web...)
	want := Zone{Name: "zone.com.", Primary: "ns.zone.com.", Negative: time.Minute}
	for _, name := range []string{www, "zone.com.", "a.b.nothing.zone.com."} {
		if got, err := s.server.FindZone(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	_, err := s.server.FindZone(t.Context(), "host1.other.net.")
	wantError(t, err, Error{
		Refused, "name server 10.2.0.53:53 refuses to answer for host1.other.net (REFUSED)",
		"allow this machine, or the key, to query the zone there (allow-query, views)",
		time.Time{},
		nil, false,
	})
}

// Each change is made, shown, undone by its inverse, and does nothing a second time.
func TestChangesAreMadeAndUndone(t *testing.T) {
	s := bind(t, web...)
	start := s.read()
	for name, c := range map[string]struct {
		remove, add []netip.Addr
		want        Set
	}{
		"one leaves":         {ips("10.2.2.11"), nil, Set{A: records(time.Minute, "10.2.2.10"), AAAA: start.AAAA}},
		"one returns":        {nil, ips("10.2.2.9"), Set{A: records(90*time.Second, "10.2.2.9", "10.2.2.10", "10.2.2.11"), AAAA: start.AAAA}},
		"both families":      {ips("10.2.2.10"), ips("2001:db8::11", "10.2.2.12"), Set{A: records(90*time.Second, "10.2.2.11", "10.2.2.12"), AAAA: records(90*time.Second, "2001:db8::10", "2001:db8::11")}},
		"the other's stays":  {ips("2001:db8::10"), ips("2001:db8::12"), Set{A: start.A, AAAA: records(90*time.Second, "2001:db8::12")}},
		"a family is begun":  {nil, ips("10.2.2.200"), Set{A: records(90*time.Second, "10.2.2.10", "10.2.2.11", "10.2.2.200"), AAAA: start.AAAA}},
		"a family that ends": {ips("2001:db8::10"), nil, Set{A: start.A}},
	} {
		do := change(start, c.remove, c.add, 90*time.Second)
		got, err := s.server.Publish(t.Context(), do)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.want(got, c.want)
		_, err = s.server.Publish(t.Context(), do)
		if ProblemOf(err) != Changed {
			t.Errorf("%s, again: %v", name, err)
		}
		got, err = s.server.Publish(t.Context(), do.Inverse())
		s.must(err)
		s.want(got, start)
	}
}

func TestAnotherWriterWasFaster(t *testing.T) {
	s := bind(t, web...)
	before := s.read()
	if _, err := s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0)); err != nil {
		t.Fatal(err)
	}
	set, err := s.server.Publish(t.Context(), change(before, ips("10.2.2.11"), nil, 0))
	wantError(t, err, Error{
		Problem: Changed, Text: "host1.zone.com was changed by somebody else at the same time (NXRRSET)",
		Hint: "if nobody else writes it, look for a wildcard that answers for host1.zone.com",
	})
	if EffectOf(err) != Untouched || len(set.Addrs()) > 0 {
		t.Errorf("effect %v, set %v", EffectOf(err), set)
	}
	s.want(s.read(), Set{A: records(time.Minute, "10.2.2.11"), AAAA: before.AAAA})

	empty := Set{Name: www, AAAA: before.AAAA}
	_, err = s.server.Publish(t.Context(), change(empty, nil, ips("10.2.2.10"), 0))
	if ProblemOf(err) != Changed || !strings.Contains(err.Error(), "(YXRRSET)") {
		t.Errorf("a set that is there, and was read as none: %v", err)
	}
}

func TestWrongKeys(t *testing.T) {
	s := bind(t, web...)
	before := s.read()
	right := s.server.Key
	try := func(want Error) {
		t.Helper()
		_, err := s.server.Read(t.Context(), www)
		wantError(t, err, want)
		_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
		wantError(t, err, want)
		wantError(t, s.server.TestUpdate(t.Context(), "zone.com.", before, before.Addrs()...), want)
	}

	s.key("stranger")
	try(Error{
		Problem: BadKey, Text: "name server 10.2.0.53:53 does not accept the key stranger (hmac-sha256) (BADKEY)",
		Hint: "give the name server the key of key-file, with the same name, algorithm and secret, and the right to update",
	})
	s.key("www") // another secret
	try(Error{
		Problem: BadSecret, Text: "name server 10.2.0.53:53 has another secret for the key www (BADSIG)",
		Hint: "copy the key from the name server to key-file again",
	})
	s.server.Key = right
	s.server.Key.Algorithm = "hmac-sha512"
	try(Error{
		Problem: BadKey, Text: "name server 10.2.0.53:53 does not accept the key www (hmac-sha512) (BADKEY)",
		Hint: "give the name server the key of key-file, with the same name, algorithm and secret, and the right to update",
	})
	s.server.Key = right
	s.want(s.read(), before)
}

func TestWrongClock(t *testing.T) {
	s := bind(t, web...)
	before := s.read()
	for skew, want := range map[time.Duration]string{
		299 * time.Second: "",
		10 * time.Minute:  "name server 10.2.0.53:53 has a clock that is 10m0s behind this machine's, more than 5m (BADTIME)",
		-10 * time.Minute: "name server 10.2.0.53:53 has a clock that is 10m0s ahead of this machine's, more than 5m (BADTIME)",
	} {
		s.server.skew = skew
		_, err := s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
		if want == "" {
			s.must(err)
			_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0).Inverse())
			s.must(err)
			continue
		}
		// A second may pass between the two clocks' reading.
		if e, ok := err.(*Error); ok {
			e.Text = strings.NewReplacer("9m59s", "10m0s", "10m1s", "10m0s").Replace(e.Text)
			if off := time.Since(e.Time); off.Abs() > 3*time.Second {
				t.Errorf("the server's time is %s, %s ago", e.Time, off)
			}
		}
		wantError(t, err, Error{Problem: BadTime, Text: want, Hint: "set both clocks, with NTP"})
	}
}

const noRight = "check update-policy, or allow-update, of the zone; end a freeze with rndc thaw zone.com"

func TestNoRightToUpdate(t *testing.T) {
	s := network(t)
	lab.Need(t, "named", "bind9")
	zone := s.zone("zone.com", "www", web...)
	www, other := s.key("www"), s.key("other")
	key := s.server.Key
	s.start(www, other, zone, s.zone("static.com", "www"))
	before := s.read()
	refused := Error{
		Problem: Refused, Hint: noRight,
		Text: "name server 10.2.0.53:53 refuses the update (REFUSED): key other has no right to change host1.zone.com, or zone zone.com is not dynamic, or frozen",
	}
	_, err := s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
	wantError(t, err, refused)
	wantError(t, s.server.TestUpdate(t.Context(), "zone.com.", before, before.Addrs()...), refused)

	s.server.Key = Key{}
	refused.Text = "name server 10.2.0.53:53 refuses the update (REFUSED): no key is set (key-file), or zone zone.com is not dynamic, or frozen"
	_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
	wantError(t, err, refused)

	s.server.Key, _ = ReadKey(s.dir + "/www.key")
	s.must(s.server.TestUpdate(t.Context(), "zone.com.", before, before.Addrs()...))
	if key.Name != "other." {
		t.Fatal(key)
	}
	_, err = s.named.Control("freeze", "zone.com")
	s.must(err)
	refused.Text = "name server 10.2.0.53:53 refuses the update (REFUSED): key www has no right to change host1.zone.com, or zone zone.com is not dynamic, or frozen"
	_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
	wantError(t, err, refused)
	wantError(t, s.server.TestUpdate(t.Context(), "zone.com.", before, before.Addrs()...), refused)
	_, err = s.named.Control("thaw", "zone.com")
	s.must(err)

	_, err = s.server.Publish(t.Context(), Change{"elsewhere.net.", before, before.With(ips("10.2.2.10"), nil, 0)})
	wantError(t, err, Error{
		Problem: NotAuthoritative, Text: "name server 10.2.0.53:53 does not serve the zone (NOTAUTH)",
		Hint: "set server to the zone's primary, and zone to one that it serves",
	})
	_, err = s.server.Publish(t.Context(), Change{"static.com.", before, before.With(ips("10.2.2.10"), nil, 0)})
	wantError(t, err, Error{
		Problem: NotInZone, Text: "host1.zone.com is not in zone static.com (NOTZONE)",
		Hint: "set zone to the zone that contains the record, or leave it out",
	})
	s.want(s.read(), before)
}

// The test of the right to update changes nothing, not even the serial number,
// and finds an address that is not there.
func TestTestUpdateChangesNothing(t *testing.T) {
	s := bind(t, web...)
	before := s.read()
	serial := func() string {
		out, err := s.named.Control("zonestatus", "zone.com")
		s.must(err)
		_, after, _ := strings.Cut(out, "serial: ")
		line, _, _ := strings.Cut(after, "\n")
		return line
	}
	was := serial()
	s.must(s.server.TestUpdate(t.Context(), "zone.com.", before, before.Addrs()...))
	s.want(s.read(), before)
	if now := serial(); was != "1" || now != was {
		t.Errorf("serial %s, was %s", now, was)
	}
}

func TestAnAliasIsNoPool(t *testing.T) {
	s := bind(t, "host1 60 CNAME web.zone.com.", "web 60 A 10.2.2.10")
	_, err := s.server.Read(t.Context(), www)
	want := Error{
		Problem: Alias, Text: "host1.zone.com is an alias (CNAME) of web.zone.com",
		Hint: "set record to web.zone.com, or delete the CNAME",
	}
	wantError(t, err, want)
	_, err = s.server.FindZone(t.Context(), www)
	wantError(t, err, want)
	// BIND says NOERROR to an A record beside a CNAME, and ignores it.
	_, err = s.server.Publish(t.Context(), change(Set{Name: www}, nil, ips("10.2.2.10"), time.Minute))
	want.Text = "it is not known whether host1.zone.com was updated: " + want.Text
	wantError(t, err, want)
	if EffectOf(err) != Open {
		t.Errorf("effect %v", EffectOf(err))
	}
}

// The key selects the view, for reading too.
func TestViewByKey(t *testing.T) {
	s := network(t)
	lab.Need(t, "named", "bind9")
	inside := s.key("inside")
	s.must(os.Mkdir(s.dir+"/in", 0o755))
	in, err := lab.DynamicZone(s.dir+"/in", "zone.com", "inside", "host1 60 A 192.168.0.10", "host1 60 A 192.168.0.11")
	s.must(err)
	key := s.server.Key
	outside := s.key("outside")
	s.start(inside, outside, `view in { match-clients { key inside; };`, in, `}; view out { match-clients { key outside; };`,
		s.zone("zone.com", "outside", web...), `};`)
	out := s.read()
	s.want(out, Set{A: records(time.Minute, "10.2.2.10", "10.2.2.11"), AAAA: records(5*time.Minute, "2001:db8::10")})
	s.server.Key = key
	s.want(s.read(), Set{A: records(time.Minute, "192.168.0.10", "192.168.0.11")})
	got, err := s.server.Publish(t.Context(), change(s.read(), ips("192.168.0.10"), nil, 0))
	s.must(err)
	s.want(got, Set{A: records(time.Minute, "192.168.0.11")})
	// With another secret it is in no view: REFUSED, and BADKEY in the TSIG record.
	s.key("outside")
	_, err = s.server.Read(t.Context(), www)
	wantError(t, err, Error{
		Problem: BadKey, Text: "name server 10.2.0.53:53 does not accept the key outside (hmac-sha256) (BADKEY)",
		Hint: "give the name server the key of key-file, with the same name, algorithm and secret, and the right to update",
	})
	s.server.Key = Key{}
	_, err = s.server.Read(t.Context(), www)
	wantError(t, err, Error{
		Problem: Refused, Text: "name server 10.2.0.53:53 refuses to answer for host1.zone.com (REFUSED)",
		Hint: "allow this machine, or the key, to query the zone there (allow-query, views)",
	})
}

func TestServerGoneOrSilent(t *testing.T) {
	s := bind(t, web...)
	before := s.read()
	do := change(before, ips("10.2.2.10"), nil, 0)
	both := func(read, update Error, effect Effect) {
		t.Helper()
		_, err := s.server.Read(t.Context(), www)
		wantError(t, err, read)
		begin := time.Now()
		_, err = s.server.Publish(t.Context(), do)
		wantError(t, err, update)
		if EffectOf(err) != effect {
			t.Errorf("effect %v, want %v", EffectOf(err), effect)
		}
		if took := time.Since(begin); took > s.server.Timeout+shownWithin+time.Second {
			t.Errorf("took %s", took)
		}
	}

	s.must(s.named.Freeze())
	silent := Error{
		Problem: Silent, Text: "name server 10.2.0.53:53 accepts the connection and does not reply within 1s",
		Hint: "see whether the name server hangs, and whether it answers by TCP",
	}
	lost := silent
	lost.Text = "it is not known whether host1.zone.com was updated: " + silent.Text
	both(silent, lost, Open)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin := time.Now()
	if _, err := s.server.Publish(ctx, do); ProblemOf(err) != Interrupted || time.Since(begin) > time.Second {
		t.Errorf("interrupted: %v after %s", err, time.Since(begin))
	}
	s.must(s.named.Thaw())
	// It reads what it was sent while it did not answer.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if set, err := s.server.Read(t.Context(), www); err == nil && !set.Has(ips("10.2.2.10")[0]) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the lost update was not made: %v, %v", set, err)
		}
	}

	s.named.Stop()
	gone := Error{
		Problem: Unreachable, Text: "name server 10.2.0.53:53 cannot be reached: connection refused",
		Hint: "see whether the name server is up, and open TCP port 53 to it",
	}
	both(gone, gone, Untouched)
	s.must(s.ns.PowerOff())
	_, err := s.server.Read(t.Context(), www)
	gone.Text = "name server 10.2.0.53:53 does not accept a connection within 1s"
	if err == nil || !strings.HasSuffix(err.Error(), "no route to host") { // as the kernel says after three seconds
		wantError(t, err, gone)
	}
	if _, err = s.server.Publish(t.Context(), do); ProblemOf(err) != Unreachable || EffectOf(err) != Untouched {
		t.Errorf("power off: %v", err)
	}
	s.server.Address = "192.0.2.53:53"
	gone.Text = "name server 192.0.2.53:53 cannot be reached: network is unreachable"
	both(gone, gone, Untouched)
}

func TestTooManyRecords(t *testing.T) {
	var many []string
	var all []netip.Addr
	for i := range 100 {
		all = append(all, netip.AddrFrom4([4]byte{10, 2, 3, byte(i)}))
		many = append(many, "host1 60 A "+all[i].String())
	}
	s := bind(t, many...)
	before := s.read()
	s.want(before, Set{A: Records{Addrs: all, TTL: time.Minute}})
	_, err := s.server.Publish(t.Context(), change(before, nil, ips("10.2.2.101"), time.Minute))
	wantError(t, err, Error{
		Problem: ServerFailure, Text: "name server 10.2.0.53:53 cannot make the update (SERVFAIL)",
		Hint: "see the log of the name server; the zone's directory must be writable for its journal, and BIND holds 100 records (max-records-per-type)",
	})
	s.want(s.read(), before)
	// One for another is no more than there were.
	got, err := s.server.Publish(t.Context(), change(before, all[:1], ips("10.2.2.101"), time.Minute))
	s.must(err)
	if !got.Has(ips("10.2.2.101")[0]) || got.Has(all[0]) || len(got.A.Addrs) != 100 {
		t.Errorf("got %d records", len(got.A.Addrs))
	}
}

// A secondary refuses, or forwards the update and shows the old records until
// the transfer.
func TestSecondaryInsteadOfPrimary(t *testing.T) {
	s := network(t)
	lab.Need(t, "named", "bind9")
	key := s.key("www")
	zone := strings.TrimSuffix(strings.TrimSpace(s.zone("zone.com", "www", web...)), "};") + "allow-transfer { any; }; };"
	s.start(key, zone)
	primary := s.server
	l2, err := s.lab.Add("ns2", "10.2.0.54/16")
	s.must(err)
	dir := t.TempDir()
	secondary := `zone "zone.com" { type secondary; primaries { 10.2.0.53; }; file "zone.com.copy"; ` // no notify: it follows by refresh only
	named, err := l2.NameServer(dir, key, secondary+"};")
	s.must(err)
	s.server.Address = named.Address()
	before := s.transferred()

	_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
	wantError(t, err, Error{
		Problem: Refused, Hint: noRight,
		Text: "name server 10.2.0.54:53 refuses the update (REFUSED): key www has no right to change host1.zone.com, or zone zone.com is not dynamic, or frozen",
	})
	named.Stop()
	named, err = l2.NameServer(dir, key, secondary+"allow-update-forwarding { any; }; };")
	s.must(err)
	s.transferred()
	_, err = s.server.Publish(t.Context(), change(before, ips("10.2.2.10"), nil, 0))
	wantError(t, err, Error{
		Problem: Ineffective, Text: "name server 10.2.0.54:53 accepted the update, but does not publish it within 6s",
		Hint: "set server to the zone's primary: a secondary may forward updates and show the old records",
	})
	if EffectOf(err) != Open {
		t.Errorf("effect %v", EffectOf(err))
	}
	s.server = primary
	s.want(s.read(), Set{A: records(time.Minute, "10.2.2.11"), AAAA: before.AAAA})
	named.Stop()
}
