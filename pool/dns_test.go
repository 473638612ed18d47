package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

var wwwKey = Key{"www.", "hmac-sha256", hidden}

// fake is a name server that answers as a test says: nil is silence. It signs as
// the question was signed, unless the answer has a TSIG record already.
func fake(answer func(q *dns.Msg) *dns.Msg) Server {
	return pipe(func(conn net.Conn) {
		c := &dns.Conn{Conn: conn}
		q := ask(c)
		if q == nil {
			return
		}
		m := answer(q)
		if m == nil {
			ask(c) // until the client is gone
			return
		}
		var text []byte
		if t := q.IsTsig(); t != nil && m.IsTsig() == nil {
			m.SetTsig(t.Hdr.Name, t.Algorithm, 300, time.Now().Unix())
			m.IsTsig().OrigId = q.Id
			text, _, _ = dns.TsigGenerate(m, hidden, t.MAC, false)
		} else {
			text = packed(m)
		}
		c.Write(text)
	})
}

// unsigned is an answer that fake does not sign.
func unsigned(answer func(q *dns.Msg) *dns.Msg) Server {
	return pipe(func(conn net.Conn) {
		c := &dns.Conn{Conn: conn}
		if q := ask(c); q != nil {
			c.Write(packed(answer(q)))
		}
	})
}

func packed(m *dns.Msg) []byte {
	text, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return text
}

// ask reads a question; nil: there is none.
func ask(c *dns.Conn) *dns.Msg {
	text, err := c.ReadMsgHeader(nil)
	q := new(dns.Msg)
	if err != nil || q.Unpack(text) != nil {
		return nil
	}
	return q
}

func pipe(serve func(conn net.Conn)) Server {
	return Server{Address: "192.0.2.53:53", Key: wwwKey, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			serve(server)
			server.Close()
		}()
		return client, nil
	}}
}

// reply is an authoritative answer with these records.
func reply(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// The library takes an unsigned answer to a signed question for a good one.
func TestAnAnswerMustBeSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := []string{"host1.zone.com. 60 A 10.2.2.10", "host1.zone.com. 60 A 10.2.2.11"}
		s := unsigned(func(q *dns.Msg) *dns.Msg { return reply(q, published...) })
		want := Error{
			Problem: Unsigned, Text: "the answer of name server 192.0.2.53:53 is not signed with key www",
			Hint: "set server to the zone's primary itself: another server, or a proxy, answers",
		}
		_, err := s.Read(t.Context(), www)
		wantError(t, err, want)
		_, err = s.FindZone(t.Context(), www)
		wantError(t, err, want)
		wantError(t, s.TestUpdate(t.Context(), "zone.com.", Set{Name: www}, ips("10.2.2.10")...), want)
		set := set4("10.2.2.10", "10.2.2.11")
		_, err = s.Publish(t.Context(), change(set, ips("10.2.2.10"), nil, 0))
		want.Text = "it is not known whether host1.zone.com was updated: " + want.Text
		wantError(t, err, want)
		if EffectOf(err) != Open {
			t.Errorf("effect %v", EffectOf(err))
		}
		// PowerDNS signs no refusal.
		s = unsigned(func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) })
		if _, err = s.Publish(t.Context(), change(set, ips("10.2.2.10"), nil, 0)); ProblemOf(err) != Refused || EffectOf(err) != Untouched {
			t.Errorf("an unsigned refusal: %v", err)
		}
		// Without a key no signature is wanted, and any is one too many.
		s = unsigned(func(q *dns.Msg) *dns.Msg { return reply(q, published...) })
		s.Key = Key{}
		if got, err := s.Read(t.Context(), www); err != nil || len(got.Addrs()) != 2 {
			t.Errorf("without a key: %v, %v", got, err)
		}
	})
}

