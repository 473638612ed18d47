package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// An arbiter that refuses, and settings that cannot be: errors that say what to do,
// and never an address that is on two machines.

func TestArbiterThatRefuses(t *testing.T) {
	type refusal struct {
		name    string
		options lab.EtcdOptions
		args    func(args []string) []string
		says    string
	}
	share(t, []refusal{
		{
			"another CA",
			lab.EtcdOptions{},
			func(args []string) []string { return set(args, "--arbiter-ca", "/etc/pingover/other-ca.pem") },
			"its certificate does not verify: x509: certificate signed by unknown authority",
		},
		{
			"a wrong password",
			lab.EtcdOptions{},
			func(args []string) []string {
				return set(args, "--arbiter-password-file", "/etc/pingover/other-password")
			},
			"etcd does not accept the user or its password",
		},
		{
			"no right to the key",
			lab.EtcdOptions{},
			func(args []string) []string { return set(args, "--arbiter-user", "other") },
			"etcd refuses the right to the key",
		},
		{
			"no user",
			lab.EtcdOptions{},
			func(args []string) []string { return args[:len(args)-4] },
			"etcd asks for a user (400)",
		},
		{
			"a certificate with a common name",
			lab.EtcdOptions{ClientCerts: true},
			func(args []string) []string {
				return append(slices.Clone(args), "--arbiter-cert", "/etc/pingover/cert.pem", "--arbiter-cert-key", "/etc/pingover/key.pem")
			},
			"etcd's JSON gateway refuses a certificate with a common name where there are users (400)",
		},
	}, func(r refusal) string { return r.name }, func(t *testing.T, r refusal) {
		a := secured(hidden(t), 1, r.options)
		a.must(a.etcd.AddUser("other", "secret", "other/"))
		right := a.args
		if r.options.ClientCerts {
			right = append(slices.Clone(right), "--arbiter-cert", "/etc/pingover/anonymous-cert.pem", "--arbiter-cert-key", "/etc/pingover/anonymous-key.pem")
		}
		wrong := r.args(a.args)

		// While it stands by.
		const begins = "172.16.0.1 does not reply, but the arbiter does not answer: https://172.16.0.11:2379: "
		for range 2 {
			if e := a.check(a.Second, wrong...).want(t, state.Blocked); !strings.HasPrefix(e.Reason, begins+r.says) {
				t.Errorf("reason %q\nwant   %q", e.Reason, begins+r.says)
			}
		}

		// While it holds: the address goes on to its end.
		a.check(a.Standby, right...).want(t, state.TookOver)
		time.Sleep(arbiterTTL/4 + 100*time.Millisecond) // until the key is due again
		a.check(a.Standby, wrong...).want(t, state.Holding).matches(t, `holding 172\.16\.0\.1; .*the arbiter does not answer: 172\.16\.0\.1 ends at \d\d:\d\d:\d\d unless it does`)
		if left := a.lease(a.Standby, vip4); left > arbiterTTL {
			t.Errorf("it is assigned for another %s", left)
		}
		a.within(arbiterTTL, "the address has ended", func() bool { return a.held(a.Standby, vip4) == 0 })
	})
}

func TestArbiterWithoutItsGateway(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{NoGateway: true})
	a.check(a.Standby, a.args...).want(t, state.Blocked).
		because(t, "172.16.0.1 does not reply, but the arbiter does not answer: http://172.16.0.11:2379: etcd's JSON gateway is off (404)")
	a.wantOn(vip4)
}

// Two machines whose members belong to two clusters would each have a key of its own.
func TestArbiterOfTwoClusters(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	other := a.scene.etcd(lab.EtcdOptions{}, a.Gateway)
	a.must(other.Put(arbiterKey, arbiterFree))
	one, two := a.etcd.URLs()[0], other.URLs()[0]
	args := a.args[:len(a.args)-2]
	first := a.repeat(a.Standby, append(slices.Clone(args), "--arbiter", one, "--arbiter", two)...)
	second := a.repeat(a.Second, append(slices.Clone(args), "--arbiter", two, "--arbiter", one)...)
	first.untilSaid(state.Blocked, "belongs to another cluster of etcd than the other members")
	second.untilSaid(state.Blocked, "belongs to another cluster of etcd than the other members")
	time.Sleep(arbiterTTL)
	a.wantOn(vip4)
}

// Another pair of the same name: the key keeps it out.
func TestArbiterOfTwoPairsWithOneName(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first := a.cron(a.Standby)
	first.until(state.TookOver)
	other := set(a.args, "--host", "172.16.0.5", "--vip", "172.16.0.5")
	a.check(a.Second, other...).want(t, state.Blocked).matches(t, strings.ReplaceAll(keptOut, `172\.16\.0\.1`, `172\.16\.0\.5`))
	first.until(state.Holding)
}

func TestArbiterThatCannotBe(t *testing.T) {
	type refusal struct {
		name    string
		args    []string
		busybox bool
		code    int
		says    string
	}
	const url = "http://172.16.0.11:2379"
	with := append(slices.Clone(watchVIP), "--arbiter-ttl", "10s", "--arbiter", url)
	share(t, []refusal{
		{
			"with a lease", append(slices.Clone(with), "--lease", "1m"), false, 64,
			`pingover: --lease "1m": excludes arbiter, which sets the lifetime itself (arbiter-ttl)`,
		},
		{
			"a ttl below two looks", set(with, "--count", "5", "--interval", "1s"), false, 64,
			`pingover: --arbiter-ttl "10s": shorter than twice the longest look, 18s; increase it, or decrease count, interval, timeout or retry-wait`,
		},
		{
			"a ttl out of range", set(with, "--arbiter-ttl", "5s"), false, 64, `pingover: --arbiter-ttl "5s": out of range (6s to 1h)`,
		},
		{
			"no scheme", set(with, "--arbiter", "172.16.0.11:2379"), false, 64,
			`pingover: --arbiter "172.16.0.11:2379": a scheme is missing; write it as https://172.16.0.11:2379`,
		},
		{
			"no vip", append(slices.Clone(hasty), "--arbiter", url), false, 64, `pingover: --arbiter "` + url + `": needs a vip`,
		},
		{
			"ifconfig", append(slices.Clone(with), "--tool", "ifconfig"), false, 64,
			`pingover: --arbiter "` + url + `": needs ip of iproute2, but the tool is ifconfig`,
		},
		{
			"busybox ip", with, true, 78,
			"pingover: web: arbiter: BUSYBOX/ip is part of busybox, and a lease needs the ip of iproute2 (Debian package iproute2)\nhint: set tool to the ip of iproute2, or remove arbiter",
		},
	}, func(r refusal) string { return r.name }, func(t *testing.T, r refusal) {
		s := side(t)
		if r.busybox {
			r.says = strings.Replace(r.says, "BUSYBOX", s.busybox("ip"), 1)
		}
		untouched := s.untouched(s.Standby)
		e := s.say(s.Standby, r.args...)
		if e.code != r.code || e.stdout != "" || strings.TrimSpace(e.stderr) != r.says {
			t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant   %d and %s", e.code, e.stdout, e.stderr, r.code, r.says)
		}
		untouched()
	})
}
