package e2e

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pingover/internal/lab"
)

const poolChapter = "docs/pools.md"

// The chapter about pools, followed by somebody who has nothing else: key, zone and
// rights on a name server, the file, and what the program prints.
func TestDocsPool(t *testing.T) {
	lab.Need(t, "named", "bind9")
	if testing.Short() {
		t.Skip("a scene that takes seconds: it does not run with -short")
	}
	s := emptyScene(t)
	add := func(name string, addrs ...string) *lab.Host {
		h, err := s.Add(name, addrs...)
		s.must(err)
		return h
	}
	s.Standby = add("standby", "10.2.0.3/16", "192.0.2.3/24", "2001:db8::3/64")
	ns := add("ns", "192.0.2.53/24")
	add("gateway", "10.2.0.254/16", "2001:db8::254/64")
	members := []*lab.Host{add("host1", "10.2.2.10/16", "2001:db8::10/64"), add("host2", "10.2.2.11/16")}
	s.run(s.Standby, "ip", "route", "add", "default", "via", "10.2.0.254")
	s.run(s.Standby, "ip", "-6", "route", "add", "default", "via", "2001:db8::254")
	s.install(s.Standby)
	for _, m := range members {
		s.serveHealth(m)
	}

	text := map[string][]string{} // of the blocks, by language
	for _, b := range blocks(t, poolChapter) {
		text[b.language] = append(text[b.language], b.text)
	}
	s.bind(ns)
	server := 0
	for _, b := range text["sh"] {
		if commands, ok := strings.CutPrefix(b, "# on the name server\n"); ok {
			server++
			if server == 2 {
				s.writeOn(ns, "/var/lib/bind/zone.com.zone", text["zone"][0])
				s.writeOn(ns, "/etc/bind/named.conf.local", text["bind"][0])
			}
			s.run(ns, "sh", "-ec", commands)
		}
	}
	s.writeOn(s.Standby, "/run/www-pool.key", s.run(ns, "cat", "/etc/bind/www-pool.key"))
	for _, b := range text["sh"] {
		if commands, ok := strings.CutPrefix(b, "# on the machine that runs pingover\n"); ok {
			s.run(s.Standby, "sh", "-ec", "cd /run; "+commands)
		}
	}
	s.writeFile("/etc/pingover.yaml", text["yaml"][0]+"defaults: {interval: 100ms, timeout: 200ms, retry-wait: 1s, rise: 2}\n")

	show := func(name, command string) (out string, code int) {
		t.Helper()
		cmd := s.Standby.Command(t.Context(), "sh", "-c", command)
		cmd.Env = append(os.Environ(), "TZ=UTC", "PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
		text, _ := cmd.CombinedOutput() // the error is the exit code
		out = regexp.MustCompile(`\b[0-9]+\.[0-9] ms`).ReplaceAllString(string(text), "0.4 ms")
		if name != "" {
			generated(t, poolChapter, name, asUsual("$ "+command+"\n"+inOrder(out)))
		}
		return out, cmd.ProcessState.ExitCode()
	}
	want := func(code int, command string) {
		t.Helper()
		nextSecond()
		if out, got := show("", command); got != code {
			t.Fatalf("%s: exit code %d, want %d\n%s", command, got, code, out)
		}
	}
	want(0, "pingover check")
	show("doctor", "pingover doctor --verbose")
	s.must(members[1].PowerOff())
	nextSecond()
	if out, code := show("removal", "pingover check --verbose"); code != 11 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	show("pool status", "pingover status")
	if mail := s.emails(s.Standby); len(mail) != 1 || mail[0].subject != "[pingover] www: 10.2.2.11 is down! removed from host1.zone.com" {
		t.Errorf("mail: %+v", mail)
	}
	s.must(members[1].PowerOn())
	want(10, "pingover check")
	want(12, "pingover check")
	want(0, "pingover check")
	for _, b := range text["sh"] {
		if strings.HasPrefix(b, "pingover drain") {
			codes := []int{11, 0}
			for line := range strings.Lines(b) {
				want(codes[0], strings.TrimSpace(line))
				codes = codes[1:]
			}
		}
	}

	// The small zone of somebody whose provider has the large one.
	s.writeOn(ns, "/var/lib/bind/delegated.zone", text["delegated"][0])
	small := strings.NewReplacer(`zone "zone.com"`, `zone "host1.zone.com"`, "zone.com.zone", "delegated.zone").Replace(text["bind"][0])
	s.writeOn(ns, "/etc/bind/named.conf.local", small)
	s.run(ns, "sh", "-ec", "named-checkconf -z; rndc reconfig")
	s.run(s.Standby, "sh", "-c", "rm /var/lib/pingover/www.*")
	want(0, "pingover check")
	want(11, "pingover drain www 10.2.2.11")
}

// inOrder sorts the lines about members that are asked side by side.
func inOrder(text string) string {
	side := regexp.MustCompile(`(?m)(^.*: round 1: service .*\n)+|(^.*: round 2: service .*\n)+`)
	return side.ReplaceAllStringFunc(text, func(lines string) string {
		return strings.Join(slices.Sorted(strings.Lines(lines)), "")
	})
}

// Knot DNS reads the rule of the chapter.
func TestDocsPoolKnot(t *testing.T) {
	t.Parallel()
	knotc := lab.Need(t, "knotc", "knot")
	rule := ""
	for _, b := range blocks(t, poolChapter) {
		if b.language == "knot" {
			rule = b.text
		}
	}
	file := t.TempDir() + "/knot.conf"
	conf := "key:\n  - id: www-pool\n    algorithm: hmac-sha256\n    secret: c2VjcmV0\n" + rule + "zone:\n  - domain: zone.com\n    acl: www-pool\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), knotc, "-c", file, "conf-check").CombinedOutput(); err != nil || rule == "" {
		t.Errorf("%v\n%s\n%s", err, out, conf)
	}
}

