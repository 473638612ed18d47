package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
)

// What doctor finds about etcd. The same faults in a check are in
// arbiter_refused_test.go.

// secured is an arbitration with TLS and users, and the files of somebody who may use
// it: /etc/pingover/ca.pem, cert.pem and key.pem (CN pingover), password.
func secured(t testing.TB, members int, o lab.EtcdOptions) *arbitration {
	t.Helper()
	ca, err := lab.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	o.CA = ca
	a := newArbitration(t, members, o)
	a.must(a.etcd.AddUser("pingover", "secret", "pingover/"))
	other, err := lab.NewAuthority()
	a.must(err)
	cert, key, err := ca.Issue("pingover")
	a.must(err)
	anonymous, anonymousKey, err := ca.Issue("")
	a.must(err)
	for _, h := range []*lab.Host{a.Standby, a.Second} {
		for name, text := range map[string]string{
			"ca.pem": string(ca.Certificate), "other-ca.pem": string(other.Certificate), "cert.pem": string(cert), "key.pem": string(key),
			"anonymous-cert.pem": string(anonymous), "anonymous-key.pem": string(anonymousKey), "password": "secret\n", "other-password": "wrong\n",
		} {
			a.run(h, "sh", "-ec", `umask 077; mkdir -p /etc/pingover; printf %s "$2" >"/etc/pingover/$1"`, "sh", name, text)
		}
	}
	a.args = append(a.args, "--arbiter-ca", "/etc/pingover/ca.pem", "--arbiter-user", "pingover", "--arbiter-password-file", "/etc/pingover/password")
	return a
}

// aboutArbiter are the lines of doctor about etcd.
func aboutArbiter(stdout string) string {
	var about []string
	words := []string{"arbiter", "etcd", "key pingover/", "127.255.255.254"}
	lines := slices.Collect(strings.Lines(stdout))
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "→ ") || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			continue
		}
		about = append(about, line)
		if i+1 < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i+1]), "→ ") {
			about = append(about, lines[i+1])
		}
	}
	return strings.Join(about, "")
}

func TestDoctorFindsAHealthyArbiterHealthy(t *testing.T) {
	a := secured(t, 3, lab.EtcdOptions{})
	before := a.run(a.Standby, "ip", "addr")
	_, revision := a.key()
	want := `ok    arbiter https://172.16.0.11:2379: etcd 3.4.23, with TLS
ok    arbiter https://172.16.0.12:2379: etcd 3.4.23, with TLS
ok    arbiter https://172.16.0.13:2379: etcd 3.4.23, with TLS
ok    etcd has a quorum: a linearizable read was answered
ok    this machine may write to etcd: a compare-and-swap was made, and one that had to be refused was
ok    the key pingover/web is free
ok    the kernel ends an address by itself: tried on lo with 127.255.255.254/32
`
	for range 2 { // the second finds what the first has written
		stdout, _ := a.doctor(a.args...)
		if diff := cmp.Diff(want, versionless(aboutArbiter(stdout))); diff != "" {
			t.Fatalf("-want +got:\n%s\nof:\n%s", diff, stdout)
		}
	}
	if diff := cmp.Diff(before, a.run(a.Standby, "ip", "addr")); diff != "" {
		t.Errorf("addresses (-before +after):\n%s", diff)
	}
	if _, after := a.key(); after != revision {
		t.Errorf("the key was changed: revision %d, before %d", after, revision)
	}
}

// versionless is a text with Debian's version of etcd whatever is installed.
func versionless(text string) string {
	for _, word := range strings.Fields(text) {
		if rest, ok := strings.CutSuffix(word, ","); ok && strings.Count(rest, ".") == 2 && strings.HasPrefix(rest, "3.") {
			text = strings.ReplaceAll(text, "etcd "+word, "etcd 3.4.23,")
		}
	}
	return text
}

