package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

const arbiterChapter = "docs/arbiter.md"

// arbiterReader are the programs of somebody who follows the chapter: systemctl starts
// and stops etcd as Debian's unit does, ssh and scp reach the other machines of the lab
// by the roots of their file systems, which are in /etc/roots.
const arbiterReader = `
	mkdir -p /var/lib/bin /var/lib/home /var/lib/etcd
	chown etcd:etcd /var/lib/etcd
	rm -rf /etc/etcd /etc/default/etcd
	printf '%s\n' "$1" >/etc/roots
	cd /var/lib/bin
	cat >sudo <<-"END"
		#!/bin/sh
		exec "$@"
	END
	cat >apt <<-"END"
		#!/bin/sh
		[ "$*" = "install etcd-server etcd-client" ] && command -v etcd etcdctl >/dev/null
	END
	cat >systemctl <<-"END"
		#!/bin/sh
		[ "$2" = etcd ] || exit 1
		case $1 in
		enable) ;;
		start)
			set -a
			. /etc/default/etcd
			setsid setpriv --reuid etcd --regid etcd --clear-groups etcd >/run/etcd.log 2>&1 &
			echo $! >/run/etcd.pid ;;
		stop) [ ! -e /run/etcd.pid ] || kill -9 "$(cat /run/etcd.pid)" ;;
		*) exit 1 ;;
		esac
	END
	cat >ssh <<-"END"
		#!/bin/sh
		root=$(grep "^${1#root@} " /etc/roots | cut -d' ' -f2)
		[ "$2 $3" = "mkdir -p" ] && mkdir -p "$root$4"
	END
	cat >scp <<-"END"
		#!/bin/sh
		[ "$1" = -r ] && shift
		host=${2%%:*}
		root=$(grep "^${host#root@} " /etc/roots | cut -d' ' -f2)
		cp -r "$1" "$root${2#*:}"
	END
	chmod 0755 *
`

