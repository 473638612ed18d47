package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// A service that is down on a host that is up.

const health = "http://www.example.com/health"

// webServer is a web server on all addresses of a host.
type webServer struct {
	s    *scene
	h    *lab.Host
	port string
	http *http.Server
}

// serve starts a web server on a host: its health is good.
func (s *scene) serve(h *lab.Host) *webServer {
	w := &webServer{s: s, h: h, port: "80"}
	w.start()
	s.t.Cleanup(func() { w.http.Close() })
	return w
}

func (w *webServer) start() {
	w.s.t.Helper()
	var l net.Listener
	w.s.must(w.h.Do(func() (err error) {
		l, err = net.Listen("tcp", ":"+w.port)
		return err
	}))
	w.http = &http.Server{ErrorLog: stdlog.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(reply http.ResponseWriter, r *http.Request) {
		if name, _, _ := strings.Cut(r.Host, ":"); name != "www.example.com" || r.URL.Path != "/health" {
			http.NotFound(reply, r)
		}
	})}
	if w.port == "443" { // with a certificate for example.com that nobody has signed
		own := httptest.NewTLSServer(nil)
		own.Close()
		l = tls.NewListener(l, &tls.Config{Certificates: own.TLS.Certificates})
	}
	go w.http.Serve(l)
}

func (w *webServer) stop() { w.http.Close() }

// cutter is a fence: a command that takes the primary off the switch.
type cutter struct {
	s           *scene
	script, dir string
}

