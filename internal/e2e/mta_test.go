package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// The email of a takeover, handed to a mailer that is not ours: exim, as
// Debian has it, at 172.16.0.9 and as the standby's own sendmail.

// eximConf accepts mail for all users of example.org but nobody, into one
// maildir.
const eximConf = `
primary_hostname = mx.example.org
spool_directory = /var/lib/exim
log_file_path = /var/lib/exim/%slog
pid_file_path = /run/exim.pid
daemon_smtp_ports = 25 : 465
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = /etc/exim4/cert.pem
acl_smtp_rcpt = rcpt
keep_environment =

begin acl
rcpt:
  deny   message = no such person here
         local_parts = nobody
  accept domains = example.org
  deny   message = relay not permitted

begin routers
here:
  driver = accept
  domains = example.org
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = /var/lib/exim/mail
  maildir_format
  envelope_to_add
  user = Debian-exim
`

// toExim are the usual settings with the default time for mail: exim starts a
// process for each connection, of which there are two where TLS fails.
var toExim = set(withVIP, "--mail-timeout", "15s")

func TestExim(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		via  string
		ca   bool // exim's certificate is known
		with string
	}{
		"smtp, by TLS": {via: "smtp://172.16.0.9", ca: true, with: "esmtps"},
		"smtp, without TLS where the certificate is bad": {via: "smtp://172.16.0.9", with: "esmtp"},
		"smtp+starttls": {via: "smtp+starttls://172.16.0.9:25", ca: true, with: "esmtps"},
		"smtps":         {via: "smtps://172.16.0.9", ca: true, with: "esmtps"},
		"sendmail":      {via: "sendmail:///usr/sbin/exim4", with: "local"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, certificate := newEximScene(t)
			args := set(toExim, "--mail-via", test.via)
			if test.ca {
				args = append(args, "--mail-ca", certificate)
			}
			at := s.Client
			if test.with == "local" {
				at = s.Standby
			}
			s.must(s.Primary.PowerOff())
			if e := s.check(s.Standby, args...).want(t, state.TookOver); e.MailWaiting != 0 {
				t.Fatalf("mail is pending: %s", *s.record(s.Standby).MailError)
			}
			l := s.wantDelivered(at, "ops@example.org")
			if received := l.header.Get("Received"); !strings.Contains(received, " with "+test.with+" ") {
				t.Errorf("received %q, want it with %s", received, test.with)
			}
			want := map[string]string{
				"From": "<pingover@standby>", "To": "<ops@example.org>", "Auto-Submitted": "auto-generated",
				"Subject":    "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1",
				"Message-Id": s.record(s.Standby).Thread, // of the email about the takeover
			}
			if test.with == "local" {
				want["From"] = "pingover on standby <pingover@mx.example.org>"
			}
			got := map[string]string{}
			for key := range want {
				got[key] = l.header.Get(key)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			l.says(t, "standby has taken over 172.16.0.1")
			l.says(t, "primary 172.16.0.2, virtual IP 172.16.0.1/32, interface eth0")
			if diff := cmp.Diff(l.text(t), l.body); diff != "" {
				t.Errorf("who reads it without decoding it sees (-text +seen):\n%s", diff)
			}
		})
	}
}

