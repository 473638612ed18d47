package pool

import (
	"cmp"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"pingover/internal/proc"
)

const (
	dnsPort = "53"

	// answerTimeout is Server.Timeout's default: a machine that is not there is
	// noticed by the kernel after 3.1 s.
	answerTimeout = 5 * time.Second

	// shownWithin is how long an update may take to be published: a secondary that
	// forwards updates follows its primary within 5 s.
	shownWithin = 6 * time.Second

	// fudge is by how much clocks may differ (RFC 8945 10: 300 s).
	fudge = 300 * time.Second
)

// Server is a zone's primary name server, asked by TCP only.
type Server struct {
	Address string        // host:port, as ServerAddress returns it
	Key     Key           // signs each question and verifies each answer; zero: unsigned
	Timeout time.Duration // of one exchange, connecting included; 0: 5 s
	// Dial connects; nil: by this machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	skew time.Duration // of the clock, for tests
}

// Zone is a zone as its SOA record describes it.
type Zone struct {
	Name     string        // fully qualified, lower case, with the final dot
	Primary  string        // the name server that the SOA names as primary; a hidden one is another
	Negative time.Duration // for which resolvers keep in mind that a record does not exist
}

// Read reads both record sets of a name. Records of other owners do not count;
// a name that does not exist is an empty Set. Any doubt is an *Error: no answer,
// not authoritative, a CNAME, an unsigned answer to a signed question.
func (s Server) Read(ctx context.Context, name string) (Set, error) {
	set := Set{Name: name}
	v6 := make(chan error, 1)
	go func() {
		var err error
		set.AAAA, err = s.records(ctx, name, dns.TypeAAAA)
		v6 <- err
	}()
	var err error
	set.A, err = s.records(ctx, name, dns.TypeA)
	if err = cmp.Or(err, <-v6); err != nil {
		return Set{}, err
	}
	return set, nil
}

// records reads one record set.
func (s Server) records(ctx context.Context, name string, kind uint16) (Records, error) {
	answer, err := s.query(ctx, name, kind)
	if err != nil {
		return Records{}, err
	}
	var r Records
	for _, rr := range answer.Answer {
		if !strings.EqualFold(rr.Header().Name, name) || rr.Header().Rrtype != kind {
			continue
		}
		if a, ok := address(rr); ok && !slices.Contains(r.Addrs, a) {
			r.Addrs, r.TTL = append(r.Addrs, a), time.Duration(rr.Header().Ttl)*time.Second
		}
	}
	slices.SortFunc(r.Addrs, netip.Addr.Compare)
	return r, nil
}

// FindZone asks the server which of its zones a name is in.
func (s Server) FindZone(ctx context.Context, name string) (Zone, error) {
	answer, err := s.query(ctx, name, dns.TypeSOA)
	if err != nil {
		return Zone{}, err
	}
	for _, rr := range slices.Concat(answer.Answer, answer.Ns) {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return Zone{
				Name: dns.CanonicalName(soa.Hdr.Name), Primary: dns.CanonicalName(soa.Ns),
				Negative: time.Duration(soa.Minttl) * time.Second,
			}, nil
		}
	}
	return Zone{}, s.fail(Malformed, "", "name server %s does not name the zone of %s", s.Address, shown(name))
}