// The library signs the second message on a dns.Conn as if it went on with the
// first one. When this test fails, a connection could be used twice.
func TestAConnectionCarriesOneSignedMessage(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		c := &dns.Conn{Conn: server}
		for {
			text, err := c.ReadMsgHeader(nil)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			m.Rcode = dns.RcodeSuccess
			if dns.TsigVerify(text, hidden, "", false) != nil {
				m.Rcode = dns.RcodeNotAuth
			}
			c.Write(packed(m))
		}
	}()
	one := &dns.Conn{Conn: client, TsigSecret: map[string]string{"www.": hidden}}
	var codes []int
	for _, c := range []*dns.Conn{one, one, {Conn: client, TsigSecret: one.TsigSecret}} {
		m := new(dns.Msg).SetQuestion(www, dns.TypeA)
		m.SetTsig("www.", dns.HmacSHA256, 300, time.Now().Unix())
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		answer, err := c.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, answer.Rcode)
	}
	if got := fmt.Sprint(codes); got != "[0 9 0]" {
		t.Errorf("codes %s, want the second one refused: [0 9 0]", got)
	}
}

// The library's error says "bad authentication" only: the reason is in the TSIG
// record, whatever the answer's own code is.
func TestTheReasonIsInTheTSIGRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			rcode int
			tsig  uint16
			other string
			want  Problem
			text  string
		}{
			{dns.RcodeNotAuth, dns.RcodeBadKey, "", BadKey, "name server 192.0.2.53:53 does not accept the key www (hmac-sha256) (BADKEY)"},
			{dns.RcodeNotAuth, dns.RcodeBadSig, "", BadSecret, "name server 192.0.2.53:53 has another secret for the key www (BADSIG)"},
			{dns.RcodeRefused, dns.RcodeBadSig, "", BadSecret, "name server 192.0.2.53:53 has another secret for the key www (BADSIG)"},
			{dns.RcodeNotAuth, dns.RcodeBadTime, fmt.Sprintf("%012x", time.Now().Add(-time.Hour).Unix()), BadTime, "name server 192.0.2.53:53 has a clock that is 1h0m0s behind this machine's, more than 5m (BADTIME)"},
			{dns.RcodeNotAuth, dns.RcodeBadTime, "", BadTime, "the clocks of this machine and of name server 192.0.2.53:53 differ by more than 5m (BADTIME)"},
			{dns.RcodeNotAuth, dns.RcodeBadTrunc, "", OtherCode, "name server 192.0.2.53:53 does not accept the key www (TSIG error BADTRUNC)"},
			{dns.RcodeNotAuth, 0, "", NotAuthoritative, "name server 192.0.2.53:53 does not serve the zone (NOTAUTH)"},
		} {
			s := fake(func(q *dns.Msg) *dns.Msg {
				m := new(dns.Msg).SetRcode(q, tt.rcode)
				m.SetTsig("www.", dns.HmacSHA256, 300, time.Now().Unix())
				*m.IsTsig() = dns.TSIG{
					Hdr: m.IsTsig().Hdr, Algorithm: dns.HmacSHA256, Error: tt.tsig,
					OtherData: tt.other, OtherLen: uint16(len(tt.other) / 2),
				}
				return m
			})
			_, err := s.Read(t.Context(), www)
			if ProblemOf(err) != tt.want || err.Error() != tt.text {
				t.Errorf("%d, %d: %v", tt.rcode, tt.tsig, err)
			}
			if _, err := s.Publish(t.Context(), change(set4("10.2.2.10"), nil, ips("10.2.2.11"), 0)); ProblemOf(err) != tt.want || EffectOf(err) != Untouched {
				t.Errorf("%d, %d, update: %v", tt.rcode, tt.tsig, err)
			}
		}
	})
}

