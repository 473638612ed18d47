package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Etcd is a cluster of etcd, for tests that Need(t, "etcd", "etcd-server"). It ends with the lab.
type Etcd struct {
	Members []*EtcdMember

	options EtcdOptions
	root    string // password; "" while there are no users
}

// EtcdOptions are those of all members.
type EtcdOptions struct {
	CA          *Authority // TLS for clients, with certificates of this CA; nil: plain HTTP
	ClientCerts bool       // clients need a certificate of the CA too
	NoGateway   bool       // no JSON gateway, as with a configuration file of etcd 3.4
}

// EtcdMember is one etcd, on a host of its own. It ends when the power of the host goes off.
type EtcdMember struct {
	Host *Host

	cluster *Etcd
	client  *http.Client
	cmd     *exec.Cmd
	log     *bytes.Buffer // read after done only
	done    chan struct{}
}

const (
	etcdData   = "/var/lib/lab/etcd"
	etcdBackup = "/var/lib/lab/etcd.backup"
)

// Etcd starts a cluster with one member on each of the hosts, and waits until it answers. The names of the members are
// those of their hosts, and their data survives a power cut.
func (l *Lab) Etcd(o EtcdOptions, hosts ...*Host) (*Etcd, error) {
	e := &Etcd{options: o}
	for _, h := range hosts {
		m := &EtcdMember{Host: h, cluster: e}
		e.Members = append(e.Members, m)
		if err := m.certify(); err != nil {
			return nil, h.err(err)
		}
	}
	return e, e.start()
}

// start starts all members and waits until the cluster answers.
func (e *Etcd) start() error {
	for _, m := range e.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		if err := m.Await(); err != nil {
			return err
		}
	}
	return nil
}

// certify makes the member's certificate, and the client by which the cluster is asked.
func (m *EtcdMember) certify() error {
	transport := &http.Transport{DialContext: m.Dial}
	m.client = &http.Client{Transport: transport, Timeout: 2 * time.Second}
	ca := m.cluster.options.CA
	if ca == nil {
		return nil
	}
	// Without a common name, because the gateway shows this certificate to its own member.
	cert, key, err := ca.Issue("", m.Host.Addr4().String(), "127.0.0.1", m.Host.Name())
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"crt": cert, "key": key, "ca": ca.Certificate} {
		if err := os.WriteFile(m.Host.Path(etcdData+"."+name), text, 0o600); err != nil {
			return err
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate)
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return err
}

// Dial connects to an address from the host of the member.
func (m *EtcdMember) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.Host.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// URL is where clients reach the member.
func (m *EtcdMember) URL() string {
	scheme := "http"
	if m.cluster.options.CA != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(m.Host.Addr4().String(), "2379")
}

func (m *EtcdMember) peer() string {
	return "http://" + net.JoinHostPort(m.Host.Addr4().String(), "2380")
}

// URLs are those of all members.
func (e *Etcd) URLs() (urls []string) {
	for _, m := range e.Members {
		urls = append(urls, m.URL())
	}
	return urls
}

func (e *Etcd) peers() string {
	var peers []string
	for _, m := range e.Members {
		peers = append(peers, m.Host.Name()+"="+m.peer())
	}
	return strings.Join(peers, ",")
}

// Start starts the member, anew after a power cut or Stop.
func (m *EtcdMember) Start() error {
	o := m.cluster.options
	argv := []string{
		"etcd", "--name", m.Host.Name(), "--data-dir", etcdData, "--logger", "zap", "--log-level", "warn", "--bcrypt-cost", "4",
		"--listen-client-urls", m.URL(), "--advertise-client-urls", m.URL(),
		"--listen-peer-urls", m.peer(), "--initial-advertise-peer-urls", m.peer(), "--initial-cluster", m.cluster.peers(),
		fmt.Sprintf("--enable-grpc-gateway=%t", !o.NoGateway),
	}
	if o.CA != nil {
		argv = append(argv, "--cert-file", etcdData+".crt", "--key-file", etcdData+".key")
	}
	if o.ClientCerts {
		argv = append(argv, "--client-cert-auth", "--trusted-ca-file", etcdData+".ca")
	}
	m.cmd = m.Host.Command(context.Background(), argv...)
	m.log, m.done = new(bytes.Buffer), make(chan struct{})
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		return m.Host.err(err)
	}
	cmd, done := m.cmd, m.done
	go func() {
		cmd.Wait()
		close(done)
	}()
	return nil
}

// Await waits until the member answers as one of a cluster that has a leader.
func (m *EtcdMember) Await() error {
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-m.done:
			return m.Host.err(fmt.Errorf("etcd ended:\n%s", m.log))
		default:
		}
		var reply *http.Response
		if reply, err = m.client.Get(m.URL() + "/health"); err != nil {
			continue
		}
		reply.Body.Close()
		if reply.StatusCode == http.StatusOK {
			return nil
		}
		err = errors.New(reply.Status)
	}
	return m.Host.err(fmt.Errorf("etcd does not answer: %w", err))
}

// Freeze stops the process: the kernel goes on accepting connections, and no answer comes.
func (m *EtcdMember) Freeze() error { return m.Host.err(m.cmd.Process.Signal(syscall.SIGSTOP)) }

// Thaw ends Freeze.
func (m *EtcdMember) Thaw() error { return m.Host.err(m.cmd.Process.Signal(syscall.SIGCONT)) }