// query asks one question; the answer is authoritative, and about the name itself.
func (s Server) query(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, kind)
	m.RecursionDesired = false
	answer, err := s.exchange(ctx, m)
	if err != nil {
		return nil, err
	}
	switch answer.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeRefused:
		return nil, s.fail(Refused, "allow this machine, or the key, to query the zone there (allow-query, views)",
			"name server %s refuses to answer for %s (REFUSED)", s.Address, shown(name))
	case dns.RcodeServerFailure:
		return nil, s.fail(ServerFailure, "see the log of the name server: the zone may not be loaded, or have expired",
			"name server %s cannot answer for %s (SERVFAIL)", s.Address, shown(name))
	case dns.RcodeNotAuth:
		return nil, s.notAuthoritative(name)
	default:
		return nil, s.fail(OtherCode, "see the log of the name server",
			"name server %s answers the question for %s with %s", s.Address, shown(name), code(answer.Rcode))
	}
	if q := answer.Question; len(q) != 1 || !strings.EqualFold(q[0].Name, name) || q[0].Qtype != kind || answer.Truncated {
		return nil, s.fail(Malformed, "", "name server %s does not answer the question for %s", s.Address, shown(name))
	}
	if !answer.Authoritative {
		return nil, s.notAuthoritative(name)
	}
	for _, rr := range answer.Answer {
		if alias, ok := rr.(*dns.CNAME); ok && strings.EqualFold(alias.Hdr.Name, name) {
			return nil, s.fail(Alias, fmt.Sprintf("set record to %s, or delete the CNAME", shown(alias.Target)),
				"%s is an alias (CNAME) of %s", shown(name), shown(alias.Target))
		}
	}
	return answer, nil
}

// Publish makes a change, provided that both record sets are exactly as in
// Before, and reads back for up to 6 s until it is published. A lost answer is
// settled by reading. The set is the one read last. Errors are *Error: Changed
// when the set was another one, and Unsettled tells what only the next run can.
func (s Server) Publish(ctx context.Context, c Change) (Set, error) {
	updated := s.update(ctx, c)
	if updated != nil && !Unsettled(updated) {
		return Set{}, updated
	}
	reading, cancel := context.WithTimeout(ctx, shownWithin)
	defer cancel()
	set, err := s.Read(reading, c.Before.Name)
	for wait := 50 * time.Millisecond; err != nil || !c.shownBy(set); wait = min(2*wait, time.Second) {
		if !proc.Sleep(reading, wait) {
			return set, s.notShown(ctx, c, cmp.Or(updated, err))
		}
		if again, e := s.Read(reading, c.Before.Name); e == nil || reading.Err() == nil {
			set, err = again, e
		}
	}
	return set, nil
}

// TestUpdate tries the right to change a set without changing anything, by
// deleting a record of each family that is not there (RFC 2136 3.4.2.4): this
// needs the full right.
func (s Server) TestUpdate(ctx context.Context, zone string, set Set, families ...netip.Addr) error {
	m := new(dns.Msg).SetUpdate(zone)
	for _, a := range families {
		for set.Has(a) {
			a = a.Next()
		}
		m.Remove([]dns.RR{record(set.Name, a, 0)})
	}
	return s.send(ctx, zone, set.Name, m)
}

// update sends a change.
func (s Server) update(ctx context.Context, c Change) error {
	m := new(dns.Msg).SetUpdate(c.Zone)
	m.Compress = true
	for _, family := range []struct {
		kind uint16
		set  Records
	}{{dns.TypeA, c.Before.A}, {dns.TypeAAAA, c.Before.AAAA}} {
		if len(family.set.Addrs) == 0 {
			m.RRsetNotUsed([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: c.Before.Name, Rrtype: family.kind}}})
		}
		for _, a := range family.set.Addrs {
			m.Used([]dns.RR{record(c.Before.Name, a, 0)})
		}
	}
	for _, step := range c.steps() {
		if step.add {
			m.Insert([]dns.RR{record(c.Before.Name, step.addr, step.ttl)})
		} else {
			m.Remove([]dns.RR{record(c.Before.Name, step.addr, 0)})
		}
	}
	return s.send(ctx, c.Zone, c.Before.Name, m)
}