// cutCable is a fence that cuts the primary's cable. blunt: it only says so.
func (s *scene) cutCable(blunt bool) cutter {
	c := cutter{s: s, dir: s.t.TempDir()}
	c.script = filepath.Join(c.dir, "fence")
	wait := "until test -e cut; do sleep 0.02; done"
	if blunt {
		wait = "true"
	}
	s.script(c.script, "cd "+c.dir+"\necho \"$PINGOVER_REASON\" >>asked\n"+wait+"\n")
	var ended sync.WaitGroup
	done := make(chan struct{})
	ended.Go(func() {
		for {
			if _, err := os.Stat(filepath.Join(c.dir, "asked")); err == nil && !blunt {
				if err := s.Primary.Unplug(true); err != nil {
					s.t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(c.dir, "cut"), nil, 0o600); err != nil {
					s.t.Error(err)
				}
				return
			}
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	s.t.Cleanup(func() {
		close(done)
		ended.Wait()
	})
	return c
}

// want fails the test unless the primary was fenced so often.
func (c cutter) want(t *testing.T, times int) {
	t.Helper()
	text, _ := os.ReadFile(filepath.Join(c.dir, "asked"))
	if n := strings.Count(string(text), "\n"); n != times {
		t.Errorf("fenced %d times, want %d: %s", n, times, text)
	}
}

// says fails the test unless the check has this answer of each service.
func (e ended) answers(t *testing.T, want ...state.ServiceAnswer) ended {
	t.Helper()
	if diff := cmp.Diff(want, e.Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	return e
}

func TestAServiceThatDiesIsUnserved(t *testing.T) {
	s := newScene(t)
	web := s.serve(s.Primary)
	untouched := s.untouched(s.Standby)
	args := set(withVIP, "--service", health)
	good := state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.1", Health: "good"}
	bad := good
	bad.Health, bad.Reason = "bad", "connection refused"
	s.check(s.Standby, args...).want(t, state.OK).answers(t, good)
	web.stop()
	for _, want := range []state.Outcome{state.OK, state.OK, state.Unserved, state.Unserved} {
		s.check(s.Standby, args...).want(t, want).answers(t, bad)
	}
	unserved := "[pingover] web: PROBLEM: service http://www.example.com does not work, while 172.16.0.2 is up"
	s.mail.want(t, unserved)[0].says(t, "172.16.0.2 is up, but service http://www.example.com does not work at 172.16.0.1. Nothing was switched.")
	s.monitoring(2, "172.16.0.2 replies, but service http://www.example.com does not work: connection refused")

	web.start()
	for range 4 {
		s.check(s.Standby, args...).want(t, state.OK)
	}
	s.mail.want(t, unserved, "[pingover] web: RESOLVED: 172.16.0.1 is served again")
	untouched()
	s.wantOn(vip4, s.Primary)

	// A virtual IP that nobody has says nothing of a service.
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
	s.check(s.Standby, args...).want(t, state.OK).answers(t,
		state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.1", Health: "unknown", Reason: "no machine has the virtual IP"})
	s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	s.check(s.Standby, args...).want(t, state.OK).answers(t,
		state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.1", Health: "unknown", Reason: "another machine has the virtual IP: " + s.Second.MAC().String()})
}

func TestFailoverForAService(t *testing.T) {
	s := newScene(t)
	web := s.serve(s.Primary)
	cut := s.cutCable(false)
	args := set(swift, "--service", health, "--failover-on", "service", "--pre-takeover", cut.script)
	s.check(s.Standby, args...).want(t, state.OK)
	web.stop()
	for range 2 {
		s.check(s.Standby, args...).want(t, state.OK)
	}
	cut.want(t, 0)
	const reason = "172.16.0.2 replies, but service http://www.example.com does not work: connection refused (3 checks in a row); it is fenced, and 172.16.0.1 taken over"
	e := s.check(s.Standby, args...).want(t, state.TookOver).because(t, reason)
	s.wantCommands(e, cut.script, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
	s.wantSeen(s.Standby.MAC().String())
	cut.want(t, 1)
	s.mail.want(t, "[pingover] web: standby took over 172.16.0.1")[0].says(t,
		"172.16.0.2 replied, but service http://www.example.com did not work. 172.16.0.2 was fenced. standby has taken over 172.16.0.1")

	// It runs here no more than there.
	for range 4 {
		s.check(s.Standby, args...).want(t, state.Holding)
	}
	const down = "[pingover] web: PROBLEM: standby holds 172.16.0.1, but service http://www.example.com does not work"
	s.mail.want(t, "[pingover] web: standby took over 172.16.0.1", down)
	s.monitoring(2, "holding, but service http://www.example.com does not work: connection refused")
	s.serve(s.Standby)
	for range 3 {
		s.check(s.Standby, args...).want(t, state.Holding).answers(t,
			state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.1", Health: "good"})
	}
	s.mail.want(t, "[pingover] web: standby took over 172.16.0.1", down, "[pingover] web: RESOLVED: the services work on standby")
	cut.want(t, 1)
	s.wantWrittenDown(state.Active, state.TookOver)
}

// A fence that did nothing: two machines would have the address.
func TestFencingForAServiceThatFailsIsNotRepeated(t *testing.T) {
	s := newScene(t)
	web := s.serve(s.Primary)
	cut := s.cutCable(true)
	args := set(swift, "--service", health, "--failover-on", "service", "--pre-takeover", cut.script)
	s.check(s.Standby, args...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	web.stop()
	for _, want := range []state.Outcome{state.OK, state.OK, state.Blocked, state.Unserved, state.Unserved} {
		e := s.check(s.Standby, args...).want(t, want)
		if want == state.Blocked {
			e.because(t, "172.16.0.2 was fenced for http://www.example.com, but it still replies")
		}
	}
	cut.want(t, 1)
	untouched()
	s.wantOn(vip4, s.Primary)

	// When it was good once, it may be fenced again.
	web.start()
	s.check(s.Standby, args...).want(t, state.OK)
	web.stop()
	for range 4 {
		s.check(s.Standby, args...)
	}
	cut.want(t, 2)
	s.wantOn(vip4, s.Primary)
}

// Nothing of this is a reason to cut a primary off that works.
func TestNeverFencedForAService(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		services []string // at first, and then
		web      string   // the port of the web server, "" for none
		then     func(*scene, *webServer)
		want     state.Outcome
	}{
		"a certificate that does not verify": {[]string{"https://www.example.com/health"}, "443", nil, state.OK},
		"a typing error in the URL":          {[]string{"http://www.example.com/helth"}, "80", nil, state.Unserved},
		"a typing error that is made later":  {[]string{health, "http://www.example.com/helth"}, "80", nil, state.Unserved},
		"a backend that was never good":      {[]string{"tcp:5432"}, "", nil, state.Unserved},
		"no witness replies": {[]string{health}, "80", func(s *scene, w *webServer) {
			w.stop()
			s.must(s.Gateway.PowerOff())
		}, state.Unserved},
		"another machine has the address too": {[]string{health}, "80", func(s *scene, w *webServer) {
			w.stop()
			s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		}, state.Unserved},
		"paused": {[]string{health}, "80", func(s *scene, w *webServer) {
			w.stop()
			s.pause(s.Standby)
		}, state.Unserved},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.mail = s.serveMail(s.Client)
			web := &webServer{s: s, h: s.Primary, port: c.web}
			if c.web != "" {
				web.start()
				t.Cleanup(web.stop)
			}
			cut := s.cutCable(false)
			var last state.Outcome
			for i, service := range append(c.services, c.services[len(c.services)-1])[:2] {
				args := set(swift, "--mail-via", "smtp://172.16.0.9", "--service", service, "--failover-on", "service", "--pre-takeover", cut.script, "--count", "2", "--interval", "100ms")
				for range 1 + 3*i {
					last = s.check(s.Standby, args...).Outcome
				}
				if i == 0 && c.then != nil {
					c.then(s, web)
				}
			}
			if last != c.want {
				t.Errorf("the last check ended with %s, want %s", last, c.want)
			}
			cut.want(t, 0)
			s.wantHeld(s.Standby, vip4, 0)
			if strings.HasPrefix(c.services[0], "https") {
				s.mail.want(t, "[pingover] web: PROBLEM: the certificate of service https://www.example.com does not verify")
			}
		})
	}
}

func TestFailoverOnServiceWithoutFencingIsRefused(t *testing.T) {
	s := newScene(t)
	for _, args := range [][]string{{"--failover-on", "service", "--service", health}, {"--failover-on", "service", "--service", health, "--dry-run"}} {
		e := s.say(s.Standby, set(withVIP, args...)...)
		if want := `pingover: --failover-on "service": needs pre-takeover, a command that cuts the primary off (fencing): without it both machines would have the vip`; e.code != 78 || !strings.Contains(e.stderr, want) {
			t.Errorf("exit code %d, stderr: %s", e.code, e.stderr)
		}
	}
	s.wantNothingLeft(s.Standby)
}

// The plugins that every monitoring has, as they are.
func TestMonitoringPluginsAreServices(t *testing.T) {
	const folder = "/usr/lib/nagios/plugins/"
	lab.Need(t, folder+"check_http", "monitoring-plugins-basic")
	s := newScene(t)
	web := s.serve(s.Primary)
	args := append(set(withVIP, "--fall", "1"),
		"--service", folder+"check_http -I {} -H www.example.com -u /health -t 2", "--service", folder+"check_tcp -H {} -p 80 -t 2")
	e := s.check(s.Standby, args...).want(t, state.OK)
	for _, a := range e.Services {
		if a.Health != "good" || a.Reason != "" {
			t.Errorf("%+v", a)
		}
	}
	web.stop()
	e = s.check(s.Standby, args...).want(t, state.Unserved)
	if len(e.Services) != 2 {
		t.Fatal(e.stdout)
	}
	e.answers(t,
		state.ServiceAnswer{Service: "check_http", Address: "172.16.0.1", Health: "bad", Reason: e.Services[0].Reason},
		state.ServiceAnswer{Service: "check_tcp", Address: "172.16.0.1", Health: "bad", Reason: e.Services[1].Reason})
	if !strings.HasPrefix(e.Services[0].Reason, "exit code 2: ") || !strings.Contains(e.Services[0].Reason, "refused") {
		t.Errorf("check_http: %q", e.Services[0].Reason)
	}
	// A plugin that is not used as it has to be is unknown.
	e = s.check(s.Standby, set(withVIP, "--service", folder+"check_http --nonsense", "--fall", "1")...).want(t, state.OK)
	if a := e.Services[0]; a.Health != "unknown" || !strings.HasPrefix(a.Reason, "exit code 3") {
		t.Errorf("%+v", a)
	}
}

// failback auto hands over to a primary that serves again, not to one that only
// pings.
func TestFailbackWaitsForTheServices(t *testing.T) {
	s := newScene(t)
	args := set(swift, "--service", health, "--failback", "auto", "--rise", "2")
	s.serve(s.Standby)
	web := s.serve(s.Primary)
	s.check(s.Standby, args...).want(t, state.OK)
	web.stop()
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.backWithout(vip4)
	for range 4 {
		s.check(s.Standby, args...).want(t, state.Holding).
			because(t, "holding 172.16.0.1; 172.16.0.2 replies again, but there service http://www.example.com does not work: connection refused").
			answers(t, state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.1", Health: "good"},
				state.ServiceAnswer{Service: "http://www.example.com", Address: "172.16.0.2", Health: "bad", Reason: "connection refused"})
	}
	web.start()
	s.takesWhenFree(s.Primary, vip4)
	s.check(s.Standby, args...).want(t, state.Holding)
	s.check(s.Standby, args...).want(t, state.Released).
		because(t, "172.16.0.2 has replied with its services good in 2 checks in a row: 172.16.0.1 is handed over")
	s.wantOn(vip4, s.Primary)
	s.check(s.Standby, args...).want(t, state.OK)
}

// Every check says so: not only the takeover, when it is too late.
func TestAServiceCommandThatCannotBeRunIsReported(t *testing.T) {
	s := newScene(t)
	plugin := filepath.Join(t.TempDir(), "check_it")
	s.script(plugin, "exit 0\n")
	args := set(withVIP, "--service", plugin+" {}")
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(os.WriteFile(plugin, []byte("#!/no/such/interpreter\n"), 0o755))
	for range 2 {
		e := s.say(s.Standby, append(args, "--verbose")...)
		want := fmt.Sprintf(`service cannot be run: %s: its interpreter "/no/such/interpreter": no such file or directory`, plugin)
		if e.code != 0 || !strings.Contains(e.stderr, want) {
			t.Errorf("exit code %d, stderr: %s\nwant %s", e.code, e.stderr, want)
		}
	}
}
