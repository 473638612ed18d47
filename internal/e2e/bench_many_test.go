package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/state"
)

// Many clusters in one run, side by side.

// fleet is n clusters in a configuration file of the standby.
type fleet struct {
	*scene
	n    int
	file string
}

// networks are where the primaries and the virtual IPs are, with a route to the
// primary's own address: a thousand neighbours would fill the kernel's table of
// 1,024 (net.ipv4.neigh.default.gc_thresh3), which all labs of the machine share,
// and then it drops pings silently.
var networks = []string{"10.64.0.0/16", "10.65.0.0/16"}

func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 64, byte(i / 200), byte(1 + i%200)}) }
func vipOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 65, byte(i / 200), byte(1 + i%200)})
}
func nameOf(i int) string { return fmt.Sprintf("c%04d", i) }

// newFleet puts n clusters onto a lab, whose primaries are all addresses of the
// primary; defaults are lines for the file.
func newFleet(s *scene, n int, vips bool, defaults ...string) *fleet {
	s.t.Helper()
	f := &fleet{scene: s, n: n, file: filepath.Join(s.t.TempDir(), "pingover.yaml")}
	for _, network := range networks {
		s.run(s.Standby, "ip", "route", "replace", network, "via", "172.16.0.2")
		s.run(s.Client, "ip", "route", "replace", network, "dev", "eth0")
	}
	var add, text strings.Builder
	fmt.Fprintf(&text, "defaults:\n  interface: eth0\n  witness: 172.16.0.254\n  boot-wait: 0\n")
	for _, line := range defaults {
		fmt.Fprintf(&text, "  %s\n", line)
	}
	fmt.Fprintf(&text, "clusters:\n")
	for i := range n {
		fmt.Fprintf(&add, "addr replace %s/32 dev eth0\n", host(i))
		fmt.Fprintf(&text, "  %s:\n    host: %s\n", nameOf(i), host(i))
		if vips {
			fmt.Fprintf(&add, "addr replace %s/32 dev eth0\n", vipOf(i))
			fmt.Fprintf(&text, "    vip: %s\n", vipOf(i))
		}
	}
	f.batch(s.Primary, add.String())
	s.must(os.WriteFile(f.file, []byte(text.String()), 0o600))
	return f
}

// batch runs many lines of ip(8) at once on a host.
func (f *fleet) batch(h *lab.Host, lines string) {
	f.t.Helper()
	ip := h.Command(f.t.Context(), "ip", "-batch", "-")
	ip.Stdin = strings.NewReader(lines)
	if out, err := ip.CombinedOutput(); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
}

// usage is what a run took.
type usage struct {
	wall, cpu time.Duration
	peak      float64 // MiB, where time(1) is there
}

// measured runs a command on the standby. Its peak is that of time(1): the
// kernel counts the memory of this process, which starts it, as our child's.
func (f *fleet) measured(argv ...string) (used usage, code int, stdout []byte) {
	f.t.Helper()
	timed, err := exec.LookPath("/usr/bin/time")
	if err == nil {
		argv = append([]string{timed, "-q", "-f", "peak %M"}, argv...)
	}
	cmd := f.Standby.Command(f.t.Context(), argv...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	began := time.Now()
	err = cmd.Run()
	used.wall = time.Since(began)
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	used.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if _, text, ok := strings.Cut("\n"+stderr.String(), "\npeak "); ok {
		fmt.Sscan(text, &used.peak)
		used.peak /= 1024
	}
	return used, cmd.ProcessState.ExitCode(), out.Bytes()
}

// run makes one check of all clusters; each must have this outcome.
func (f *fleet) run(want state.Outcome) (used usage, reports []failover.Report) {
	f.t.Helper()
	used, code, stdout := f.measured(f.path, "check", "--file", f.file, "--json")
	for decoder := json.NewDecoder(bytes.NewReader(stdout)); decoder.More(); {
		var r failover.Report
		f.must(decoder.Decode(&r))
		if name := nameOf(len(reports)); r.Cluster != name || r.Outcome != want {
			f.t.Fatalf("%s %s, want %s %s: %s\n%+v", r.Cluster, r.Outcome, name, want, r.Reason, r.Evidence)
		}
		reports = append(reports, r)
	}
	if len(reports) != f.n || code != want.Code() {
		f.t.Fatalf("%d reports and exit code %d, want %d and %d", len(reports), code, f.n, want.Code())
	}
	return used, reports
}

// wantTaken fails the test unless all virtual IPs are here, each once, under a
// label of its own.
func (f *fleet) wantTaken() {
	f.t.Helper()
	labels, here := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(f.scene.run(f.Standby, "ip", "-o", "-4", "addr", "show", "dev", "eth0")) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[3], "10.65.") {
			here[fields[3]]++
			labels[fields[slices.Index(fields, "global")+1]] = true
		}
	}
	for i := range f.n {
		if got := here[vipOf(i).String()+"/32"]; got != 1 {
			f.t.Errorf("%s is assigned %d times on the standby", vipOf(i), got)
		}
	}
	if len(labels) != f.n {
		f.t.Errorf("%d labels for %d virtual IPs", len(labels), f.n)
	}
}

