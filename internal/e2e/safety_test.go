package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// How safe the fast line is. Each of these takes minutes to an hour, so each is
// skipped without its flag:
//
//	go test ./internal/e2e -run TestNoTakeoverOnALossyLink -safety.minutes 20 -timeout 1h -v
//	go test ./internal/e2e -run TestPowerCutsAndReturns -safety.cuts 200 -timeout 2h -v
//	go test ./internal/e2e -run TestPowerCutsBesideAnotherStandby -safety.cuts 200 -timeout 2h -v
var (
	safetyMinutes = flag.Float64("safety.minutes", 0, "how long 50 clusters are watched on a lossy link, with all processors busy")
	safetyCuts    = flag.Int("safety.cuts", 0, "how often the primary loses power")
)

// safety is a scene without a limit on its time.
func safety(t *testing.T, wanted bool) *scene {
	t.Helper()
	if !wanted {
		t.Skip("takes long: see the flags in safety_test.go")
	}
	return shortScene(t)
}

// burn keeps all processors busy until the test ends.
func burn(t *testing.T) {
	for range runtime.NumCPU() {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
}

// TestNoTakeoverOnALossyLink: 50 clusters in one watch with the fast line, a fifth
// of the frames lost each way, all processors busy, and primaries that are up.
func TestNoTakeoverOnALossyLink(t *testing.T) {
	const clusters = 50
	s := safety(t, *safetyMinutes > 0)
	all := s.manyPrimaries(clusters)
	var file strings.Builder
	file.WriteString("defaults: {" + strings.Join(fastSettings(), ", ") + ", boot-wait: 0s}\nclusters:\n")
	for i, p := range all {
		fmt.Fprintf(&file, "  c%d: {host: %s, vip: %s}\n", i, p.host, p.vip)
	}
	path := filepath.Join(t.TempDir(), "fifty.yaml")
	s.must(os.WriteFile(path, []byte(file.String()), 0o600))
	w := s.fastWatch(s.Standby, "--file", path)
	time.Sleep(10 * time.Second)
	s.must(s.Standby.Lose(20))
	s.must(s.Primary.Lose(20))
	burn(t)
	user, system := ticks(t, w.cmd.Process.Pid)
	began := time.Now()
	length := time.Duration(*safetyMinutes * float64(time.Minute))
	for time.Since(began) < length {
		time.Sleep(min(10*time.Second, length-time.Since(began)+time.Millisecond))
		if out := s.run(s.Standby, "ip", "-o", "addr", "show", "dev", "eth0"); strings.Contains(out, " 172.16.20.") {
			t.Fatalf("a wrong takeover after %s:\n%s", time.Since(began), out)
		}
	}
	u, k := ticks(t, w.cmd.Process.Pid)
	s.must(w.cmd.Process.Signal(syscall.SIGTERM))
	_ = w.cmd.Wait()
	if said := betweenStartAndEnd(w.said()); strings.Contains(said, "took-over") {
		t.Errorf("it said: %s", said)
	}
	var total state.Day
	for i := range all {
		rec, err := state.Parse([]byte(s.run(s.Standby, "cat", fmt.Sprintf("/var/lib/pingover/c%d.json", i))))
		s.must(err)
		for _, d := range rec.Days {
			total.Checks, total.Up, total.Down, total.Unknown = total.Checks+d.Checks, total.Up+d.Up, total.Down+d.Down, total.Unknown+d.Unknown
		}
	}
	t.Logf("%.0f cluster-minutes: %d checks, %d up, %d with two silent rounds, %d unknown; %.1f%% of a processor",
		clusters*length.Minutes(), total.Checks, total.Up, total.Down, total.Unknown, float64(u-user+k-system)/length.Seconds())
	if total.Up == 0 {
		t.Error("no check found a primary up")
	}
}

// fastSettings are those of the fast line that a file has.
func fastSettings() (settings []string) {
	for i := 0; i < len(fastLine); i += 2 {
		if name := strings.TrimPrefix(fastLine[i], "--"); name != "every" {
			settings = append(settings, name+": "+fastLine[i+1])
		}
	}
	return settings
}

// ticks are the hundredths of a second that a process has used (proc_pid_stat(5)).
func ticks(t testing.TB, pid int) (user, system int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	for i, n := range map[int]*int{11: &user, 12: &system} {
		if _, err := fmt.Sscan(fields[i], n); err != nil {
			t.Fatal(err)
		}
	}
	return user, system
}

// TestPowerCutsAndReturns: each cut is taken over once, and each primary that comes
// back gets its address within two checks.
func TestPowerCutsAndReturns(t *testing.T) {
	s := safety(t, *safetyCuts > 0)
	ended := outcomes{counts: map[string]int{}}
	cmd := s.Standby.Command(t.Context(), slices.Concat([]string{s.path, "watch", "--json"}, fastLine, fastCluster)...)
	cmd.Stdout = &ended
	s.must(cmd.Start())
	count := ended.count
	time.Sleep(2 * time.Second)
	for i := 1; i <= *safetyCuts; i++ {
		time.Sleep(time.Duration(i%10) * 10 * time.Millisecond) // at another moment of the tick
		s.must(s.Primary.PowerOff())
		s.takesOver()
		s.within(10*time.Second, "it holds", ended.now("holding"))
		s.must(s.Primary.PowerOn())
		before := count("holding")
		s.within(15*time.Second, "the address is given back", func() bool { return count("released") == i })
		if n := count("holding") - before; n > 1 { // the one under way, and the one that releases
			t.Errorf("cut %d: given back after %d further checks", i, n+1)
		}
		s.within(10*time.Second, "all is well", ended.now("ok"))
		s.wantOn(vip4, s.Primary)
		if n := count("took-over"); n != i {
			t.Fatalf("%d takeovers after %d cuts", n, i)
		}
	}
	t.Logf("%d power cuts, %d takeovers, %d returns", *safetyCuts, count("took-over"), count("released"))
	s.must(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
}

// outcomes counts the objects that a watch prints, by their outcome.
type outcomes struct {
	mu      sync.Mutex
	partial string // of a line
	last    string
	counts  map[string]int
}

func (o *outcomes) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(o.partial+string(p), "\n")
	for _, line := range lines[:len(lines)-1] {
		_, rest, _ := strings.Cut(line, `"outcome":"`)
		o.last, _, _ = strings.Cut(rest, `"`)
		o.counts[o.last]++
	}
	o.partial = lines[len(lines)-1]
	return len(p), nil
}

func (o *outcomes) count(outcome string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[outcome]
}

// now tells whether the last check ended so.
func (o *outcomes) now(outcome string) func() bool {
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.last == outcome
	}
}