// send sends an update and says what its answer means.
func (s Server) send(ctx context.Context, zone, name string, m *dns.Msg) error {
	answer, err := s.exchange(ctx, m)
	if err != nil {
		return err
	}
	zone, name = shown(zone), shown(name)
	key := "no key is set (key-file)"
	if s.signed() {
		key = fmt.Sprintf("key %s has no right to change %s", shown(s.Key.Name), name)
	}
	switch answer.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNXRrset, dns.RcodeYXRrset:
		return s.fail(Changed, "if nobody else writes it, look for a wildcard that answers for "+name,
			"%s was changed by somebody else at the same time (%s)", name, code(answer.Rcode))
	case dns.RcodeRefused:
		return s.fail(Refused, "check update-policy, or allow-update, of the zone; end a freeze with rndc thaw "+zone,
			"name server %s refuses the update (REFUSED): %s, or zone %s is not dynamic, or frozen", s.Address, key, zone)
	case dns.RcodeNotAuth:
		return s.fail(NotAuthoritative, "set server to the zone's primary, and key-file to a key that it knows",
			"name server %s does not take updates of zone %s (NOTAUTH)", s.Address, zone)
	case dns.RcodeNotZone:
		return s.fail(NotInZone, "set zone to the zone that contains the record, or leave it out",
			"%s is not in zone %s (NOTZONE)", name, zone)
	case dns.RcodeServerFailure:
		return s.fail(ServerFailure, "see the log of the name server; the zone's directory must be writable for its journal, and BIND holds 100 records (max-records-per-type)",
			"name server %s cannot make the update (SERVFAIL)", s.Address)
	}
	return s.fail(OtherCode, "see the log of the name server; set server to the zone's primary",
		"name server %s answers the update of %s with %s", s.Address, name, code(answer.Rcode))
}

// exchange sends one message and returns its answer, with whatever response code,
// which is signed where it must be. Each message has a connection of its own: a
// dns.Conn cannot carry a second signed one, for it would sign the first one's
// signature too.
func (s Server) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	timeout := cmp.Or(s.Timeout, answerTimeout)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := s.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(limited, "tcp", s.Address)
	if err != nil {
		return nil, s.noConnection(ctx, err, timeout)
	}
	defer conn.Close()
	defer context.AfterFunc(limited, func() { conn.Close() })()

	client := dns.Client{Net: "tcp", Timeout: timeout}
	if s.signed() {
		m.SetTsig(s.Key.Name, dns.Fqdn(s.Key.Algorithm), uint16(fudge/time.Second), s.now().Unix())
		client.TsigProvider = signer(s.Key)
	}
	answer, _, err := client.ExchangeWithConnContext(limited, m, &dns.Conn{Conn: conn})
	if e := s.understood(ctx, limited, m, answer, err, timeout); e != nil {
		e.unsettled = m.Opcode == dns.OpcodeUpdate && slices.Contains(inDoubt, e.Problem)
		return nil, e
	}
	return answer, nil
}

// understood says why an answer is none, or is not to be trusted.
func (s Server) understood(ctx, limited context.Context, m, answer *dns.Msg, err error, timeout time.Duration) *Error {
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return s.interrupted(ctx)
	case err != nil && keyError(answer) != nil:
		return s.badKey(keyError(answer))
	case errors.Is(err, dns.ErrSig), errors.Is(err, dns.ErrTime), errors.Is(err, dns.ErrSecret), errors.Is(err, dns.ErrKeyAlg):
		return s.fail(Forged, "set server to the zone's primary itself: something on the way changes the answers",
			"the signature of the answer from name server %s is wrong (%v)", s.Address, err)
	case err != nil && limited.Err() != nil, errors.As(err, &network) && network.Timeout():
		return s.fail(Silent, "see whether the name server hangs, and whether it answers by TCP",
			"name server %s accepts the connection and does not reply within %s", s.Address, timeout)
	case err != nil && answer == nil:
		return s.fail(Silent, "see the log of the name server: it may allow too few connections (tcp-clients)",
			"name server %s ends the connection without a reply (%v)", s.Address, cause(err))
	case err != nil:
		return s.fail(Malformed, "", "the answer of name server %s cannot be read (%v)", s.Address, err)
	case !answer.Response, answer.Opcode != m.Opcode:
		return s.fail(Malformed, "", "name server %s sends something that is no answer", s.Address)
	case s.signed() && answer.IsTsig() == nil && slices.Contains(trusted, answer.Rcode):
		return s.fail(Unsigned, "set server to the zone's primary itself: another server, or a proxy, answers",
			"the answer of name server %s is not signed with key %s", s.Address, shown(s.Key.Name))
	}
	return nil
}