// The chapter about the arbiter, followed on three machines by somebody who has never
// run etcd: certificates, etcd, a user, the file, and what the program prints when the
// power of one fails.
func TestDocsArbiter(t *testing.T) {
	for program, debian := range map[string]string{"etcd": "etcd-server", "etcdctl": "etcd-client", "openssl": "openssl", "setpriv": "util-linux", "setsid": "util-linux"} {
		lab.Need(t, program, debian)
	}
	needGroups(t)
	if testing.Short() {
		t.Skip("a scene that takes seconds: it does not run with -short")
	}
	s := emptyScene(t)
	add := func(name, addr string) *lab.Host {
		h, err := s.Add(name, addr)
		s.must(err)
		return h
	}
	web1, web2, third := add("web1", "172.16.0.3/16"), add("web2", "172.16.0.4/16"), add("third", "172.16.0.11/16")
	all := []*lab.Host{web1, web2, third}
	add("gateway", "172.16.0.254/16")
	roots := ""
	for _, h := range all {
		roots += fmt.Sprintf("%s %s\n", h.Addr4(), h.Path(""))
	}
	for _, h := range all {
		s.run(h, "sh", "-ec", arbiterReader, "sh", roots)
	}
	for _, h := range []*lab.Host{web1, web2} {
		s.run(h, "ip", "route", "add", "default", "via", "172.16.0.254")
		s.install(h)
	}

	on := map[string][]*lab.Host{"each of the three": all, "web1": {web1}, "web1 and web2": {web1, web2}, "third": {third}}
	shell := func(h *lab.Host, commands string) (out string, code int) {
		cmd := h.Command(t.Context(), "sh", "-ec", "cd /var/lib/home; "+commands)
		cmd.Env = append(os.Environ(), "TZ=UTC", "PATH=/var/lib/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
		text, _ := cmd.CombinedOutput() // the error is the exit code
		return string(text), cmd.ProcessState.ExitCode()
	}
	var defaults, file string
	var later []block
	for _, b := range blocks(t, arbiterChapter) {
		switch first, commands, _ := strings.Cut(b.text, "\n"); {
		case b.language == "yaml":
			file = b.text + "defaults: {count: 3, interval: 150ms, timeout: 400ms, retry-wait: 200ms, boot-wait: 0, arbiter-ttl: 20s, announce: 1}\n"
			for _, h := range on["web1 and web2"] {
				s.writeOn(h, "/etc/pingover.yaml", file)
			}
		case strings.HasPrefix(b.text, "ETCD_NAME="):
			defaults = b.text
			for _, h := range all {
				s.writeOn(h, "/etc/default/etcd", ofMember(defaults, h))
			}
		case b.language != "sh":
		case first == "# on third":
			later = append(later, b)
		default:
			hosts := on[strings.TrimPrefix(first, "# on ")]
			if len(hosts) == 0 {
				t.Fatalf("a block begins with %q", first)
			}
			if strings.Contains(commands, "endpoint health") {
				s.waitForEtcd(web1, shell)
			}
			for _, h := range hosts {
				out, code := shell(h, commands)
				t.Logf("%s:\n%s%s", h.Name(), commands, out)
				if code != 0 && !strings.HasPrefix(commands, "pingover doctor") {
					t.Fatalf("on %s: exit code %d:\n%s\n%s", h.Name(), code, commands, out)
				}
				if strings.HasPrefix(commands, "pingover doctor") && strings.Contains(aboutArbiter(out), "fail") {
					t.Errorf("on %s:\n%s", h.Name(), out)
				}
			}
		}
	}

	// What it prints.
	check := func(h *lab.Host, code int, name string) {
		t.Helper()
		nextSecond()
		out, got := shell(h, "pingover check")
		if got != code {
			t.Fatalf("%s: exit code %d, want %d\n%s", name, got, code, out)
		}
		if name != "" {
			generated(t, arbiterChapter, name, asUsual("# pingover check\n"+asByDefault(out)))
		}
	}
	check(web1, 21, "first")
	time.Sleep(20 * time.Second)
	check(web1, 11, "")
	check(web2, 0, "")
	check(web1, 10, "")
	s.must(web1.PowerOff())
	check(web2, 21, "kept out")
	time.Sleep(20 * time.Second)
	check(web2, 11, "takeover")
	out, _ := shell(web2, "pingover status")
	generated(t, arbiterChapter, "status", asUsual("$ pingover status\n"+asByDefault(out)))
	for _, b := range later {
		_, commands, _ := strings.Cut(b.text, "\n")
		if out, code := shell(third, commands); code != 0 {
			t.Fatalf("exit code %d: %s\n%s", code, commands, out)
		}
	}
	time.Sleep(5 * time.Second) // until the key is due again
	if out, code := shell(web2, "pingover check --json"); code != 10 || !strings.Contains(out, "the arbiter does not answer: 172.16.0.1 ends at ") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// ofMember is the file of web1 as another machine has it.
func ofMember(defaults string, h *lab.Host) string {
	var b strings.Builder
	for line := range strings.Lines(defaults) {
		if !strings.HasPrefix(line, "ETCD_INITIAL_CLUSTER=") {
			line = strings.NewReplacer("web1", h.Name(), "172.16.0.3", h.Addr4().String()).Replace(line)
		}
		b.WriteString(line)
	}
	return b.String()
}

func (s *scene) waitForEtcd(h *lab.Host, shell func(*lab.Host, string) (string, int)) {
	s.t.Helper()
	s.within(30*time.Second, "etcd is healthy", func() bool {
		_, code := shell(h, "etcdctl --cacert /etc/etcd/ca.pem --endpoints https://172.16.0.3:2379,https://172.16.0.4:2379,https://172.16.0.11:2379 endpoint health")
		return code == 0
	})
}

// asByDefault is what was printed as it is with the default ttl.
func asByDefault(text string) string {
	for _, r := range []struct{ pattern, fixed string }{
		{`deleted: free in \d+s`, "deleted: free in 3m"},
		{`unchanged for \d+s; free in \d+s`, "unchanged for 40s; free in 2m20s"},
		{`\b\d\d:\d\d:\d\d\b`, "13:08:11"},
		{`renewed 13:08:11`, "renewed 13:05:17"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.fixed)
	}
	return text
}
