package report

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

func pageOf(t *testing.T, sources ...Source) (string, []Summary) {
	t.Helper()
	now := at("2026-11-28 12:00:00")
	var all []Summary
	for _, s := range sources {
		all = append(all, Summarize(s, now))
	}
	return Page("standby", all, now, time.UTC), all
}

// outside is everything that a page could fetch or run.
var outside = regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed|base|form|a)\b|url\(|@import|\bsrc\s*=|href|javascript:`)

func TestPageFetchesNothing(t *testing.T) {
	page, _ := pageOf(t, story(), Source{Name: "new"})
	page = regexp.MustCompile(`<a class="now (good|fair|bad)" href="#c[0-9]+">`).ReplaceAllString(page, "") // leads to a place in it
	if found := outside.FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
	if !strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'"`) {
		t.Error("the page does not forbid to fetch")
	}
}

func TestPageOfNamesThatLookLikeMarkup(t *testing.T) {
	evil := story()
	evil.Name = `"><script>alert(1)</script>&`
	evil.History[0].Reason, evil.History[1].Reason = "</td></table><b onclick='x'>\xff", "</td>"
	page, _ := pageOf(t, evil)
	if strings.Contains(page, "<script") || strings.Contains(page, "<b onclick") {
		t.Error("markup of the history is in the page")
	}
	if want := "&lt;/td&gt;&lt;/table&gt;&lt;b onclick=&#39;x&#39;&gt;?"; !strings.Contains(page, want) {
		t.Errorf("the page does not show %s", want)
	}
	elements := xml.NewDecoder(strings.NewReader(page))
	elements.Strict, elements.AutoClose, elements.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		if _, err := elements.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// What is not served by its primary leads.
func TestPageBeginsWithAnOverview(t *testing.T) {
	held := story()
	held.Name, held.History = "held", held.History[:1] // nobody has the address
	page, _ := pageOf(t, story(), Source{Name: "new"}, held)
	want := `<nav>
<a class="now bad" href="#c2">held</a>
<a class="now fair" href="#c1">new</a>
<a class="now good" href="#c0">web</a>
</nav>
`
	if !strings.Contains(page, want) || !strings.Contains(page, "<section id=\"c2\">\n<h2>held</h2>") {
		t.Errorf("no %s in %s", want, page[:min(len(page), 5000)])
	}
	if page, _ := pageOf(t, story()); strings.Contains(page, "<nav>") {
		t.Error("one cluster has an overview")
	}
}

// One slow reply does not flatten all other days.
func TestPageCutsTheSlowestDays(t *testing.T) {
	s := story()
	for i := range s.Days {
		s.Days[i].RTT = state.RTT{Replies: 9, Min: 1, Mean: 2, Max: 4}
	}
	s.Days[len(s.Days)-1].RTT.Max = 4000
	page, _ := pageOf(t, s)
	if !strings.Contains(page, "the top is 4 ms<") || !strings.Contains(page, ": 1, 2, 4e+03 ms</title><rect class=\"range\" x=\"") || strings.Contains(page, "y=\"-") {
		t.Error("the slowest day is not cut")
	}
}

func TestPageHasTheNumbersOfTheSummary(t *testing.T) {
	page, all := pageOf(t, story())
	for _, p := range all[0].Periods {
		if want := fmt.Sprintf("<dt>%s</dt><dd>%s</dd><dd class=\"note\">%s</dd>", p.Name, percent(p.Availability), outageNote(p)); !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, want := range []string{
		"2026-10-25: 97.92 %, outage 30m</title>", "2026-08-31: no check</title>", "<td>2026-10-25 06:00:00</td><td>30m</td><td>no machine has 192.0.2.10</td><td>resolved</td>",
		"2026-10-20: 0.2, 0.4, 2 ms</title>", "<b>Primary serves</b> since 2026-11-27 13:00:00",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// A browser renders it, in a network where a request to anywhere would be seen.
func TestPageInABrowser(t *testing.T) {
	browser := lab.Need(t, "chromium", "chromium")
	page, all := pageOf(t, story(), Source{Name: "empty"})
	file := filepath.Join(t.TempDir(), "page.html")
	// A probe of the test's own writes down what the browser has made of the page.
	probe := `<script>addEventListener("load", () => { const q = s => document.querySelectorAll(s); const p = document.createElement("pre"); p.id = "probe";
p.textContent = [q("section").length, q("svg").length, q("svg rect.good, svg rect.fair, svg rect.bad, svg rect.none").length,
[...q("dd:not(.note)")].map(e => e.textContent).join("|"), performance.getEntriesByType("resource").length, document.documentElement.scrollWidth <= innerWidth].join(";"); document.body.append(p) })</script>`
	probed := strings.Replace(strings.Replace(page, "style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'", 1), "</body>", probe+"</body>", 1)
	if err := os.WriteFile(file, []byte(probed), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0") // all requests would go through it
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(args ...string) string {
		args = append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
			"--proxy-server=" + proxy.Addr().String(), "--proxy-bypass-list=<-loopback>", "--disable-background-networking", "--disable-component-update", "--no-first-run",
		}, args...)
		out, err := exec.CommandContext(ctx, browser, append(args, "file://"+file)...).Output()
		if err != nil {
			t.Fatalf("%s: %v", browser, err)
		}
		return string(out)
	}
	var shown []string
	for _, p := range all[0].Periods {
		shown = append(shown, percent(p.Availability))
	}
	for _, width := range []string{"360", "1200"} {
		got := run("--window-size="+width+",900", "--virtual-time-budget=2000", "--dump-dom")
		if want := `<pre id="probe">2;2;90;` + strings.Join(shown, "|") + ";0;true</pre>"; !strings.Contains(got, want) {
			t.Errorf("%s pixels wide: want %s in\n%s", width, want, got[max(0, len(got)-400):])
		}
	}
	if dir := os.Getenv("PINGOVER_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, args := range map[string][]string{"light": nil, "dark": {"--force-dark-mode", "--blink-settings=preferredColorScheme=0"}, "phone": {"--window-size=390,1500"}} {
			run(append([]string{"--window-size=1100,1100", "--screenshot=" + filepath.Join(dir, name+".png")}, args...)...)
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add("web", "no reply", int64(0), 5, 0.3)
	f.Fuzz(func(t *testing.T, name, reason string, seconds int64, checks int, rtt float64) {
		s := story()
		s.Name, s.History[0].Reason = name, reason
		s.History[2].Time = time.Unix(seconds%(1<<40), 0)
		s.Days[3] = state.Day{Date: s.Days[3].Date, Checks: checks, Up: checks, RTT: state.RTT{Replies: checks, Min: rtt, Mean: rtt, Max: rtt}}
		page, all := pageOf(t, s)
		if found := outside.FindString(strings.ReplaceAll(page, text(name), "")); found != "" && outside.FindString(text(reason)) == "" {
			t.Errorf("the page has %q", found)
		}
		_ = all[0].Text(80, time.UTC, true)
	})
}