// TestPowerCutsBesideAnotherStandby: two standbys with the fast line, one holder
// after each cut.
func TestPowerCutsBesideAnotherStandby(t *testing.T) {
	s := safety(t, *safetyCuts > 0)
	standbys := []*lab.Host{s.Standby, s.Second}
	for _, h := range standbys {
		w := s.fastWatch(h, fastCluster...)
		defer func() { _ = w.cmd.Process.Signal(syscall.SIGTERM); _ = w.cmd.Wait() }()
	}
	holders := func() (n int) { return s.held(s.Standby, vip4) + s.held(s.Second, vip4) }
	time.Sleep(3 * time.Second)
	won, both := map[string]int{}, 0
	for i := 1; i <= *safetyCuts; i++ {
		time.Sleep(time.Duration(i%10) * 10 * time.Millisecond)
		s.must(s.Primary.PowerOff())
		s.within(8*time.Second, "one has the address", func() bool { return holders() > 0 })
		if holders() > 1 {
			both++ // for a moment, as under simultaneous probes
		}
		time.Sleep(4 * time.Second)
		s.within(20*time.Second, "exactly one has the address", func() bool { return holders() == 1 })
		for _, h := range standbys {
			if s.held(h, vip4) == 1 {
				won[h.Name()]++
			}
		}
		s.must(s.Primary.PowerOn())
		s.within(20*time.Second, "the primary alone has the address", func() bool { return holders() == 0 })
		time.Sleep(2 * time.Second)
		s.wantOn(vip4, s.Primary)
	}
	t.Logf("%d power cuts, holders: %v; %d times both had it at first", *safetyCuts, won, both)
}