// Ended tells whether the process has ended: its power was cut, or it was stopped.
func (m *EtcdMember) Ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Stop kills the member. Its log is returned, for a test that failed.
func (m *EtcdMember) Stop() (log string) {
	m.cmd.Process.Kill()
	<-m.done
	return m.log.String()
}

// Leader is the member that leads, as the first one that answers knows it.
func (e *Etcd) Leader() (*EtcdMember, error) {
	var leader string
	ids := map[string]*EtcdMember{}
	for _, m := range e.Members {
		var reply struct {
			Header struct {
				ID string `json:"member_id"`
			}
			Leader string
		}
		if err := m.call("maintenance/status", nil, &reply); err == nil {
			ids[reply.Header.ID] = m
			leader = reply.Leader
		}
	}
	if m := ids[leader]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("etcd: no member answers that leads (leader %q)", leader)
}

// Call asks the JSON gateway, one member after the other until one answers: "kv/range" with a request that
// encoding/json can write, such as a map.
func (e *Etcd) Call(path string, request, reply any) (err error) {
	for _, m := range e.Members {
		if err = m.call(path, request, reply); err == nil {
			return nil
		}
	}
	return err
}

func (m *EtcdMember) call(path string, request, reply any) error {
	token := ""
	if password := m.cluster.root; password != "" {
		var got struct{ Token string }
		if err := m.post("auth/authenticate", "", map[string]string{"name": "root", "password": password}, &got); err != nil {
			return err
		}
		token = got.Token
	}
	return m.post(path, token, request, reply)
}

func (m *EtcdMember) post(path, token string, request, reply any) error {
	if request == nil {
		request = struct{}{}
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ask, err := http.NewRequest(http.MethodPost, m.URL()+"/v3/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if token != "" {
		ask.Header.Set("Authorization", token)
	}
	got, err := m.client.Do(ask)
	if err != nil {
		return m.Host.err(err)
	}
	defer got.Body.Close()
	text, err = io.ReadAll(got.Body)
	switch {
	case err != nil:
		return m.Host.err(err)
	case got.StatusCode != http.StatusOK:
		return m.Host.err(fmt.Errorf("etcd: %s: %s: %s", path, got.Status, text))
	case reply == nil:
		return nil
	}
	return json.Unmarshal(text, reply)
}

// Get reads a key by a linearizable read. An absent one has the revision 0.
func (e *Etcd) Get(key string) (value string, revision int64, err error) {
	var reply struct {
		KVs []struct {
			Value    []byte
			Revision int64 `json:"mod_revision,string"`
		}
	}
	err = e.Call("kv/range", map[string]any{"key": []byte(key)}, &reply)
	if err != nil || len(reply.KVs) == 0 {
		return "", 0, err
	}
	return string(reply.KVs[0].Value), reply.KVs[0].Revision, nil
}

// Put writes a key, whatever is there.
func (e *Etcd) Put(key, value string) error {
	return e.Call("kv/put", map[string]any{"key": []byte(key), "value": []byte(value)}, nil)
}

// Delete deletes a key.
func (e *Etcd) Delete(key string) error {
	return e.Call("kv/deleterange", map[string]any{"key": []byte(key)}, nil)
}

// AddUser adds a user who may read and write the keys that begin with this. The first user comes with root, and from
// then on nothing is allowed without a password (RBAC).
func (e *Etcd) AddUser(name, password, prefix string) error {
	type fields = map[string]any
	end := []byte(prefix)
	end[len(end)-1]++
	steps := []struct {
		path    string
		request fields
	}{
		{"auth/role/add", fields{"name": name}},
		{"auth/role/grant", fields{"name": name, "perm": fields{"permType": "READWRITE", "key": []byte(prefix), "range_end": end}}},
		{"auth/user/add", fields{"name": name, "password": password}},
		{"auth/user/grant", fields{"user": name, "role": name}},
	}
	first := e.root == ""
	if first {
		steps = append(steps, []struct {
			path    string
			request fields
		}{
			{"auth/role/add", fields{"name": "root"}},
			{"auth/user/add", fields{"name": "root", "password": "root"}},
			{"auth/user/grant", fields{"user": "root", "role": "root"}},
			{"auth/enable", nil},
		}...)
	}
	for _, s := range steps {
		if err := e.Call(s.path, s.request, nil); err != nil {
			return err
		}
	}
	if first {
		e.root = "root"
	}
	return nil
}

// Backup saves a snapshot with etcdctl, of the Debian package etcd-client. There is one.
func (e *Etcd) Backup() error {
	m := e.Members[0]
	argv := []string{"etcdctl", "--endpoints", m.URL(), "snapshot", "save", etcdBackup}
	if e.options.CA != nil {
		argv = append(argv, "--cacert", etcdData+".ca", "--cert", etcdData+".crt", "--key", etcdData+".key")
	}
	if e.root != "" {
		argv = append(argv, "--user", "root:"+e.root)
	}
	_, err := m.Host.Run(argv...)
	return err
}

// Restore makes the cluster anew out of the Backup, as an operator does who has lost it: its revisions go back.
func (e *Etcd) Restore() error {
	for _, m := range e.Members {
		m.Stop()
		if _, err := m.Host.Run("rm", "-rf", etcdData); err != nil {
			return err
		}
		if _, err := m.Host.Run("etcdctl", "snapshot", "restore", e.Members[0].Host.Path(etcdBackup), "--data-dir", etcdData,
			"--name", m.Host.Name(), "--initial-cluster", e.peers(), "--initial-advertise-peer-urls", m.peer()); err != nil {
			return err
		}
	}
	return e.start()
}
