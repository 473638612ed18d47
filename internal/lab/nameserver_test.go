package lab

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// The clients here are BIND's own.
func TestNameServer(t *testing.T) {
	Need(t, "named", "bind9")
	for _, tool := range []string{"dig", "nsupdate"} {
		Need(t, tool, "bind9-dnsutils")
	}
	t.Parallel()
	l := ForTest(t)
	host, err := l.Add("ns", "10.2.0.53/16")
	ok(t, err)
	client, err := l.Add("client", "10.2.0.9/16")
	ok(t, err)
	dir := t.TempDir()
	key, statement, err := TSIGKey(dir, "www")
	ok(t, err)
	zone, err := DynamicZone(dir, "zone.com", "www", "host1 60 A 10.2.2.10", "host1 60 A 10.2.2.11")
	ok(t, err)
	n, err := host.NameServer(dir, statement, zone)
	ok(t, err)
	if n.Address() != "10.2.0.53:53" {
		t.Errorf("address %s", n.Address())
	}
	ask := func() string {
		return strings.Join(strings.Fields(run(t, client, "dig", "+short", "+tcp", "+tries=1", "@10.2.0.53", "host1.zone.com")), " ")
	}
	if got := ask(); got != "10.2.2.10 10.2.2.11" && got != "10.2.2.11 10.2.2.10" {
		t.Errorf("published: %s", got)
	}
	script := dir + "/script"
	ok(t, os.WriteFile(script, []byte("server 10.2.0.53\nzone zone.com\nupdate delete host1.zone.com. A 10.2.2.11\nsend\n"), 0o600))
	run(t, client, "nsupdate", "-v", "-k", key, script)
	if got := ask(); got != "10.2.2.10" {
		t.Errorf("published after the update: %s", got)
	}
	if _, err := os.Stat(dir + "/zone.com.zone.jnl"); err != nil {
		t.Errorf("the journal is not in its directory: %v", err)
	}

	dial := func() (err error) {
		return client.Do(func() error {
			conn, err := net.DialTimeout("tcp", n.Address(), 5*time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	ok(t, n.Freeze())
	if err := dial(); err != nil {
		t.Errorf("frozen, it accepts no connection: %v", err)
	}
	ok(t, n.Thaw())
	ask()
	if log := n.Stop(); !strings.Contains(log, "running") || n.cmd.ProcessState == nil {
		t.Errorf("stopped, log:\n%s", log)
	}
	if dial() == nil {
		t.Error("stopped, it accepts connections")
	}
}

func TestNameServerSaysWhatIsWrong(t *testing.T) {
	Need(t, "named", "bind9")
	t.Parallel()
	l := ForTest(t)
	host, err := l.Add("ns", "10.2.0.53/16")
	ok(t, err)
	if _, err = host.NameServer(t.TempDir(), "zonk;"); err == nil || !strings.Contains(err.Error(), "host ns: named ended:") || !strings.Contains(err.Error(), "unknown option 'zonk'") {
		t.Errorf("error %v", err)
	}
}
