package e2e

import (
	"bytes"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What doctor finds on real hosts, healthy and not.

// doctor runs it on the standby, and returns what it printed, without what
// depends on a clock.
func (s *scene) doctor(args ...string) (stdout string, code int) {
	s.t.Helper()
	cmd := s.command(s.Standby, append([]string{"doctor", "--verbose"}, args...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	if stderr.Len() > 0 {
		s.t.Errorf("stderr: %s", &stderr)
	}
	text := regexp.MustCompile(`[0-9.]+ ms`).ReplaceAllString(out.String(), "N ms")
	// The dialler, the limit for all mail or the kernel, whichever gives up first.
	for _, other := range []string{"i/o timeout", "connect: no route to host"} {
		text = strings.ReplaceAll(text, "dial tcp 172.16.0.254:25: "+other, "not done within 2s")
	}
	return regexp.MustCompile(`was [0-9]+s ago`).ReplaceAllString(text, "was Ns ago"), cmd.ProcessState.ExitCode()
}

// ill are the problems, each followed by its fix.
func ill(stdout string) (lines []string) {
	for line := range strings.Lines(stdout) {
		switch text, fix := strings.CutPrefix(strings.TrimSpace(line), "→ "); {
		case fix:
			lines[len(lines)-1] += " → " + text
		case strings.HasPrefix(line, "fail ") || strings.HasPrefix(line, "warn "):
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines
}

func TestDoctorFindsAHealthyClusterHealthy(t *testing.T) {
	s := shortScene(t)
	ip, err := exec.LookPath("ip")
	s.must(err)
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	s.check(s.Standby, both...)
	before := s.run(s.Standby, "sh", "-c", "ip addr; ls -l /var/lib/pingover; cat /var/lib/pingover/web.json")

	const verdict = "ready: nothing must be fixed\n"
	want := `ok    this process may ping
ok    this process may change addresses, and so may its tool
ok    state directory /var/lib/pingover
ok    the last check was Ns ago
ok    tool: ip of iproute2 (` + ip + `)
ok    host 172.16.0.2: on the link of eth0
ok    interface "eth0" is up and has a carrier
ok    pings come from 172.16.0.3
ok    a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1
ok    a takeover runs: ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0
ok    primary 172.16.0.2 replies to pings (N ms)
ok    primary 172.16.0.2 is at 02:00:00:00:00:02 (ARP)
ok    witness 172.16.0.254 replies (ping)
ok    vip 172.16.0.1 is in use by the primary (02:00:00:00:00:02)
ok    vip 2001:db8::1 is in use by the primary (02:00:00:00:00:02)
ok    mail to ops@example.org via smtp://172.16.0.254:25: the server replies, no TLS
`
	stdout, code := s.doctor("web") // by its name, as the check had it
	if diff := cmp.Diff(want+verdict, stdout); diff != "" || code != 0 {
		t.Errorf("exit code %d (-want +got):\n%s", code, diff)
	}
	s.mail.want(t)

	stdout, code = s.doctor(append(both, "--send-mail")...)
	want += "ok    mail to ops@example.org: accepted: 2.0.0 OK: queued\n"
	if diff := cmp.Diff(want+verdict, stdout); diff != "" || code != 0 {
		t.Errorf("exit code %d (-want +got):\n%s", code, diff)
	}
	s.mail.want(t, "[pingover] web: test message from standby")

	if diff := cmp.Diff(before, s.run(s.Standby, "sh", "-c", "ip addr; ls -l /var/lib/pingover; cat /var/lib/pingover/web.json")); diff != "" {
		t.Errorf("it changed something (-before +after):\n%s", diff)
	}
}

func TestDoctorFindsFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		args  []string
		fault func(s *scene)
		want  []string
	}{
		{
			name: "a full disk",
			fault: func(s *scene) {
				s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/var/lib/pingover")
			},
			want: []string{
				"fail state directory /var/lib/pingover: only 64 KiB are free → make room, or choose another state-dir",
				"warn no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
		},
		{
			name: "a disk for the metrics that cannot be written to",
			args: []string{"--metrics-file", "/mnt/pingover.prom"},
			fault: func(s *scene) {
				s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/mnt")
			},
			want: []string{
				"fail metrics-file /mnt/pingover.prom: /mnt: read-only file system → let pingover write there, or change metrics-file",
			},
		},
		{
			name:  "a cable that is out",
			fault: func(s *scene) { s.must(s.Standby.Unplug(false)) },
			want: []string{
				`fail interface "eth0" has no carrier: is the cable in? → connect the cable, or check what it leads to`,
				"fail mail via smtp://172.16.0.254:25: not done within 2s → check that the mailer runs, and that mail-via is right",
			},
		},
		{
			name:  "a witness that is silent, and with it the mail server",
			fault: func(s *scene) { s.must(s.Gateway.Unplug(true)) },
			want: []string{
				"fail witness 172.16.0.254 does not reply → find out why, or set one that replies: without one takeovers are blocked",
				"fail mail via smtp://172.16.0.254:25: not done within 2s → check that the mailer runs, and that mail-via is right",
			},
		},
		{
			name:  "a primary that filters pings",
			fault: func(s *scene) { s.must(s.Primary.FilterICMP(true)) },
			want: []string{
				"fail primary 172.16.0.2 does not reply to pings, but is at 02:00:00:00:00:02 (ARP) → let its firewall answer pings: without a reply it counts as down, and is never taken over from",
			},
		},
		{
			name:  "a virtual IP that is unassigned, with the length of no network",
			args:  []string{"--vip", "172.16.0.7/24"},
			fault: func(s *scene) {},
			want: []string{
				`warn vip 172.16.0.7/24: the network of interface "eth0" is a /16 → write it without a length: 172.16.0.7`,
				"warn vip 172.16.0.7 is unassigned: there is no reply from it → assign it on the primary; a takeover follows only when that is down",
			},
		},
		{
			name: "the record of another user, which may not be read",
			args: []string{"--state-dir", "/run/nobody"},
			fault: func(s *scene) {
				s.asUser("net_admin", "net_raw")
				s.run(s.Standby, "sh", "-c", "cp /var/lib/pingover/web.json /run/nobody; chmod 600 /run/nobody/web.json")
			},
			want: []string{
				"fail /run/nobody/web.json: permission denied → run pingover always as the same user",
				"warn open /run/nobody/web.json: permission denied; checks go on with what the kernel shows" +
					" → find out why, and fix it: checks go on without its history and the pending mail, and write a new one over it where they can",
			},
		},
		{
			name:  "rights that are missing",
			fault: func(s *scene) { s.asUser() },
			want: []string{
				"fail no permission to ping: be root, or have the capability cap_net_raw, or a group within net.ipv4.ping_group_range: permission denied → run pingover as root, or with the capability CAP_NET_RAW",
				"fail no permission to change addresses: this process has no CAP_NET_ADMIN (permission denied) → run pingover as root, or with the ambient capabilities CAP_NET_ADMIN and CAP_NET_RAW",
				"warn no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, withVIP...)
			test.fault(s)
			stdout, code := s.doctor(set(withVIP, test.args...)...)
			if diff := cmp.Diff(test.want, ill(stdout)); diff != "" {
				t.Errorf("-want +got:\n%s\nof:\n%s", diff, stdout)
			}
			want := 0
			if slices.ContainsFunc(test.want, func(line string) bool { return strings.HasPrefix(line, "fail") }) {
				want = 78
			}
			if code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
		})
	}
}
