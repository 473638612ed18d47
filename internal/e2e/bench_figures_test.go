package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// BenchmarkFigures measures all that docs/speed.md shows, in one run, and prints it
// the same way; it draws the picture of README. On a machine that others keep busy it
// measures nothing. It takes about 20 minutes:
//
//	go test -run '^$' -bench Figures -timeout 1h ./internal/e2e
func BenchmarkFigures(b *testing.B) {
	p := &page{b: b}
	fmt.Fprintf(p, "%d processors, %s\n", runtime.NumCPU(), runtime.Version())
	healthyFigures(p)
	outageFigures(p)
	manyFigures(p)
	needIdle(b) // it may have become busy meanwhile
	fmt.Println(p.String())
}

// page is what BenchmarkFigures prints in the end.
type page struct {
	strings.Builder
	b *testing.B
}

// measure measures one row in a lab of its own; without the program that it needs
// the row says so. On a busy machine, and after an error, nothing more is measured.
func (p *page) measure(row string, f func(*testing.B)) {
	skipped := false
	if !p.b.Run(row, func(b *testing.B) {
		if b.N > 1 {
			return // measured already
		}
		defer func() { skipped = b.Skipped() }()
		needIdle(b)
		f(b)
		b.ReportMetric(0, "ns/op")
	}) {
		p.b.FailNow()
	}
	if skipped {
		fmt.Fprintf(p, "| %s | not measured: a program is missing |\n", row)
	}
}

// maxBusy is the share of the processors' time that others may take.
const maxBusy = 0.1

// needIdle ends the benchmark on a machine that others keep busy.
func needIdle(b *testing.B) {
	b.Helper()
	const sample = 2 * time.Second
	before := processorTime(b)
	time.Sleep(sample)
	if busy := processorTime(b).busySince(before); busy > maxBusy {
		b.Fatalf("this machine is busy: %.0f%% of its processors' time went to others in %s, and at most %.0f%% may; no figures are printed, measure again when it is idle", 100*busy, sample, 100*maxBusy)
	}
}

// processors is the time of all processors since the boot, in ticks.
type processors struct{ all, idle float64 }

// processorTime reads the first line of /proc/stat (proc_stat(5)).
func processorTime(b *testing.B) processors {
	b.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	p, err := parseProcessors(string(text))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func parseProcessors(text string) (p processors, err error) {
	const idle, iowait, guest = 3, 4, 8 // user has the time of guests already
	line, _, _ := strings.Cut(text, "\n")
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu "))[:guest] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return p, fmt.Errorf("/proc/stat: %w", err)
		}
		p.all += ticks
		if i == idle || i == iowait {
			p.idle += ticks
		}
	}
	return p, nil
}

// busySince is the share of the time that was not idle.
func (p processors) busySince(before processors) float64 {
	return 1 - (p.idle-before.idle)/(p.all-before.all)
}

// TestABusyMachineIsRecognised: time that the hypervisor gave to others counts.
func TestABusyMachineIsRecognised(t *testing.T) {
	before, err := parseProcessors("cpu  100 0 50 1000 10 0 0 0 70 0\ncpu0 1 2 3\n")
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]float64{
		"cpu  100 0 50 1090 20 0 0 0 70 0\n": 0,
		"cpu  110 5 55 1060 20 1 1 8 90 0\n": 0.3,
	} {
		after, err := parseProcessors(line)
		if got := after.busySince(before); err != nil || fmt.Sprintf("%.2f", got) != fmt.Sprintf("%.2f", want) {
			t.Errorf("%q: busy %.2f of the time, want %.2f; %v", line, got, want, err)
		}
	}
}

// healthyFigures are those of one check of a primary that replies, with a full
// history, beside the nearest that other tools do. The runs take turns, and enter
// the standby's network once for all.
func healthyFigures(p *page) {
	fmt.Fprint(p, "\n| healthy check | wall | CPU | × ping | memory |\n|---|---|---|---|---|\n")
	p.measure("healthy", func(b *testing.B) { healthyRows(b, p) })
}