func TestDoctorFindsFaultsOfAnArbiter(t *testing.T) {
	type fault struct {
		name    string
		options lab.EtcdOptions
		change  func(a *arbitration)
		want    []string
	}
	const refusesCN = "etcd's JSON gateway refuses a certificate with a common name where there are users (400)" +
		" → set arbiter-user and arbiter-password-file, and arbiter-cert to a certificate without a common name (CN): etcd's JSON gateway takes none as a user"
	const member = "arbiter https://172.16.0.11:2379: "
	one := "warn etcd has one member: while it is down nobody takes over, and after arbiter-ttl nobody holds → use three members, on three machines"
	share(t, []fault{
		{
			"another CA",
			lab.EtcdOptions{},
			func(a *arbitration) { a.args = set(a.args, "--arbiter-ca", "/etc/pingover/other-ca.pem") },
			[]string{"fail " + member + `its certificate does not verify: x509: certificate signed by unknown authority (possibly because of "x509: ECDSA verification failure" while trying to verify candidate authority certificate "lab")` +
				" → set arbiter-ca to the CA of etcd's certificates, and arbiter-cert where etcd asks for one (client-cert-auth)", one},
		},
		{
			"a wrong password",
			lab.EtcdOptions{},
			func(a *arbitration) { a.args = set(a.args, "--arbiter-password-file", "/etc/pingover/other-password") },
			[]string{"fail " + member + "etcd does not accept the user or its password → set arbiter-user and arbiter-password-file to a user of etcd: etcdctl user list", one},
		},
		{
			"no right to the key",
			lab.EtcdOptions{},
			func(a *arbitration) {
				a.must(a.etcd.AddUser("other", "secret", "other/"))
				a.args = set(a.args, "--arbiter-user", "other")
			},
			[]string{"fail " + member + "etcd refuses the right to the key → grant the role of arbiter-user the right: etcdctl role grant-permission ROLE readwrite --prefix=true pingover/", one},
		},
		{
			"no user",
			lab.EtcdOptions{},
			func(a *arbitration) { a.args = a.args[:len(a.args)-4] },
			[]string{
				"fail " + member + "etcd asks for a user (400) → set arbiter-user and arbiter-password-file to a user of etcd: etcdctl user list",
				one, "warn etcd knows this machine by nothing: any machine that reaches its client port can change the key → enable etcd's users or client certificates, and set arbiter-user or arbiter-cert",
			},
		},
		{
			"a certificate with a common name in place of a user",
			lab.EtcdOptions{ClientCerts: true},
			func(a *arbitration) {
				a.args = append(a.args[:len(a.args)-4], "--arbiter-cert", "/etc/pingover/cert.pem", "--arbiter-cert-key", "/etc/pingover/key.pem")
			},
			[]string{"fail " + member + refusesCN, one},
		},
		{
			"a certificate with a common name beside a user",
			lab.EtcdOptions{ClientCerts: true},
			func(a *arbitration) {
				a.args = append(a.args, "--arbiter-cert", "/etc/pingover/cert.pem", "--arbiter-cert-key", "/etc/pingover/key.pem")
			},
			[]string{"fail " + member + refusesCN, one},
		},
		{
			"a certificate without a common name beside a user",
			lab.EtcdOptions{ClientCerts: true},
			func(a *arbitration) {
				a.args = append(a.args, "--arbiter-cert", "/etc/pingover/anonymous-cert.pem", "--arbiter-cert-key", "/etc/pingover/anonymous-key.pem")
			},
			[]string{one},
		},
		{
			"no certificate where one is asked for",
			lab.EtcdOptions{ClientCerts: true},
			func(a *arbitration) {},
			[]string{"fail " + member + "it refuses the TLS connection: tls: bad certificate → set arbiter-ca to the CA of etcd's certificates, and arbiter-cert where etcd asks for one (client-cert-auth)", one},
		},
		{
			"a member that is frozen",
			lab.EtcdOptions{},
			func(a *arbitration) { a.must(a.etcd.Members[0].Freeze()) },
			[]string{"fail " + member + "no answer within 1.5s → more than half of etcd's members must run and reach each other: etcdctl endpoint status --cluster", one},
		},
		{
			"a member that is not there",
			lab.EtcdOptions{},
			func(a *arbitration) { a.must(a.etcd.Members[0].Host.PowerOff()) },
			[]string{"fail " + member + "no connection → start etcd there, and let its client port through the firewall: etcdctl endpoint health", one},
		},
	}, func(f fault) string { return f.name }, func(t *testing.T, f fault) {
		a := secured(hidden(t), 1, f.options)
		f.change(a)
		stdout, _ := a.doctor(a.args...)
		text := strings.NewReplacer("no connection within 1.5s", "no connection", "no route to host", "no connection", "certificate required", "bad certificate").Replace(aboutArbiter(stdout))
		if diff := cmp.Diff(f.want, ill(text)); diff != "" {
			t.Errorf("-want +got:\n%s\nof:\n%s", diff, stdout)
		}
	})
}

// Without TLS and users, with two members, on the machines of the pair, of two clusters.
func TestDoctorFindsFaultsOfAnArbiterWithoutTLS(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{NoGateway: true})
	onStandby := a.scene.etcd(lab.EtcdOptions{}, a.Standby)
	other := a.scene.etcd(lab.EtcdOptions{}, a.Second)
	args := append(slices.Clone(a.args), "--arbiter", onStandby.URLs()[0], "--arbiter", other.URLs()[0], "--arbiter", "http://172.16.0.3:1")
	a.must(onStandby.Put(arbiterKey, `{"version":1,"holder":"other","stack":"x/1","ttl_s":10}`))
	stdout, code := a.doctor(args...)
	want := []string{
		fmt.Sprintf("fail arbiter %s: belongs to another cluster of etcd than %s: two machines could hold by two keys → set arbiter to the members of one cluster: etcdctl member list", other.URLs()[0], onStandby.URLs()[0]),
		"warn arbiter has 4 members: no more of them may be down than of 3 → use an odd number, on as many machines",
		"warn 2 of 4 members of etcd are on this machine: when that is down, nobody takes over → move members to a third machine: none may have half of them",
		"warn etcd knows this machine by nothing: any machine that reaches its client port can change the key → enable etcd's users or client certificates, and set arbiter-user or arbiter-cert",
		"warn arbiter http://172.16.0.11:2379: etcd's JSON gateway is off (404) → set enable-grpc-gateway: true in etcd's configuration file",
		fmt.Sprintf("warn arbiter %s: etcd 3.4.23, without TLS: any machine on the way can change the answers → give etcd certificates, and write https:// here", onStandby.URLs()[0]),
		"warn arbiter http://172.16.0.3:1: connect: connection refused → start etcd there, and let its client port through the firewall: etcdctl endpoint health",
	}
	if diff := cmp.Diff(want, ill(versionless(aboutArbiter(stdout)))); diff != "" || code != 78 {
		t.Errorf("exit code %d, -want +got:\n%s\nof:\n%s", code, diff, stdout)
	}
	if holder := "ok    the key pingover/web is held by other: a takeover waits until it was not renewed for 10s\n"; !strings.Contains(stdout, holder) {
		t.Errorf("doctor does not say %sbut:\n%s", holder, stdout)
	}
}
