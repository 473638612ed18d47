package config

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/exit"
)

func TestServicesAreParsedOnce(t *testing.T) {
	for text, want := range map[string]check.Service{
		"tcp:1":                        {Port: 1},
		"tcp:65535":                    {Port: 65535},
		"http://www.example.com":       {URL: &url.URL{Scheme: "http", Host: "www.example.com"}},
		"HTTPS://[::1]:8443/h?a=b&c":   {URL: &url.URL{Scheme: "https", Host: "[::1]:8443", Path: "/h", RawQuery: "a=b&c"}},
		"http://nagios:secret@web/":    {URL: &url.URL{Scheme: "http", User: url.UserPassword("nagios", "secret"), Host: "web", Path: "/"}},
		"sh -c 'exit 2' {} http://{}/": {Argv: []string{"sh", "-c", "exit 2", "{}", "http://{}/"}},
	} {
		got, err := FromFlags(map[string][]string{"host": {"h"}, "service": {text}}, rootOn("standby"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff([]check.Service{want}, got.Services, cmp.AllowUnexported(url.Userinfo{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", text, diff)
		}
	}
}

func TestServicesThatAreWrong(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	const form = "; must be tcp:PORT, an http or https URL, or a command"
	for text, want := range map[string]struct {
		text string
		code int
	}{
		"tcp:":                      {`port "": not a number (1 to 65535)`, exit.Usage},
		"tcp:0":                     {`port "0": out of range (1 to 65535)`, exit.Usage},
		"tcp:65536":                 {`port "65536": out of range (1 to 65535)`, exit.Usage},
		"tcp:99999999999999999999":  {`port "99999999999999999999": out of range (1 to 65535)`, exit.Usage},
		"tcp:http":                  {`port "http": not a number (1 to 65535)`, exit.Usage},
		"tcp:-1":                    {`port "-1": not a number (1 to 65535)`, exit.Usage},
		"tcp: 80":                   {`port " 80": not a number (1 to 65535)`, exit.Usage},
		"udp:53":                    {`begins with "udp:"` + form, exit.Usage},
		"http:www.example.com":      {`begins with "http:"` + form, exit.Usage},
		"http:/www.example.com":     {`begins with "http:"` + form, exit.Usage},
		"www.example.com:80":        {`begins with "www.example.com:"` + form, exit.Usage},
		"ftp://www.example.com":     {`scheme "ftp": must be http or https`, exit.Usage},
		"tcp://www.example.com:80":  {`port "//www.example.com:80": not a number (1 to 65535)`, exit.Usage},
		"http://":                   {"a host is missing, such as http://www.example.com/", exit.Usage},
		"https:///health":           {"a host is missing, such as https://www.example.com/", exit.Usage},
		"http://:80/":               {"a host is missing, such as http://www.example.com/", exit.Usage},
		"http://www.example.com:0/": {`port "0": out of range (1 to 65535)`, exit.Usage},
		"http://www.example.com:/":  {`port "": not a number (1 to 65535)`, exit.Usage},
		"http://web:70000/":         {`port "70000": out of range (1 to 65535)`, exit.Usage},
		"http://web:http/":          {`not a URL: invalid port ":http" after host`, exit.Usage},
		"http://web/a b":            {"not a URL: it contains a blank", exit.Usage},
		"http://web/%zz":            {`not a URL: invalid URL escape "%zz"`, exit.Usage},
		"http://web/#top":           {"a fragment is never sent; leave #top out", exit.Usage},
		"http://my_web/":            {`host "my_web": neither an address nor a host name: it contains an underscore`, exit.Usage},
		"http://10.0.0.300/":        {`host "10.0.0.300": neither an address nor a host name`, exit.Usage},
		"sh -c x | grep y":          {`"|" needs a shell, such as sh -c '...'; in single quotes it is an ordinary character`, exit.Usage},
		"sh 'x":                     {"the quote ' is not closed", exit.Usage},
		"./check {}":                {`"./check": must be an absolute path, because cron starts in another directory, or a name without a slash`, exit.Usage},
		"/no/such/check_http -H {}": {`"/no/such/check_http": no such file or directory`, exit.Config},
		"no-such-check_http -H {}":  {`"no-such-check_http" not found in `, exit.Config},
	} {
		_, err := FromFlags(map[string][]string{"host": {"h"}, "service": {text}}, rootOn("standby"))
		problems, _ := err.(Problems)
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Text, want.text) || problems[0].Place != `--service "`+text+`"` || problems[0].Code != want.code {
			t.Errorf("%s: %+v, want %s (%d)", text, problems, want.text, want.code)
		}
	}
}

func TestTheSameServiceTwiceIsWrong(t *testing.T) {
	_, err := FromFlags(flags("--host h --service tcp:80 --service tcp:81 --service tcp:80"), rootOn("standby"))
	if diff := cmp.Diff(`--service "tcp:80": is given twice`, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestThePasswordOfAServiceStaysOutOfErrors(t *testing.T) {
	for given, want := range map[string]string{
		"http://nagios:secret@web:0/":    `--service "http://…@web:0/": port "0": out of range (1 to 65535)`,
		"http://nagios:secret@web:http/": `--service "http://…@web:http/": not a URL: invalid port ":http" after host`,
		"sh -c x & -f ops@example.com":   `--service "sh -c x & -f ops@example.com": "&" needs a shell, such as sh -c '...'; in single quotes it is an ordinary character`,
	} {
		_, err := FromFlags(map[string][]string{"host": {"h"}, "service": {given}}, rootOn("standby"))
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

// Without fencing a service never makes this machine take what a live primary has.
func TestFailoverOnServiceNeedsFencing(t *testing.T) {
	const fence = " --pre-takeover true"
	for line, want := range map[string]string{
		"--service tcp:80 --vip 172.16.0.1" + fence:                         "",
		"--service tcp:80 --vip 172.16.0.1":                                 `--failover-on "service": needs pre-takeover, a command that cuts the primary off (fencing): without it both machines would have the vip`,
		"--vip 172.16.0.1" + fence:                                          `--failover-on "service": needs a service and a vip`,
		"--service tcp:80" + fence:                                          `--failover-on "service": needs a service and a vip`,
		"--service tcp:80 --vip 172.16.0.1 --duplicate-check false" + fence: `--failover-on "service": needs duplicate-check, to verify that the primary is isolated`,
		// One error, one problem.
		"--service tcp:0 --vip 172.16.0.1" + fence:             `--service "tcp:0": port "0": out of range (1 to 65535)`,
		"--service tcp:80 --vip x" + fence:                     `--vip "x": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1`,
		"--service tcp:80 --vip 172.16.0.1 --pre-takeover ./x": `--pre-takeover "./x": "./x": must be an absolute path, because cron starts in another directory, or a name without a slash`,
	} {
		_, err := FromFlags(flags("--host 172.16.0.2 --failover-on service "+line), rootOn("standby"))
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("%s: -want +got\n%s", line, diff)
		}
		if problems, _ := err.(Problems); strings.Contains(want, "fencing") && problems.Code() != exit.Config {
			t.Errorf("%s: %d", line, problems.Code())
		}
	}
}

// In defaults it is for the clusters that have a service.
func TestFailoverOnServiceInDefaults(t *testing.T) {
	head := "defaults: {failover-on: service}\nclusters:\n  plain: {host: 172.16.0.2, vip: 172.16.0.1}\n  web:\n    host: 172.16.0.4\n    vip: 172.16.0.3\n    service: tcp:80\n"
	got, err := clustersIn("p.yaml", []byte(head+"    pre-takeover: 'true'\n"), nil, rootOn("standby"))
	if err != nil || got[0].FailoverOnService || !got[1].FailoverOnService || got[0].Given["failover-on"] != nil {
		t.Errorf("%v, %+v", err, got)
	}
	_, err = clustersIn("p.yaml", []byte(head), nil, rootOn("standby"))
	want := `p.yaml:1: cluster web: failover-on "service": needs pre-takeover, a command that cuts the primary off (fencing): without it both machines would have the vip`
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestServiceCAMustHaveACertificate(t *testing.T) {
	for path, want := range map[string]string{
		file(t, "ca.pem", certificate(t)): "",
		file(t, "empty.pem", "hello"):     "it has no certificate in PEM format",
		"/no/such/ca.pem":                 "cannot be read: no such file or directory",
	} {
		_, err := FromFlags(flags("--host h --service-ca "+path), rootOn("standby"))
		if want != "" {
			want = `--service-ca "` + path + `": ` + want
		}
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

// The roots are read when they are needed: the file may be gone by then.
func TestServiceRoots(t *testing.T) {
	if ServiceRoots("") != nil {
		t.Error("roots of no file")
	}
	if roots, err := ServiceRoots(file(t, "ca.pem", certificate(t)))(); roots == nil || err != nil {
		t.Errorf("%v, %v", roots, err)
	}
	_, err := ServiceRoots("/no/such/ca.pem")()
	if diff := cmp.Diff(`service-ca "/no/such/ca.pem": cannot be read: no such file or directory`, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTheLongestCheckHasTheServicesInIt(t *testing.T) {
	for line, want := range map[string]time.Duration{
		"--service tcp:80":                 52900 * time.Millisecond, // a competing prober takes as long
		"--service tcp:80 --timeout 8s":    2*20*time.Second + 20*time.Second + 8*time.Second + 3900*time.Millisecond,
		"--service true --hook-timeout 1m": 2*13*time.Second + 20*time.Second + 62*time.Second + 3900*time.Millisecond,
		"--service true --hook-timeout 1m --count 1 --retry-wait 0 --timeout 1s":      67900 * time.Millisecond,
		"--service tcp:80 --vip 172.16.0.1 --failover-on service --pre-takeover true": 2*13*time.Second + 20*time.Second + 16*time.Second + 3900*time.Millisecond,
	} {
		c, err := FromFlags(flags("--host h "+line), rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		if c.LongestProbe() != want {
			t.Errorf("%s: %s, want %s", line, c.LongestProbe(), want)
		}
	}
	_, err := FromFlags(flags("--host h --vip 172.16.0.1 --lease 100s --service true"), rootOn("standby"))
	want := `--lease "100s": shorter than twice the longest check, 2m43.8s; increase it, or decrease count, interval, timeout, retry-wait or hook-timeout`
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
