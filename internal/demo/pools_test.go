package demo

import (
	"strings"
	"testing"

	"pingover/internal/exit"
	"pingover/internal/lab"
)

// wantPools is what the demo of a pool shows, in this order; what stands between
// is free.
var wantPools = []string{
	`^--- A pool, in a network of its own -{44}$`,
	`^--- 1\. One name, three hosts -{51}$`,
	`^    client: (123){4}|(231){4}|(312){4}`,
	`^    client: \d+ connections, \d+ failed$`,
	`^    checker# cat /etc/pingover\.yaml$`,
	`^        members: \[10\.2\.2\.1, 10\.2\.2\.2, 10\.2\.2\.3\]$`,
	`^    checker# pingover check www$`,
	`^Exit code 0: ok\.$`,
	`^--- 2\. A host loses its power -+$`,
	`^    checker# pingover check www$`,
	`^    pingover: www: removed: 10\.2\.2\.2 is down: 10\.2\.2\.2 leaves www\.example\.org$`,
	`^Exit code 11: removed\.$`,
	`^    client: [123]{3}.* [13]+ .*(13){4}`,
	`^    client: \d+ connections, [1-9]\d* failed$`,
	`^    update delete www\.example\.org\. A 10\.2\.2\.2$`,
	`^    Subject: \[pingover\] www: 10\.2\.2\.2 is down! removed from www\.example\.org$`,
	`^--- 3\. The host is back -+$`,
	`^Exit code 10: reduced\.$`,
	`^    pingover: www: restored: 10\.2\.2\.2 was up in 2 checks in a row: 10\.2\.2\.2$`,
	`^Exit code 12: restored\.$`,
	`^    client: [13].*(123){2}`,
	`^Exit code 0: ok\.$`,
	`^--- 4\. The history -+$`,
	`^    checker# pingover history www$`,
	`  www  removed: 10\.2\.2\.2 is down`,
	`  www  restored: 10\.2\.2\.2 was up in 2 checks`,
	`^Every step was verified, in \d+ s, and the machines are gone\.$`,
}

func needNames(t *testing.T) {
	t.Helper()
	if err := lab.NameServerAvailable(); err != nil {
		lab.Skip(t, err)
	}
}

// preparePools makes a demo of a pool, as prepare does.
func preparePools(t *testing.T, script string) *showing {
	t.Helper()
	s := prepare(t, script)
	needNames(t)
	s.cmd.Env = append(s.cmd.Env, screens+"=pools")
	return s
}

func TestDemoOfPools(t *testing.T) {
	s := preparePools(t, "")
	s.ends(0, "")
	tells(t, s.stdout.String(), wantPools...)
}

func TestDemoOfPoolsNotAsTold(t *testing.T) {
	notShort(t)
	for name, test := range map[string]struct{ program, want string }{
		"the check fails": {
			"exit 1",
			"1. One name, three hosts: pingover check ended with exit code 1, and should have with 0 (ok)",
		},
		"the update is not made": {
			`exec $REAL "$@" --dry-run`,
			"2. A host loses its power: since the check the client does not reach web1 and web3 only",
		},
		"nobody is told": {
			`sed -i 's|smtp://10.2.0.53$|&:26|' /etc/pingover.yaml; exec $REAL "$@"`,
			`2. A host loses its power: the mail that came is [], and should be ["[pingover] www: 10.2.2.2 is down! removed from www.example.org"]`,
		},
		"the host is not put back": {
			`$REAL "$@"; code=$?
			[ $code = 11 ] && sed -i 's|rise: 2|rise: 9|' /etc/pingover.yaml
			exit $code`,
			"3. The host is back: pingover check ended with exit code 10, and should have with 12 (restored)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := preparePools(t, test.program)
			s.ends(exit.Internal, test.want+"\n")
			if strings.Contains(s.stdout.String(), "step was verified") {
				t.Errorf("it goes on:\n%s", &s.stdout)
			}
		})
	}
}

const noNamed = `! named=$(command -v named) || mount --bind /dev/null "$named"`

func TestDemoOfPoolsNeedsANameServer(t *testing.T) {
	s := without(t, noNamed)
	s.cmd.Env = append(s.cmd.Env, screens+"=pools")
	s.ends(exit.Unavailable, "cannot run here: named is missing: install the package bind9\n")
	if s.stdout.Len() > 0 {
		t.Errorf("stdout: %s", &s.stdout)
	}
}

func TestDemoSaysWhatPoolsNeed(t *testing.T) {
	notShort(t)
	s := without(t, noNamed)
	s.ends(0, "")
	const want = "\n\"pingover demo pools\" cannot run: named is missing: install the package bind9.\n"
	if !strings.HasSuffix(s.stdout.String(), want) {
		t.Errorf("it does not end with %s:\n%s", want, &s.stdout)
	}
}

func TestReaches(t *testing.T) {
	for name, tt := range map[string]struct {
		seen, digits string
		since        int
		want         bool
	}{
		"all three":             {"123123123", "123", 0, true},
		"too early to tell":     {"12312312", "123", 0, false},
		"too few since then":    {"123123123123", "123", 6, false},
		"one that is not seen":  {"131313131", "123", 0, false},
		"one that should not":   {"131313132", "13", 0, false},
		"a failure":             {"1313 1313", "13", 0, false},
		"a failure before that": {"1 2 131313131", "13", 0, true},
		"one is still open":     {"13131313\x001", "13", 0, false},
	} {
		v := &visits{reached: []byte(tt.seen)}
		if got := v.reaches(tt.since, tt.digits)(); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