// sudden are settings under which a takeover takes about nine seconds, and a
// witness has a second to reply on a busy machine.
var sudden = []string{
	"count: 3", "interval: 1s", "timeout: 1s", "retry-wait: 1s", "announce: 2",
	"mail-to: ops@example.org", "mail-via: smtp://172.16.0.254",
}

// TestAThousandClusters: a primary that is up is found up whatever the number, and
// one that is down is taken over, each with an email.
func TestAThousandClusters(t *testing.T) {
	s := newScene(t)
	if lab.LongRun() {
		newFleet(s, 1000, true).run(state.OK)
	}
	newFleet(s, 100, true).run(state.OK)

	f := newFleet(s, 100, true, sudden...)
	s.must(s.Primary.PowerOff())
	f.run(state.TookOver)
	f.wantTaken()
	told := map[string]bool{}
	for _, l := range s.mail.all() {
		told[l.subject] = true
	}
	if got := len(s.mail.all()); got != f.n || len(told) != f.n {
		t.Errorf("%d mails, %d of them different, of %d takeovers", got, len(told), f.n)
	}
	f.run(state.Holding)
	if got := len(s.mail.all()); got != f.n {
		t.Errorf("%d mails after the next check", got)
	}
}

// BenchmarkManyClusters is one run for n clusters whose primaries reply,
// without and with a virtual IP each, beside fping on the same addresses.
//
//	go test -run '^$' -bench ManyClusters -benchtime 10x ./internal/e2e
func BenchmarkManyClusters(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		for _, tool := range []struct {
			name string
			vips bool
			argv []string
		}{
			{name: "pingover"},
			{name: "pingover-vip", vips: true},
			{name: "fping-i1", argv: []string{"fping", "-a", "-i", "1"}},
			{name: "fping", argv: []string{"fping", "-a"}},
		} {
			b.Run(fmt.Sprintf("%s/%d", tool.name, n), func(b *testing.B) {
				f := newFleet(newScene(b), n, tool.vips)
				var spent bill
				for b.Loop() {
					if tool.argv == nil {
						used, _ := f.run(state.OK)
						spent.add(used)
						continue
					}
					used, code, out := f.measured(append(tool.argv, f.targets()...)...)
					if got := bytes.Count(out, []byte("\n")); code != 0 || got != n {
						b.Errorf("fping found %d of %d alive, exit code %d", got, n, code)
					}
					spent.add(used)
				}
				spent.report(b)
			})
		}
	}
}

// BenchmarkManyTakeovers is one run for n clusters whose primaries lost power,
// each with a virtual IP and a mail: what it takes beyond that for one.
//
//	go test -run '^$' -bench ManyTakeovers -benchtime 3x ./internal/e2e
func BenchmarkManyTakeovers(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var spent bill
			for b.Loop() {
				s := newScene(b)
				f := newFleet(s, n, true, sudden...)
				s.must(s.Primary.PowerOff())
				used, _ := f.run(state.TookOver)
				spent.add(used)
				f.wantTaken()
				if got := len(s.mail.all()); got != n {
					b.Errorf("%d mails", got)
				}
				s.must(s.Close())
			}
			spent.report(b)
		})
	}
}

// targets are the primaries, as arguments.
func (f *fleet) targets() []string {
	addrs := make([]string, f.n)
	for i := range addrs {
		addrs[i] = host(i).String()
	}
	return addrs
}

// bill is what several runs took.
type bill struct{ wall, cpu, peak []float64 }

func (l *bill) add(u usage) {
	l.wall = append(l.wall, float64(u.wall.Microseconds())/1000)
	l.cpu = append(l.cpu, float64(u.cpu.Microseconds())/1000)
	l.peak = append(l.peak, u.peak)
}

func (l *bill) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(l.wall), "ms-median")
	b.ReportMetric(slices.Max(l.wall), "ms-max")
	b.ReportMetric(median(l.cpu), "ms-cpu")
	b.ReportMetric(median(l.peak), "MiB-peak")
}
