package check

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"pingover/internal/lab"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	const hosts = `cat >>/etc/hosts <<-E
		2001:db8::5 both
		172.16.0.5 both
		172.16.0.6 both
		172.16.0.5 both
		2001:db8::6 six
		fe80::7%lo linklocal
	E
	`
	for _, c := range []struct {
		name, before, host string
		dns                func([]byte) []byte // the name server's reply; nil: none
		want, err          string
	}{
		{name: "an address is not looked up", host: "172.16.0.2", want: "172.16.0.2"},
		{name: "a zone stays", host: "fe80::1%eth0", want: "fe80::1%eth0"},
		{name: "IPv4 written as IPv6", host: "::ffff:172.16.0.2", want: "172.16.0.2"},
		{name: "hosts file, IPv4 first", before: hosts, host: "both", want: "172.16.0.5 172.16.0.6 2001:db8::5"},
		{name: "hosts file, IPv6 alone", before: hosts, host: "six", want: "2001:db8::6"},
		{name: "hosts file, with a zone", before: hosts, host: "linklocal", want: "fe80::7%lo"},
		{name: "the host's own name", host: "localhost", want: "127.0.0.1 ::1"},
		{name: "DNS", host: "db.example.org", dns: answerA, want: "172.16.0.8"},
		{
			name: "no such name", host: "db.example.org", dns: answerNone,
			err: `resolve "db.example.org": no such host (name server 127.0.0.1:53)`,
		},
		{
			name: "a name without an address", host: "db.example.org", dns: answerNothing,
			err: `resolve "db.example.org": no such host (name server 127.0.0.1:53)`,
		},
		{
			name: "a silent name server", host: "db.example.org",
			err: `resolve "db.example.org": no answer from the name servers within 300ms`,
		},
		{
			name: "no name server", before: "echo nameserver 127.0.0.2 >/etc/resolv.conf", host: "db.example.org",
			err: `resolve "db.example.org": connection refused (name server 127.0.0.2:53)`,
		},
		{
			name: "a name server that cannot be reached", before: "echo nameserver 192.0.2.1 >/etc/resolv.conf", host: "db.example.org",
			err: `resolve "db.example.org": network is unreachable (name server 192.0.2.1:53)`,
		},
		{name: "not a name", host: "two words", err: `resolve "two words": no such host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, err := lab.ForTest(t).Add("standby")
			if err != nil {
				t.Fatal(err)
			}
			nameServer(t, h, c.dns)
			must(t, h, "sh", "-ec", "echo nameserver 127.0.0.1 >/etc/resolv.conf\n"+c.before)
			got := on(t, h, task{Resolve: c.host, ResolveTimeout: 300 * ms}, nil)
			if c.err == "" && got.Address != c.want || got.Err != c.err {
				t.Errorf("%s, %q, want %s, %q", got.Address, got.Err, c.want, c.err)
			}
			if got.Took > 5*time.Second {
				t.Errorf("took %s", got.Took)
			}
		})
	}
}

// nameServer replies on port 53 of a host's loopback; nil does not reply.
func nameServer(t *testing.T, h *lab.Host, answer func([]byte) []byte) {
	t.Helper()
	var conn net.PacketConn
	if err := h.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", "127.0.0.1:53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for question := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if answer != nil {
				conn.WriteTo(answer(question[:n]), from)
			}
		}
	}()
}

// answerA has an IPv4 address for every name.
func answerA(question []byte) []byte {
	return reply(question, func(m *dnsmessage.Message) {
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{172, 16, 0, 8}},
			}}
		}
	})
}

// answerNone has no name.
func answerNone(question []byte) []byte {
	return reply(question, func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })
}

// answerNothing has every name, without addresses.
func answerNothing(question []byte) []byte {
	return reply(question, func(*dnsmessage.Message) {})
}

func reply(question []byte, fill func(*dnsmessage.Message)) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	fill(&m)
	packed, _ := m.Pack()
	return packed
}

func TestResolveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Resolve(ctx, "primary.invalid", time.Minute)
	if err == nil || err.Error() != `resolve "primary.invalid": context canceled` || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