func healthyRows(b *testing.B, p *page) {
	s := newScene(b)
	lab.Need(b, "fping", "fping")
	dir := b.TempDir()
	tools := []struct {
		name string
		argv []string
	}{
		{"`ping -c 1`", []string{"ping", "-c", "1", "172.16.0.2"}},
		{"`fping -c 1`", []string{"fping", "-c", "1", "172.16.0.2"}},
		{"`pingover --version`", []string{s.path, "--version"}},
		{"`pingover check`", []string{
			s.path, "check", "--host", "172.16.0.2", "--name", "web", "--vip", "172.16.0.1",
			"--witness", "172.16.0.254", "--state-dir", dir, "--quiet",
		}},
	}
	bills := make([]bill, len(tools))
	s.must(s.Standby.Do(func() error {
		const warm, runs = 1, 60
		for i := range warm + runs {
			for k, tool := range tools {
				cmd := exec.CommandContext(b.Context(), tool.argv[0], tool.argv[1:]...)
				began := time.Now()
				if err := cmd.Run(); err != nil {
					return fmt.Errorf("%s: %w", tool.name, err)
				}
				if i >= warm {
					bills[k].add(usage{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()})
				}
			}
			if i == 0 {
				fillHistory(b, dir+"/web")
			}
		}
		return nil
	}))
	for k, tool := range tools {
		used, _, _ := (&fleet{scene: s}).measured(tool.argv...)
		fmt.Fprintf(p, "| %s | %.1f ms | %.1f ms | %.1f | %.0f MiB |\n", tool.name,
			median(bills[k].wall), median(bills[k].cpu), median(bills[k].cpu)/median(bills[0].cpu), used.peak)
	}
}

// fillHistory writes as many lines of history and days as are kept.
func fillHistory(b *testing.B, prefix string) {
	b.Helper()
	const entries, days = 1000, 400
	now := time.Now().UTC().Truncate(time.Second)
	write := func(name string, n int, line func(i int) any) {
		var text []byte
		for i := range n {
			data, err := json.Marshal(line(i))
			if err != nil {
				b.Fatal(err)
			}
			text = append(append(text, data...), '\n')
		}
		if err := os.WriteFile(prefix+name, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	write(".history", entries, func(i int) any {
		return state.Entry{
			ID: strconv.Itoa(i), Kind: state.ChangeEntry,
			Change: state.Change{Time: now.Add(time.Duration(i-entries) * time.Hour), Outcome: state.TookOver, Reason: "172.16.0.2 does not reply"},
		}
	})
	write(".days", days, func(i int) any {
		return state.Day{Date: now.AddDate(0, 0, i-days).Format(time.DateOnly), Checks: 1440, Up: 1440}
	})
}

// outageFigures are how long a client has no reply after a power cut.
func outageFigures(p *page) {
	fmt.Fprint(p, "\n| client-visible outage | median | shortest | longest | cuts |\n|---|---|---|---|---|\n")
	var medians []float64
	for _, way := range outageWays {
		p.measure(way.name, func(b *testing.B) {
			gaps := way.outages(b, way.cuts)
			medians = append(medians, median(gaps))
			fmt.Fprintf(p, "| %s | %.2f s | %.2f s | %.2f s | %d |\n", way.label, median(gaps), slices.Min(gaps), slices.Max(gaps), len(gaps))
		})
	}
	if len(medians) < len(outageWays) {
		return // a program is missing
	}
	if err := os.WriteFile(outagePicture, []byte(drawOutages(medians)), 0o644); err != nil {
		p.b.Fatal(err)
	}
	fmt.Fprintf(p, "\n%s is drawn.\n", outagePicture)
}

// manyFigures are those of one run for many clusters, beside fping on the same
// addresses. Nothing grows faster than the number of clusters.
func manyFigures(p *page) {
	fmt.Fprint(p, "\n| clusters | up, with a virtual IP each | `fping -i 1` | `fping` | down: one run takes over all |\n|---|---|---|---|---|\n")
	var fewer float64
	for _, n := range []int{1, 10, 100, 1000} {
		p.measure(fmt.Sprint(n), func(b *testing.B) {
			lab.Need(b, "fping", "fping")
			s := newScene(b)
			f := newFleet(s, n, true)
			var up, slow, quick, down bill
			for range 5 {
				used, _ := f.run(state.OK)
				up.add(used)
				used, _, _ = f.measured(append([]string{"fping", "-a", "-i", "1"}, f.targets()...)...)
				quick.add(used)
				used, _, _ = f.measured(append([]string{"fping", "-a"}, f.targets()...)...)
				slow.add(used)
			}
			f = newFleet(s, n, true, sudden...)
			s.must(s.Primary.PowerOff())
			used, _ := f.run(state.TookOver)
			down.add(used)
			f.wantTaken()
			cpu := median(up.cpu)
			fmt.Fprintf(p, "| %d | %.0f ms, %.0f ms, %.0f MiB | %.0f ms | %.0f ms | %.1f s |\n", n,
				median(up.wall), cpu, median(up.peak), median(quick.wall), median(slow.wall), median(down.wall)/1000)
			if fewer > 0 && cpu > 10*fewer {
				b.Errorf("%d clusters take %.0f ms of CPU, more than ten times the %.0f ms of a tenth of them", n, cpu, fewer)
			}
			fewer = cpu
		})
	}
}