// inDoubt are the problems of an answer that was lost, or may be another's.
var inDoubt = []Problem{Silent, Interrupted, Malformed, Unsigned, Forged}

// trusted are the response codes that something is done about. Some servers sign
// no refusal, and that one is believed: it does nothing.
var trusted = []int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeNXRrset, dns.RcodeYXRrset}

// keyError is the TSIG record of an answer to a question whose signature was
// not accepted, nil for none. The answer's own code is NOTAUTH, or REFUSED where
// the key selects a view.
func keyError(answer *dns.Msg) *dns.TSIG {
	if answer == nil {
		return nil
	}
	if t := answer.IsTsig(); t != nil && (t.Error != 0 || answer.Rcode == dns.RcodeNotAuth) {
		return t
	}
	return nil
}

// badKey says what was wrong with that signature.
func (s Server) badKey(t *dns.TSIG) *Error {
	switch t.Error {
	case dns.RcodeBadKey:
		return s.fail(BadKey, "give the name server the key of key-file, with the same name, algorithm and secret, and the right to update",
			"name server %s does not accept the key %s (BADKEY)", s.Address, s.Key)
	case dns.RcodeBadSig:
		return s.fail(BadSecret, "copy the key from the name server to key-file again",
			"name server %s has another secret for the key %s (BADSIG)", s.Address, shown(s.Key.Name))
	case dns.RcodeBadTime:
		e := s.fail(BadTime, "set both clocks, with NTP", "the clocks of this machine and of name server %s differ by more than 5m (BADTIME)", s.Address)
		if unix, err := strconv.ParseInt(t.OtherData, 16, 64); err == nil {
			e.Time = time.Unix(unix, 0)
			off := e.Time.Sub(s.now()).Round(time.Second)
			where := "ahead of"
			if off < 0 {
				where = "behind"
			}
			e.Text = fmt.Sprintf("name server %s has a clock that is %s %s this machine's, more than 5m (BADTIME)", s.Address, off.Abs(), where)
		}
		return e
	case 0:
		return s.fail(NotAuthoritative, "set server to the zone's primary, and zone to one that it serves",
			"name server %s does not serve the zone (NOTAUTH)", s.Address)
	}
	return s.fail(OtherCode, "see the log of the name server",
		"name server %s does not accept the key %s (TSIG error %s)", s.Address, shown(s.Key.Name), code(int(t.Error)))
}

func (s Server) now() time.Time { return time.Now().Add(s.skew) }

func (s Server) signed() bool { return s.Key.Name != "" }

// signer is the library's provider of signatures for one key. The library's own
// looks the key up by the name as the answer spells it.
type signer Key

func (k signer) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	return Key(k).sign(msg), nil
}

func (k signer) Verify(msg []byte, t *dns.TSIG) error {
	if !strings.EqualFold(t.Hdr.Name, k.Name) || !strings.EqualFold(t.Algorithm, dns.Fqdn(k.Algorithm)) {
		return dns.ErrSecret
	}
	if mac, err := hex.DecodeString(t.MAC); err != nil || !hmac.Equal(mac, Key(k).sign(msg)) {
		return dns.ErrSig
	}
	return nil
}

// record is one record of a name.
func record(name string, a netip.Addr, ttl time.Duration) dns.RR {
	hdr := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: seconds(ttl)}
	if a.Is4() {
		hdr.Rrtype = dns.TypeA
		return &dns.A{Hdr: hdr, A: a.AsSlice()}
	}
	hdr.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()}
}

// address is that of a record.
func address(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		a, ok := netip.AddrFromSlice(rr.A)
		return a.Unmap(), ok
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return netip.Addr{}, false
}

// code is a response code as DNS tools print it.
func code(rcode int) string { return cmp.Or(dns.RcodeToString[rcode], strconv.Itoa(rcode)) }