// bind starts Debian's named on a host, with an empty named.conf.local.
func (s *scene) bind(h *lab.Host) {
	s.t.Helper()
	s.run(h, "sh", "-ec", `
		mkdir -p /etc/bind /var/lib/bind /run/named
		chgrp bind /var/lib/bind /run/named
		chmod 0775 /var/lib/bind /run/named
		cd /etc/bind
		: >named.conf.local
		cat >named.conf <<-"END"
			options { directory "/var/lib/bind"; recursion no; dnssec-validation no; empty-zones-enable no; listen-on { any; }; };
			include "/etc/bind/named.conf.local";
		END
		rm -f rndc.conf
		rndc-confgen -a >/dev/null 2>&1
		chgrp bind rndc.key; chmod 0640 rndc.key
	`)
	log := new(strings.Builder)
	cmd := h.Command(s.t.Context(), "named", "-g", "-n", "1", "-u", "bind", "-c", "/etc/bind/named.conf")
	cmd.Stdout, cmd.Stderr = log, log
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if s.t.Failed() {
			s.t.Log(log)
		}
	})
	s.waitFor("named answers", func() bool {
		_, err := h.Run("rndc", "status")
		return err == nil
	})
}

// writeOn writes a file on a host.
func (s *scene) writeOn(h *lab.Host, path, text string) {
	s.t.Helper()
	s.run(h, "sh", "-c", `printf %s "$2" >"$1"`, "sh", path, text)
}

// serveHealth has a web server on a host find its health good.
func (s *scene) serveHealth(h *lab.Host) {
	s.t.Helper()
	var l net.Listener
	s.must(h.Do(func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	}))
	server := &http.Server{Handler: http.HandlerFunc(func(reply http.ResponseWriter, r *http.Request) {
		if r.Host != "host1.zone.com" || r.URL.Path != "/health" {
			http.NotFound(reply, r)
			return
		}
		_, _ = io.WriteString(reply, "good\n")
	})}
	go server.Serve(l)
	s.t.Cleanup(func() { server.Close() })
}
