package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pingover/internal/proc"
)

// NameServer is BIND's named on a host: see NameServerAvailable, and for tests
// Need(t, "named", "bind9"). It ends with the lab, or when the host's power goes
// off.
type NameServer struct {
	host *Host
	dir  string
	cmd  *exec.Cmd
	log  bytes.Buffer // read after done only
	done chan struct{}
}

// Everything that named writes is in its directory, and it asks nobody.
const namedConf = `
options {
	directory "%[1]s"; pid-file none; session-keyfile none; lock-file none;
	listen-on { any; }; listen-on-v6 { any; };
	recursion no; rrset-order { order cyclic; }; dnssec-validation no; notify no; empty-zones-enable no; minimal-responses yes;
};
controls { inet 127.0.0.1 port 953 allow { 127.0.0.1; } keys { "control"; }; };
include "%[1]s/control.key";
%[2]s
`

// NameServerAvailable says which program of BIND is missing here, and the Debian package that has it; nil for none.
func NameServerAvailable() error {
	for _, p := range []struct{ program, debian string }{{"named", "bind9"}, {"tsig-keygen", "bind9"}, {"rndc", "bind9-utils"}} {
		if _, err := proc.Find(p.program); err != nil {
			return missing(p.program, p.debian)
		}
	}
	return nil
}

// NameServer starts named with these statements of named.conf(5), such as those of Key and DynamicZone, and waits
// until it answers. dir is a directory of this machine, or one of the host by its Path; named writes there, the
// journals of its zones included.
func (h *Host) NameServer(dir string, conf ...string) (*NameServer, error) {
	if _, _, err := TSIGKey(dir, "control"); err != nil {
		return nil, err
	}
	own := strings.NewReplacer(h.Path(""), "") // named drops the right to go by the path from outside
	n := &NameServer{host: h, dir: own.Replace(dir), done: make(chan struct{})}
	text := fmt.Appendf(nil, namedConf, n.dir, own.Replace(strings.Join(conf, "\n")))
	if err := os.WriteFile(filepath.Join(dir, "named.conf"), text, 0o600); err != nil {
		return nil, err
	}
	n.cmd = h.Command(context.Background(), "named", "-g", "-n", "1", "-c", filepath.Join(n.dir, "named.conf"))
	n.cmd.Stdout, n.cmd.Stderr = &n.log, &n.log
	if err := n.cmd.Start(); err != nil {
		return nil, h.err(err)
	}
	go func() {
		n.cmd.Wait()
		close(n.done)
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-n.done:
			return nil, h.err(fmt.Errorf("named ended:\n%s", n.log.String()))
		default:
		}
		if _, err := n.Control("status"); err == nil {
			return n, nil
		}
	}
	n.Stop()
	return nil, h.err(fmt.Errorf("named does not answer:\n%s", n.log.String()))
}

// Address is where it answers: the host's first IPv4 address, port 53.
func (n *NameServer) Address() string { return net.JoinHostPort(n.host.Addr4().String(), "53") }

// Control runs rndc(8).
func (n *NameServer) Control(argv ...string) (string, error) {
	return n.host.Run(append([]string{"rndc", "-s", "127.0.0.1", "-k", filepath.Join(n.dir, "control.key")}, argv...)...)
}

// Freeze stops the process: the kernel goes on accepting connections, and no answer comes.
func (n *NameServer) Freeze() error { return n.host.err(n.cmd.Process.Signal(syscall.SIGSTOP)) }

// Thaw ends Freeze.
func (n *NameServer) Thaw() error { return n.host.err(n.cmd.Process.Signal(syscall.SIGCONT)) }

// Stop kills it. Its log is returned, for a test that failed.
func (n *NameServer) Stop() (log string) {
	n.cmd.Process.Kill()
	<-n.done
	return n.log.String()
}

// TSIGKey makes a key file with tsig-keygen(8), and returns its path and the statement in it.
func TSIGKey(dir, name string) (file, conf string, err error) {
	keygen, err := proc.Find("tsig-keygen") // in /usr/sbin
	if err != nil {
		return "", "", err
	}
	text, err := exec.Command(keygen, name).Output()
	if err != nil {
		return "", "", fmt.Errorf("tsig-keygen %s: %w", name, err)
	}
	file = filepath.Join(dir, name+".key")
	return file, string(text), os.WriteFile(file, text, 0o600)
}

// DynamicZone writes a zone with these records ("www 60 A 10.2.2.10") into dir and returns the statement of a zone that
// key may change: ns.ZONE is its name server, and its negative answers are kept for a minute.
func DynamicZone(dir, zone, key string, records ...string) (conf string, err error) {
	text := fmt.Sprintf("$ORIGIN %[1]s.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n%[2]s\n", zone, strings.Join(records, "\n"))
	file := filepath.Join(dir, zone+".zone")
	conf = fmt.Sprintf("zone %q { type primary; file %q; update-policy { grant %s zonesub A AAAA; }; };", zone, file, key)
	return conf, os.WriteFile(file, []byte(text), 0o600)
}