// Answers that are none, or not about the name itself.
func TestOddAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const good = "host1.zone.com. 60 A 10.2.2.10"
		for name, tt := range map[string]struct {
			answer func(q *dns.Msg) *dns.Msg
			want   string // of the error, else of the set
		}{
			"good": {func(q *dns.Msg) *dns.Msg { return reply(q, good) }, "[10.2.2.10]"},
			"the key in capitals": {func(q *dns.Msg) *dns.Msg {
				q.IsTsig().Hdr.Name = "WWW."
				return reply(q, good)
			}, "[10.2.2.10]"},
			"the name in capitals": {func(q *dns.Msg) *dns.Msg { return reply(q, "HOST1.zone.COM. 60 A 10.2.2.10") }, "[10.2.2.10]"},
			"another owner beside": {func(q *dns.Msg) *dns.Msg { return reply(q, good, "web.zone.com. 60 A 10.2.2.99") }, "[10.2.2.10]"},
			"a record twice":       {func(q *dns.Msg) *dns.Msg { return reply(q, good, good) }, "[10.2.2.10]"},
			"an alias": {
				func(q *dns.Msg) *dns.Msg {
					return reply(q, "Host1.zone.com. 60 CNAME web.zone.com.", "web.zone.com. 60 A 10.2.2.99")
				},
				"host1.zone.com is an alias (CNAME) of web.zone.com",
			},
			"a resolver": {
				func(q *dns.Msg) *dns.Msg { m := reply(q, good); m.Authoritative = false; return m },
				"name server 192.0.2.53:53 is not authoritative for host1.zone.com",
			},
			"cut off": {
				func(q *dns.Msg) *dns.Msg { m := reply(q, good); m.Truncated = true; return m },
				"name server 192.0.2.53:53 does not answer the question for host1.zone.com",
			},
			"another question": {
				func(q *dns.Msg) *dns.Msg { m := reply(q, good); m.Question[0].Name = "host2.zone.com."; return m },
				"name server 192.0.2.53:53 does not answer the question for host1.zone.com",
			},
			"no answer": {
				func(q *dns.Msg) *dns.Msg { m := reply(q, good); m.Response = false; return m },
				"name server 192.0.2.53:53 sends something that is no answer",
			},
			"servfail": {
				func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure) },
				"name server 192.0.2.53:53 cannot answer for host1.zone.com (SERVFAIL)",
			},
			"not implemented": {
				func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented) },
				"name server 192.0.2.53:53 answers the question for host1.zone.com with NOTIMP",
			},
		} {
			got, err := fake(tt.answer).Read(t.Context(), www)
			text := fmt.Sprint(got.Addrs())
			if err != nil {
				text = err.Error()
			}
			if text != tt.want {
				t.Errorf("%s: %s, want %s", name, text, tt.want)
			}
		}
		for _, text := range [][]byte{{}, {0, 1, 2}, {0, 5, 1, 2, 3, 4, 5}, {0, 12, 0, 0, 0, 0, 0, 9, 0, 9, 0, 9, 0, 9}} {
			s := pipe(func(conn net.Conn) {
				ask(&dns.Conn{Conn: conn})
				conn.Write(text)
			})
			if _, err := s.Read(t.Context(), www); ProblemOf(err) != Silent && ProblemOf(err) != Malformed {
				t.Errorf("% x: %v", text, err)
			}
		}
		s := unsigned(func(q *dns.Msg) *dns.Msg { m := reply(q, good); m.Id++; return m })
		s.Key = Key{}
		_, err := s.Read(t.Context(), www)
		wantError(t, err, Error{Problem: Malformed, Text: "the answer of name server 192.0.2.53:53 cannot be read (dns: id mismatch)"})
		// A signature with another secret.
		s = fake(func(q *dns.Msg) *dns.Msg { return reply(q, good) })
		s.Key.secret = "b3RoZXI="
		_, err = s.Read(t.Context(), www)
		wantError(t, err, Error{
			Problem: Forged, Text: "the signature of the answer from name server 192.0.2.53:53 is wrong (dns: bad signature)",
			Hint: "set server to the zone's primary itself: something on the way changes the answers",
		})
	})
}