// An email that could not be sent with the TLS that was demanded is in the
// record, and is sent unchanged once the certificate is known.
func TestEximWithABadCertificateGetsNothingWithoutTLS(t *testing.T) {
	s, certificate := newEximScene(t)
	args := set(toExim, "--mail-via", "smtp+starttls://172.16.0.9:25")
	s.must(s.Primary.PowerOff())

	if e := s.check(s.Standby, args...).want(t, state.TookOver); e.MailWaiting != 1 {
		t.Errorf("%d emails pending, want 1", e.MailWaiting)
	}
	rec := s.record(s.Standby)
	if len(rec.Outbox) != 1 || rec.MailError == nil || !strings.Contains(*rec.MailError, "certificate signed by unknown authority") {
		t.Fatalf("mail error %v, outbox %+v", rec.MailError, rec.Outbox)
	}
	if l := s.delivered(s.Client); len(l) != 0 {
		t.Fatalf("delivered all the same: %+v", l)
	}

	if e := s.check(s.Standby, append(args, "--mail-ca", certificate)...).want(t, state.Holding); e.MailWaiting != 0 {
		t.Errorf("%d emails pending, want none", e.MailWaiting)
	}
	l, queued := s.wantDelivered(s.Client, "ops@example.org"), rec.Outbox[0]
	if l.id != queued.MessageID || l.subject != queued.Subject {
		t.Errorf("delivered %s %q, want %s %q", l.id, l.subject, queued.MessageID, queued.Subject)
	}
	if diff := cmp.Diff(queued.Body, l.text(t)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestEximRejectsOneRecipient(t *testing.T) {
	s, _ := newEximScene(t)
	args := append(set(toExim, "--mail-via", "smtp://172.16.0.9", "--mail-to", "nobody@example.org"),
		"--mail-to", "ops@example.org", "--mail-to", "boss@example.com", "--mail-to", "root@example.org")
	s.must(s.Primary.PowerOff())

	for _, outcome := range []state.Outcome{state.TookOver, state.Holding} {
		if e := s.check(s.Standby, args...).want(t, outcome); e.MailWaiting != 1 {
			t.Errorf("%d emails pending, want 1", e.MailWaiting)
		}
		s.wantDelivered(s.Client, "ops@example.org", "root@example.org")
		rec := s.record(s.Standby)
		if diff := cmp.Diff([]string{"nobody@example.org", "boss@example.com"}, rec.Outbox[0].To); diff != "" {
			t.Errorf("recipients that are left (-want +got):\n%s", diff)
		}
		for _, answer := range []string{
			"mail to nobody@example.org via smtp://172.16.0.9:25: 550 no such person here",
			"mail to boss@example.com via smtp://172.16.0.9:25: 550 relay not permitted",
		} {
			if rec.MailError == nil || !strings.Contains(*rec.MailError, answer) {
				t.Errorf("the record does not say %q", answer)
			}
		}
	}
}

// Mail to root as cron hands it over reaches root's mailbox with MTAs as Debian
// installs them on a host with a short name: their aliases, domain and default
// sender apply.
func TestMailToRootOnAHostWithAShortName(t *testing.T) {
	t.Parallel()
	args := set(withVIP, "--mail-to", "root", "--mail-timeout", "15s")
	setup := `
		printf '127.0.0.1 localhost\n127.0.1.1 standby.example.net standby\n' >/etc/hosts
		echo standby.example.net >/etc/mailname
		printf 'root: ops@example.org\n' >/etc/aliases
	`
	t.Run("exim4", func(t *testing.T) {
		lab.Need(t, "/usr/sbin/update-exim4.conf", "exim4-daemon-light")
		needGroups(t)
		s := newScene(t)
		s.run(s.Standby, "sh", "-ec", setup+`
			printf '' >/etc/aliases
			mkdir -p /var/lib/exim4
			for dir in /var/mail /var/spool /var/log; do mount -t tmpfs -o mode=0755 lab $dir; done
			chgrp mail /var/mail; chmod 2775 /var/mail
			install -d -o Debian-exim -g adm -m 2750 /var/log/exim4
			install -d -o Debian-exim -g Debian-exim -m 0750 /var/spool/exim4
			cat >/etc/exim4/update-exim4.conf.conf <<-'end'
				dc_eximconfig_configtype='local'
				dc_other_hostnames='standby.example.net'
				dc_local_interfaces='127.0.0.1 ; ::1'
				dc_use_split_config='false'
				dc_localdelivery='mail_spool'
			end
			rm -f /etc/exim4/exim4.conf
			update-exim4.conf`)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, set(args, "--mail-via", "sendmail:///usr/sbin/exim4")...).want(t, state.TookOver)
		var text string
		s.within(20*time.Second, "root has mail", func() bool {
			text = s.run(s.Standby, "sh", "-c", "cat /var/mail/* 2>/dev/null; true")
			return text != ""
		})
		_, text, _ = strings.Cut(text, "\n") // From_ line of the mbox
		got := map[string]string{}
		want := map[string]string{
			"From": "pingover on standby <pingover@standby.example.net>", "To": "root@standby.example.net",
			"Return-Path": "<root@standby.example.net>", "X-Pingover-Outcome": "took-over",
			"Subject": "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1",
		}
		m := s.readEmail(text)
		for key := range want {
			got[key] = m.header.Get(key)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
	})
	t.Run("msmtp", func(t *testing.T) {
		lab.Need(t, "/usr/bin/msmtp", "msmtp")
		s := newScene(t)
		s.run(s.Standby, "sh", "-ec", setup+`
			printf '%s\n' 'defaults' 'aliases /etc/aliases' 'account default' 'host 172.16.0.254' 'from alarm@example.org' >/etc/msmtprc`)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, set(args, "--mail-via", "sendmail:///usr/bin/msmtp")...).want(t, state.TookOver)
		m := s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")[0]
		if m.to != "ops@example.org" {
			t.Errorf("delivered to %q, want root's alias", m.to)
		}
	})
}

// newEximScene is a scene with exim's daemon on the client and its sendmail on
// the standby, and the file of its certificate, which is signed by itself.
func newEximScene(t *testing.T) (s *scene, certificate string) {
	t.Helper()
	lab.Need(t, "/usr/sbin/exim4", "exim4-daemon-light")
	needGroups(t)
	s = newScene(t)
	certificate = filepath.Join(t.TempDir(), "cert.pem")
	key, cert := s.certificate("172.16.0.9")
	s.must(os.WriteFile(certificate, cert, 0o644))
	for _, h := range []*lab.Host{s.Client, s.Standby} {
		s.run(h, "sh", "-ec", `
			printf %s "$1" >/etc/exim4/exim4.conf
			printf %s "$2" >/etc/exim4/cert.pem
			install -d -o Debian-exim -g Debian-exim /var/lib/exim
		`, "sh", eximConf, string(key)+string(cert))
	}

	ctx, cancel := context.WithCancel(context.Background())
	daemon := s.Client.Command(ctx, "exim4", "-bdf")
	var output bytes.Buffer
	daemon.Stdout, daemon.Stderr = &output, &output
	daemon.WaitDelay = time.Second
	s.must(daemon.Start())
	t.Cleanup(func() {
		cancel()
		daemon.Wait()
		if t.Failed() {
			log, _ := s.Client.Run("cat", "/var/lib/exim/mainlog")
			t.Logf("exim: %s\n%s", &output, log)
		}
	})
	s.within(20*time.Second, "exim listens", func() bool {
		err := s.Standby.Do(func() error {
			conn, err := net.Dial("tcp", "172.16.0.9:25")
			if err == nil {
				conn.Close()
			}
			return err
		})
		return err == nil
	})
	return s, certificate
}

// certificate makes one for an address, with its key, both in PEM.
func (s *scene) certificate(address string) (key, cert []byte) {
	s.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	s.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	s.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// delivered are the emails in a host's maildir.
func (s *scene) delivered(h *lab.Host) map[string]email {
	s.t.Helper()
	emails := map[string]email{}
	for _, path := range strings.Fields(s.run(h, "find", "/var/lib/exim", "-path", "*/mail/new/*")) {
		l := s.readEmail(s.run(h, "cat", path))
		l.to = l.header.Get("Envelope-To")
		if _, twice := emails[l.to]; twice {
			s.t.Errorf("%s had two emails", l.to)
		}
		emails[l.to] = l
	}
	return emails
}

// wantDelivered waits until these recipients have had their email, and fails
// the test unless each had one, and no one else. It returns that of the first.
func (s *scene) wantDelivered(h *lab.Host, to ...string) email {
	s.t.Helper()
	var emails map[string]email
	s.within(20*time.Second, "the emails are delivered", func() bool {
		emails = s.delivered(h)
		return len(emails) >= len(to)
	})
	for _, name := range to {
		if _, ok := emails[name]; !ok || len(emails) != len(to) {
			s.t.Fatalf("emails %v, want those to %q", emails, to)
		}
	}
	return emails[to[0]]
}

// readEmail reads an email as it lies in a file.
func (s *scene) readEmail(text string) email {
	s.t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		s.t.Fatalf("no mail: %v\n%s", err, text)
	}
	body, err := io.ReadAll(m.Body)
	s.must(err)
	return email{
		to: m.Header.Get("To"), subject: m.Header.Get("Subject"), id: m.Header.Get("Message-ID"), body: string(body), header: m.Header,
	}
}

// text is the body as it was before it was encoded.
func (l email) text(t testing.TB) string {
	t.Helper()
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(l.body)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
