package config

import (
	"testing"
)

// A password is sent over TLS, or to this machine alone.
func TestTheArbitersPasswordIsNotSentInTheClear(t *testing.T) {
	password := file(t, "password", "secret\n")
	for member, want := range map[string]string{
		"https://10.0.0.11": "",
		"http://127.0.0.1":  "",
		"http://10.0.0.11":  `--arbiter "http://10.0.0.11": would send the password of arbiter-user without TLS; write it as https://10.0.0.11:2379`,
	} {
		_, err := FromFlags(flags("--host h --vip 172.16.0.1 --arbiter "+member+" --arbiter-user u --arbiter-password-file "+password), rootOn("standby"))
		if text(err) != want {
			t.Errorf("%s: %v, want %s", member, err, want)
		}
	}
}

// What is in defaults for clusters with a vip is ignored for one without, and so is
// a lease for one with an arbiter.
func TestDefaultsOfTheArbiterThatDoNotApply(t *testing.T) {
	const text = `
defaults:
  arbiter: [https://10.0.0.11:2379]
  arbiter-ttl: 4m
  lease: 3m
clusters:
  web: {host: 172.16.0.2}
  db: {host: 172.16.0.3, vip: 172.16.0.5}
`
	all, err := clustersIn("f", []byte(text), nil, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	if all[0].Arbiter.Set() || !all[1].Arbiter.Set() || all[1].Lease != 0 || all[1].Lifetime().String() != "3m53s" {
		t.Errorf("%+v, %+v, lease %s, lifetime %s", all[0].Arbiter, all[1].Arbiter, all[1].Lease, all[1].Lifetime())
	}
}

func TestAFileOfTheArbiterThatIsBroken(t *testing.T) {
	cert, _ := certificateWithKey(t)
	_, otherKey := certificateWithKey(t)
	broken := file(t, "ca.pem", "no certificate")
	certFile, keyFile := file(t, "cert.pem", cert), file(t, "key.pem", otherKey)
	for line, want := range map[string]string{
		"--arbiter-ca " + broken: `--arbiter-ca "` + broken + `": it has no certificate in PEM format`,
		"--arbiter-cert " + certFile + " --arbiter-cert-key " + keyFile: `--arbiter-cert "` + certFile + `": arbiter-cert and arbiter-cert-key cannot be used: tls: private key does not match public key`,
	} {
		_, err := FromFlags(flags("--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 "+line), rootOn("standby"))
		if text(err) != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
		kept := rootOn("standby")
		kept.Kept = true // a running cluster goes on, and its arbiter does not answer
		if _, err := FromFlags(flags("--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 "+line), kept); err != nil {
			t.Errorf("%s, kept: %v", line, err)
		}
	}
}