// No server makes a run hang: one that is silent, one that sends a byte a second,
// one that is not there; and the context ends each of them at once.
func TestNothingHangs(t *testing.T) {
	drip := pipe(func(conn net.Conn) {
		ask(&dns.Conn{Conn: conn})
		for _, b := range binary.BigEndian.AppendUint16(nil, 60000) {
			conn.Write([]byte{b})
		}
		for {
			time.Sleep(time.Second)
			if _, err := conn.Write([]byte{0}); err != nil {
				return
			}
		}
	})
	silent := fake(func(*dns.Msg) *dns.Msg { return nil })
	absent := Server{Address: "192.0.2.53:53", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	for name, s := range map[string]Server{"silent": silent, "drip": drip, "absent": absent} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			if _, err := s.Read(t.Context(), www); ProblemOf(err) != Silent && ProblemOf(err) != Unreachable || time.Since(begin) != 5*time.Second {
				t.Errorf("%s: %v after %s", name, err, time.Since(begin))
			}
			begin = time.Now()
			do := change(set4("10.2.2.10"), nil, ips("10.2.2.11"), 0)
			if _, err := s.Publish(t.Context(), do); err == nil || time.Since(begin) > 11*time.Second {
				t.Errorf("%s, update: %v after %s", name, err, time.Since(begin))
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begin = time.Now()
			_, err := s.Publish(ctx, do)
			if !errors.Is(err, context.Canceled) || ProblemOf(err) != Interrupted || time.Since(begin) != time.Second {
				t.Errorf("%s, interrupted: %v after %s", name, err, time.Since(begin))
			}
			if want := map[string]Effect{"absent": Untouched}[name]; name == "absent" && EffectOf(err) != want || name != "absent" && EffectOf(err) != Open {
				t.Errorf("%s: effect %v", name, EffectOf(err))
			}
			s.Timeout = 100 * time.Millisecond
			begin = time.Now()
			if _, err := s.Read(t.Context(), www); err == nil || time.Since(begin) != 100*time.Millisecond {
				t.Errorf("%s: %v after %s", name, err, time.Since(begin))
			}
			time.Sleep(time.Minute) // until the server has noticed
		})
	}
}

// forwarder answers an update at once, and shows it after a while.
type forwarder struct {
	published []string
	after     time.Duration
	lost      bool // no answer comes to an update

	mu   sync.Mutex
	made time.Time
}

func (f *forwarder) answer(q *dns.Msg) *dns.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	if q.Opcode == dns.OpcodeUpdate {
		f.made = time.Now()
		if f.lost {
			return nil
		}
		return new(dns.Msg).SetReply(q)
	}
	records := f.published
	if !f.made.IsZero() && time.Since(f.made) >= f.after {
		records = records[1:]
	}
	return reply(q, records...)
}

func TestAnUpdateIsReadBack(t *testing.T) {
	for name, tt := range map[string]struct {
		f      *forwarder
		effect Effect
		text   string
		atMost time.Duration
	}{
		"at once":                        {&forwarder{}, Published, "", 0},
		"after four seconds":             {&forwarder{after: 4 * time.Second}, Published, "", 5 * time.Second},
		"never":                          {&forwarder{after: time.Hour}, Open, "name server 192.0.2.53:53 accepted the update, but does not publish it within 6s", 6 * time.Second},
		"its answer is lost, it is made": {&forwarder{lost: true}, Published, "", 5 * time.Second},
		"its answer is lost, it is not": {
			&forwarder{lost: true, after: time.Hour},
			Open, "it is not known whether host1.zone.com was updated: name server 192.0.2.53:53 accepts the connection and does not reply within 5s", 11 * time.Second,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := tt.f
			f.published = []string{"host1.zone.com. 60 A 10.2.2.10", "host1.zone.com. 60 A 10.2.2.11"}
			begin := time.Now()
			set, err := fake(f.answer).Publish(t.Context(), change(set4("10.2.2.10", "10.2.2.11"), ips("10.2.2.10"), nil, 0))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if EffectOf(err) != tt.effect || text != tt.text || time.Since(begin) > tt.atMost {
				t.Errorf("%s: effect %v, %v after %s", name, EffectOf(err), err, time.Since(begin))
			}
			if got := len(set.Addrs()); got != map[Effect]int{Published: 1, Open: 2}[tt.effect] {
				t.Errorf("%s: %d records", name, got)
			}
		})
	}
}

// An update names both sets exactly as they were read.
func TestWhatAnUpdateSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got string
		s := fake(func(q *dns.Msg) *dns.Msg {
			if q.Opcode == dns.OpcodeUpdate {
				for _, rr := range append(q.Answer, q.Ns...) {
					got += strings.Join(strings.Fields(rr.String()), " ") + "\n"
				}
			}
			return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
		})
		before := set4("10.2.2.10", "10.2.2.11")
		s.Publish(t.Context(), change(before, ips("10.2.2.11"), ips("2001:db8::1"), time.Minute))
		const want = "host1.zone.com. 0 IN A 10.2.2.10\nhost1.zone.com. 0 IN A 10.2.2.11\nhost1.zone.com. 0 NONE AAAA\n" +
			"host1.zone.com. 0 NONE A 10.2.2.11\nhost1.zone.com. 60 IN AAAA 2001:db8::1\n"
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}
