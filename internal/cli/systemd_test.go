package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
)

// under is a watch with these variables, which ends when told says so.
func under(t *testing.T, env map[string]string, hangup chan os.Signal, during func(end func())) (code int, stderr string) {
	t.Helper()
	p := faked(func(config.Cluster, failover.Options) (failover.Report, error) {
		return failover.Report{Outcome: state.OK, Reason: "fine"}, nil
	})
	p.Env.Getenv = func(name string) string { return env[name] }
	p.Hangup = func() <-chan os.Signal { return hangup }
	var out strings.Builder
	p.Stdout, p.Stderr = &out, &out
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		ended <- p.Run(ctx, []string{"watch", "--host", "172.16.0.2", "--name", "web", "--every", "1s", "--state-dir", t.TempDir()})
	}()
	during(cancel)
	return <-ended, out.String()
}

func TestWatchTellsSystemd(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@pingover-test-%d", os.Getpid())} {
		received, _ := datagrams(t, socket)
		env := map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "400000"}
		hangup := make(chan os.Signal, 1)
		_, stderr := under(t, env, hangup, func(end func()) {
			var all []string
			until := func(state string) {
				t.Helper()
				for began := time.Now(); time.Since(began) < 5*time.Second; {
					if slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, state) }) {
						return
					}
					all = append(all, received(time.Second)...)
				}
				t.Errorf("%s: no %s in %q", socket, state, all)
			}
			until("READY=1")
			if all[0] != "READY=1" {
				t.Errorf("the first is %q", all[0])
			}
			until("WATCHDOG=1")
			all = nil
			hangup <- syscall.SIGHUP
			until("RELOADING=1")
			until("READY=1")
			if i := slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, "RELOADING") }); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`).MatchString(all[i]) {
				t.Errorf("reloading: %q", all[i])
			}
			end()
			until("STOPPING=1")
		})
		if strings.Contains(stderr, "NOTIFY_SOCKET") {
			t.Errorf("stderr: %s", stderr)
		}
	}
}

// The watchdog of another process, a socket that is not there, and one that is no
// path are no reason not to watch.
func TestWatchWithoutAServiceManager(t *testing.T) {
	for socket, want := range map[string]string{
		"":      "",
		"/none": "pingover: NOTIFY_SOCKET: dial unixgram /none: connect: no such file or directory\n",
		"vsock": `pingover: NOTIFY_SOCKET "vsock": must be a path, or @ and the name of an abstract socket` + "\n",
	} {
		_, stderr := under(t, map[string]string{"NOTIFY_SOCKET": socket}, nil, func(end func()) { time.Sleep(100 * time.Millisecond); end() })
		if got := strings.Contains(stderr, "NOTIFY_SOCKET"); got != (want != "") || !strings.Contains(stderr, want) || !strings.Contains(stderr, "watching with version") {
			t.Errorf("%q: %s", socket, stderr)
		}
	}
	p := Program{Env: config.Env{Getenv: func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": "@pingover-test-other", "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}[name]
	}}}
	datagrams(t, "@pingover-test-other")
	if m, err := p.serviceManager(os.Getpid()); err != nil || m.watchdog != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
