package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/lab"
	"pingover/state"
)

// README.md and the chapters in docs/ are tested: their commands are run, their
// configuration files are read, and their tables and transcripts are those of the
// program. UPDATE=1 writes what is generated:
//
//	UPDATE=1 go test ./internal/e2e -run 'TestDocs|TestManPage'

// documents are README.md and the chapters for users.
func documents(t *testing.T) []string {
	t.Helper()
	chapters, err := filepath.Glob("docs/*.md")
	if err != nil || len(chapters) < 11 {
		t.Fatalf("%q, %v", chapters, err)
	}
	return append([]string{"README.md"}, slices.DeleteFunc(chapters, func(name string) bool { return name == "docs/architecture.md" })...)
}

// block is a fenced block of a document.
type block struct {
	language string // sh is commands, one a line
	text     string
}

func blocks(t testing.TB, document string) []block {
	t.Helper()
	return fenced(readFile(t, document))
}

func fenced(text string) (found []block) {
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, block{m[1], m[2]})
	}
	return found
}

func TestReadmeIsShortAndLeadsToEveryChapter(t *testing.T) {
	t.Parallel()
	readme := readFile(t, "README.md")
	if n := strings.Count(readme, "\n"); n > 260 {
		t.Errorf("README.md has %d lines, more than 260", n)
	}
	for _, chapter := range documents(t)[1:] {
		if !strings.Contains(readme, "]("+chapter+")") {
			t.Errorf("README.md does not lead to %s", chapter)
		}
	}
}

func TestDocsSettings(t *testing.T) {
	generated(t, "docs/configuration.md", "settings", settingsTable(config.Settings()))
	generated(t, poolChapter, "pool settings", settingsTable(poolSettingsOnly()))
}

// poolSettingsOnly are those that a cluster does not have.
func poolSettingsOnly() []config.Setting {
	return slices.DeleteFunc(config.AllSettings(), func(s config.Setting) bool { return s.Only != config.Pools })
}

func settingsTable(settings []config.Setting) string {
	var b strings.Builder
	b.WriteString("| setting | default | values | meaning |\n|---|---|---|---|\n")
	for _, s := range settings {
		name := "`" + s.Name + "`"
		if s.Short != "" {
			name += ", `-" + s.Short + "`"
		}
		value := s.Derived
		switch {
		case s.Required:
			value = "must be given"
		case s.Default != "":
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, value, s.Range, s.Help)
	}
	return b.String()
}

func TestDocsCodes(t *testing.T) {
	var b strings.Builder
	b.WriteString("| code | outcome | meaning |\n|---|---|---|\n")
	for _, c := range exit.Codes() {
		outcome := ""
		if c.Outcome != "" {
			outcome = "`" + c.Outcome + "`"
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Code, outcome, c.Meaning)
	}
	generated(t, "docs/monitoring.md", "codes", b.String())
}

// The scripts that chapters show are those that the packages contain.
func TestDocsScripts(t *testing.T) {
	for name, script := range map[string]struct{ document, file string }{
		"fence":         {"docs/hooks.md", fenceScript},
		"vip-when-free": {"docs/primary.md", whenFree},
	} {
		generated(t, script.document, name, "```bash\n"+readFile(t, script.file)+"```\n")
	}
}

// generated fails the test unless the text between the marks of that name in a
// document is as wanted. UPDATE=1 writes it.
func generated(t *testing.T, file, name, want string) {
	t.Helper()
	generatedBetween(t, file, "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n", want)
}

// generatedBetween is generated, for other marks.
func generatedBetween(t *testing.T, file, open, end, want string) {
	t.Helper()
	before, rest, opened := strings.Cut(readFile(t, file), open)
	got, after, ended := strings.Cut(rest, end)
	if !opened || !ended {
		t.Fatalf("%s has no %s…%s", file, open, end)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(before+open+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got); UPDATE=1 go test ./internal/e2e -run '%s' writes it:\n%s", file, t.Name(), diff)
	}
}

// The table has every rule that Decide can return, with all outcomes of each.
func TestDocsRules(t *testing.T) {
	section, _, _ := strings.Cut(readFile(t, "docs/decisions.md"), "\n## ")
	row := regexp.MustCompile(`(?m)^\| (\d+) \|.*\| (.*) \|$`)
	word := regexp.MustCompile("`([a-z-]+)`")
	got := map[int][]state.Outcome{}
	for _, cells := range row.FindAllStringSubmatch(section, -1) {
		rule, _ := strconv.Atoi(cells[1])
		for _, w := range word.FindAllStringSubmatch(cells[2], -1) {
			if o := state.Outcome(w[1]); o.Code() != 70 { // not the name of a setting
				got[rule] = append(got[rule], o)
			}
		}
		slices.Sort(got[rule])
	}
	if diff := cmp.Diff(decidable(), got); diff != "" {
		t.Errorf("rules and their outcomes (-Decide +docs/decisions.md):\n%s", diff)
	}
}

// decidable are the outcomes that each rule can have, found by exhaustive search.
func decidable() map[int][]state.Outcome {
	now := time.Now()
	one, two := netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("172.16.0.5")
	statuses := [][]state.VIPStatus{nil}
	for _, s := range all[state.VIPStatus](
		func(s *state.VIPStatus, yes bool) { s.Held = yes },
		func(s *state.VIPStatus, yes bool) { s.Asked = yes },
		func(s *state.VIPStatus, yes bool) { s.InUse = yes },
		func(s *state.VIPStatus, yes bool) { s.AtPrimary = yes },
	) {
		s.Address = one
		statuses = append(statuses, []state.VIPStatus{s}, []state.VIPStatus{s, {Address: two, Held: true}})
	}
	known := all[state.Known](
		func(k *state.Known, yes bool) { k.ManualRelease = yes },
		func(k *state.Known, yes bool) { k.HandingOver = yes },
		func(k *state.Known, yes bool) {
			if yes {
				k.Silent = 1
			}
		},
		func(k *state.Known, yes bool) {
			if yes {
				k.PausedUntil = now.Add(time.Hour)
			}
		},
	)
	seen := all[state.Observation](
		func(s *state.Observation, yes bool) { s.OnLink = yes },
		func(s *state.Observation, yes bool) { s.AnswersARP = yes },
		func(s *state.Observation, yes bool) { s.WaitedForPeer = yes },
		func(s *state.Observation, yes bool) {
			if yes {
				s.Conflicts = []state.Conflict{{Holder: state.Holder{Address: "172.16.0.1", MAC: "02:00:00:00:00:02"}}}
			}
		},
		func(s *state.Observation, yes bool) {
			if yes {
				s.CompetingProber = "02:00:00:00:00:02"
			}
		},
		func(s *state.Observation, yes bool) {
			if yes {
				s.Uptime = time.Hour
			}
		},
	)

	outcomes := map[int][]state.Outcome{}
	add := func(rule int, o state.Outcome) {
		if !slices.Contains(outcomes[rule], o) {
			outcomes[rule] = append(outcomes[rule], o)
		}
	}
	for _, s := range []state.Observation{
		{Arbiter: state.Arbiter{State: state.ArbiterOther, Lost: []netip.Addr{one}}},
		{Primary: check.Down, VIPs: []state.VIPStatus{{Address: one}}, Witness: state.WitnessGood, Arbiter: state.Arbiter{State: state.ArbiterSilent}},
	} {
		d := state.Decide(state.Known{}, s, state.Settings{Rise: 1, Arbiter: true}, now)
		add(d.Rule, d.Outcome)
	}
	for _, k := range known {
		for _, k.Role = range []state.Role{state.Standby, state.Taking, state.Active, state.Releasing} {
			for _, s := range seen {
				for _, s.Primary = range []check.Verdict{check.Unknown, check.Down, check.Up} {
					for _, s.Witness = range []state.WitnessState{state.WitnessSilent, state.WitnessNone, state.WitnessGood, state.WitnessOff, state.WitnessNotAsked} {
						for _, s.VIPs = range statuses {
							d := state.Decide(k, s, state.Settings{Rise: 1, BootWait: time.Minute, Failback: true, Isolated: true}, now)
							add(d.Rule, d.Outcome)
							if d.HandOver {
								add(d.Rule, state.Holding) // when no host takes it
							}
						}
					}
				}
			}
		}
	}
	// Services: rule 15, and rule 7 without it.
	service := state.Known{Services: []state.Service{{Bad: 9, Proven: true}}}
	for _, o := range all[state.Observation](func(o *state.Observation, yes bool) {
		if yes {
			o.Services = []state.ServiceStatus{{Name: "tcp:80", Serving: state.Answer{Health: check.Bad}}}
		}
	}) {
		for _, service.Fenced = range []string{"", "tcp:80"} {
			o.Primary, o.Witness, o.VIPs = check.Up, state.WitnessGood, []state.VIPStatus{{Address: one, InUse: true, AtPrimary: true, PrimaryAlone: true}}
			d := state.Decide(service, o, state.Settings{Rise: 1, Fall: 1, FailoverOnService: true}, now)
			add(d.Rule, d.Outcome)
		}
	}
	for _, o := range outcomes {
		slices.Sort(o)
	}
	return outcomes
}

// all are the values that any combination of the switches makes of a zero one.
func all[T any](switches ...func(*T, bool)) []T {
	values := make([]T, 1<<len(switches))
	for n := range values {
		for i, set := range switches {
			set(&values[n], n&(1<<i) != 0)
		}
	}
	return values
}

// aside are the documented commands that no test runs here, and why. A key is how
// the command begins.
var aside = map[string]string{
	"packaging/build ": "TestPackages runs it",
	"sudo apt ":        "there is no repository; TestPackages installs, upgrades, removes and purges with dpkg",
	"journalctl ":      "needs a journal",
	"nmcli ":           "needs a running NetworkManager",
	"go test ":         "a benchmark that takes minutes: CONTRIBUTING.md says when it is run",
}

// All commands of a document succeed in the lab, one after the other. They run on
// the standby, with a primary that is up, unless the first line of their block
// says otherwise.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	left := maps.Clone(aside)
	var documented []block
	for _, document := range documents(t) {
		documented = append(documented, blocks(t, document)...)
	}
	for prefix := range left {
		if !slices.ContainsFunc(documented, func(b block) bool { return b.language == "sh" && strings.Contains("\n"+b.text, "\n"+prefix) }) {
			t.Errorf("no document has %q any more", prefix)
		}
	}
	for _, document := range documents(t) {
		if document == poolChapter || document == arbiterChapter {
			continue // TestDocsPool runs them, with a name server, and TestDocsArbiter, with etcd
		}
		t.Run(filepath.Base(document), func(t *testing.T) {
			start := newScene
			if document == "README.md" {
				start = shortScene
			}
			s := start(t)
			s.reader()
			if document == "README.md" || document == "docs/primary.md" {
				s.run(s.Primary, "ip", "addr", "del", vip4.String()+"/32", "dev", "eth0")
			}
			for _, b := range blocks(t, document) {
				if b.language == "sh" {
					s.obey(document, b.text)
				}
			}
		})
	}
}

// reader makes the standby and the primary machines of somebody who follows the
// documents: with the files of the package, the configuration of the quick start,
// and what is built and installed seen by that machine alone.
func (s *scene) reader() {
	s.t.Helper()
	s.install(s.Standby)
	s.run(s.Primary, "mount", "-t", "tmpfs", "-o", "mode=0755", "lab", "/usr/local/sbin")
	for _, h := range []*lab.Host{s.Standby, s.Primary} {
		s.run(h, "sh", "-ec", `
			mkdir /var/lib/lab/here /var/lib/lab/here-work /var/lib/lab/share /var/lib/lab/share-work /var/lib/bin
			mount -t overlay -o lowerdir="$PWD",upperdir=/var/lib/lab/here,workdir=/var/lib/lab/here-work lab "$PWD"
			mount -t overlay -o lowerdir=/usr/share,upperdir=/var/lib/lab/share,workdir=/var/lib/lab/share-work lab /usr/share
			mkdir -p /usr/share/pingover /etc/cron.d
			cp packaging/pingover.cron packaging/strict.conf /usr/share/pingover/
			cat >/var/lib/bin/sudo <<-"END"
				#!/bin/sh
				exec env -i HOME=/root PATH=/var/lib/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
			END
			# Of systemd only what the documents use: a verb, and a unit that there is.
			cat >/var/lib/bin/systemctl <<-"END"
				#!/bin/sh
				case $1 in
				daemon-reload) exit ;;
				enable | reload | restart) ;;
				*) echo "systemctl: unknown: $*" >&2; exit 1 ;;
				esac
				for unit; do :; done
				case $unit in *.*) ;; *) unit=$unit.service ;; esac
				test -e "packaging/$unit" || test -e "/usr/local/sbin/${unit%.service}"
			END
			chmod 0755 /var/lib/bin/*
		`)
	}
	quickStart := blocks(s.t, "README.md")[slices.IndexFunc(blocks(s.t, "README.md"), func(b block) bool { return b.language == "yaml" })].text
	s.writeFile("/etc/pingover.yaml", quickStart+"defaults: {count: 3, interval: 150ms, timeout: 400ms, retry-wait: 200ms, boot-wait: 0}\n")
	s.run(s.Standby, "/usr/local/sbin/pingover", "check")
}

// obey runs the commands of a block.
func (s *scene) obey(document, text string) {
	s.t.Helper()
	h, first := s.Standby, true
	for line := range strings.Lines(text) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "   #")
		switch {
		case first && command == "# on the primary":
			h = s.Primary
		case first && command == "# the primary is off":
			s.must(s.Primary.PowerOff())
		case slices.ContainsFunc(slices.Collect(maps.Keys(aside)), func(prefix string) bool { return strings.HasPrefix(command, prefix) }):
		default:
			if strings.HasPrefix(command, "sudo sysctl ") {
				lab.Need(s.t, "sysctl", "procps")
			}
			cmd := h.Command(s.t.Context(), "sh", "-c", command)
			cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "PATH=/var/lib/bin:/usr/local/sbin:"+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
			out, err := cmd.CombinedOutput()
			s.t.Logf("%s\n%s", command, out)
			switched := strings.HasPrefix(command, "pingover ") && slices.Contains([]int{10, 11, 12}, cmd.ProcessState.ExitCode())
			if err != nil && !switched {
				s.t.Fatalf("%s: %s: %v\n%s", document, command, err, out)
			}
		}
		first = false
	}
}

// The commands that are named within the text have these names and flags.
func TestDocsNameCommandsThatThereAre(t *testing.T) {
	s := shortScene(t)
	s.reader()
	span := regexp.MustCompile("`(pingover [a-z][^`\n]*)`")
	tried := map[string]bool{}
	var running sync.WaitGroup
	atOnce := make(chan struct{}, 8) // most of them wait
	for _, document := range documents(t) {
		for _, m := range span.FindAllStringSubmatch(readFile(t, document), -1) {
			command := strings.NewReplacer("NAME", "web", "…", "").Replace(m[1])
			known := slices.ContainsFunc(slices.Collect(maps.Keys(aside)), func(prefix string) bool { return strings.HasPrefix(command, prefix) })
			if tried[command] || known || command == "pingover demo" {
				continue
			}
			tried[command] = true
			atOnce <- struct{}{}
			running.Go(func() {
				out, _ := s.Standby.Run("sh", "-c", "PATH=/usr/local/sbin:$PATH; timeout 3 "+command+" 2>&1") // many exit codes are right
				if strings.Contains(out, "unknown flag") || strings.Contains(out, "unknown command") {
					t.Errorf("%s: %s: %s", document, command, out)
				}
				<-atOnce
			})
		}
	}
	running.Wait()
	if len(tried) < 10 {
		t.Errorf("only %d commands were found", len(tried))
	}
}

// The configuration files in the documents are valid, with the programs and files
// that they name.
func TestDocsFiles(t *testing.T) {
	dir := t.TempDir()
	ca, err := lab.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"systemctl": "", "ssh": "", "ip": "", "sh": "", "pingover-fence": "", "mail-password": "secret\n", "www.key": "", "etcd-password": "secret\n", "etcd-ca.pem": string(ca.Certificate)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	here := strings.NewReplacer("/etc/pingover/", dir+"/", "/usr/local/sbin/", dir+"/")
	n := 0
	for _, document := range documents(t) {
		for _, b := range blocks(t, document) {
			if b.language != "yaml" {
				continue
			}
			var any map[string]any
			if err := yaml.Unmarshal([]byte(b.text), &any); err != nil {
				t.Errorf("%s: %v\n%s", document, err, b.text)
			}
			if any["clusters"] == nil && any["pools"] == nil {
				continue // of another program
			}
			n++
			_, err := config.FromFile(document, []byte(here.Replace(b.text)), nil, config.Env{Hostname: "standby", Root: true, Getenv: func(string) string { return "" }})
			if err != nil {
				t.Errorf("%v\n%s", err, b.text)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d files were found", n)
	}
}

// The takeover that the documents show happens in the lab, in fewer seconds, with
// the same output, the same mail and the same status.
func TestDocsTakeover(t *testing.T) {
	const command = "pingover check --name web --host 172.16.0.2 --vip 172.16.0.1 --witness 172.16.0.254 --mail-to root --verbose"
	s := shortScene(t)
	s.install(s.Standby)
	once := command + " --interval 100ms --timeout 200ms --retry-wait 1s"
	environment := append(os.Environ(), "TZ=UTC", "PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
	on := func(command string) (string, int) {
		cmd := s.Standby.Command(t.Context(), "sh", "-c", command)
		cmd.Env = environment
		out, _ := cmd.CombinedOutput() // the error is the exit code
		return string(out), cmd.ProcessState.ExitCode()
	}
	on(once) // it was up before
	s.must(s.Primary.PowerOff())
	out, code := on(once)
	status, _ := on("pingover status")

	generated(t, "docs/decisions.md", "takeover", asUsual("# "+command+"\n"+out+"# echo $?\n"+fmt.Sprint(code)))
	emails := s.emails(s.Standby)
	if len(emails) != 1 {
		t.Fatalf("%d emails, want 1", len(emails))
	}
	message := "Subject: " + emails[0].subject + "\n\n" + emails[0].body
	generated(t, "docs/mail.md", "mail", asUsual(message))
	what, _, _ := strings.Cut(message, "\nWhen\n")
	_, undo, _ := strings.Cut(message, "\nTo undo the takeover\n")
	undo, _, found := strings.Cut(undo, "\nor without")
	if !found {
		t.Fatalf("the mail does not say how to undo it:\n%s", message)
	}
	generated(t, "README.md", "mail", asUsual(what+"\n…\n\nTo undo the takeover\n"+undo))
	for _, document := range []string{"README.md", "docs/monitoring.md"} {
		generated(t, document, "status", asUsual("$ pingover status\n"+status))
	}
}

// asUsual is what was printed in the lab as it is with the default settings, at a time
// of its own.
func asUsual(text string) string {
	text = strings.NewReplacer("100ms apart", "3s apart", "waiting 1s", "waiting 20s", "02:00:00:", "52:54:00:").Replace(text)
	for _, r := range []struct{ pattern, fixed string }{
		{`\d{8}T\d{6}Z-[A-Z2-7]{8}`, "20261122T130452Z-OZQ576Y7"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "2026-11-22 13:05:38"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d\b`, "2026-11-22 13:05"},
		{`\b\d\d:\d\d:\d\d  `, "13:05:38  "},
		{`\b\d+s ago`, "12s ago"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.fixed)
	}
	return "```text\n" + strings.TrimRight(text, "\n") + "\n```\n"
}

// docs/troubleshooting.md can be searched for the words of every bad case: those
// of every decision that changes nothing or fails, and the subject of every alert.
func TestDocsTroubleshootingHasTheWordsOfEveryBadCase(t *testing.T) {
	t.Parallel()
	chapter := readFile(t, "docs/troubleshooting.md")
	literal := regexp.MustCompile(`(?:blocked\(\d+, |refuse\(|Reason: *(?:fmt\.Sprintf\()?|subject: *(?:fmt\.Sprintf\()?|subject = fmt\.Sprintf\()"((?:[^"\\]|\\.)+)"`)
	verb := regexp.MustCompile(`%\[?\d*\]?[a-z+]+`)
	good := regexp.MustCompile("^(" + strings.Join([]string{
		`%s replies`, `%s took over %s`, `%s released %s`, `%s (?:is kept|taken over|released) manually.*`,
		`%s has replied in %d checks.*`, `.* handed over`, `.* it is fenced, and .*`, `an interrupted (?:release|update) is finished.*`,
		`drained manually.*`, `all members of .*`, `.* already out of %s`, `%s out of %s`, `%s: %s`, `%s: %s; %s`,
		`%s removed from %s`, `%s %s back in %s`, `%s %s down! removed from %s`,
	}, "|") + ")$")
	n := 0
	pools, err := filepath.Glob("pool/decide.go") // where pools are built
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(pools, "state/decide.go", "notify/words.go", "notify/service.go") {
		for _, m := range literal.FindAllStringSubmatch(readFile(t, file), -1) {
			if good.MatchString(m[1]) {
				continue
			}
			n++
			for _, words := range verb.Split(m[1], -1) {
				if words = strings.Trim(words, " ,:;()"); len(words) > 11 && !strings.Contains(chapter, words) {
					t.Errorf("nothing is found for %q of %q (%s)", words, m[1], file)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d messages were found", n)
	}
}

// Prometheus accepts the rules of docs/monitoring.md, and they ask only for metrics
// that its table has.
func TestDocsPrometheusRules(t *testing.T) {
	chapter := readFile(t, "docs/monitoring.md")
	i := slices.IndexFunc(blocks(t, "docs/monitoring.md"), func(b block) bool { return strings.HasPrefix(b.text, "groups:") })
	rules := blocks(t, "docs/monitoring.md")[i].text
	for _, name := range regexp.MustCompile(`pingover_[a-z_]+`).FindAllString(rules, -1) {
		if !strings.Contains(chapter, "\n| `"+name+"` |") && !strings.Contains(chapter, "\n| `"+name+"{") {
			t.Errorf("the table has no %s", name)
		}
	}
	promtool := lab.Need(t, "promtool", "prometheus")
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// The script in docs/monitoring.md does with every exit code what it says.
func TestDocsExitCodeScript(t *testing.T) {
	t.Parallel()
	var script string
	for _, b := range blocks(t, "docs/monitoring.md") {
		if strings.Contains(b.text, "case $? in") {
			script = b.text
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pingover"), []byte("#!/bin/sh\nexit $CODE\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	output := map[int]string{
		0: "", 10: "we serve\n", 11: "we serve\n", 12: "handed back\n", 13: "another standby serves\n",
		14: "look at the primary\n", 15: "look at the primary\n", 21: "look at the primary\n",
		20: "look at this machine's network\n",
		30: "look at this machine, now\n", 31: "look at this machine, now\n", 32: "look at this machine, now\n",
		75: "",
	}
	for _, c := range exit.Codes() {
		want, ok := output[c.Code]
		if !ok {
			want = "pingover cannot run with these arguments\n"
		}
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), fmt.Sprintf("CODE=%d", c.Code))
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("code %d: %q, %v; want %q", c.Code, out, err, want)
		}
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The import table of docs/architecture.md is complete, no folder imports more
// than it allows, and no library is imported by another folder than the table says.
func TestArchitectureImports(t *testing.T) {
	t.Parallel()
	type row struct{ may, alone []string }
	table, owner := map[string]row{}, map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/.]+)` \\|([^|`]*)\\|([^|`]*)\\|$").FindAllStringSubmatch(readFile(t, "docs/architecture.md"), -1) {
		table[m[1]] = row{strings.Fields(m[2]), strings.Fields(m[3])}
		for _, library := range strings.Fields(m[3]) {
			owner[library] = m[1]
		}
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		packages := strings.Fields(line)
		folder := strings.TrimPrefix(packages[0], "pingover/")
		if packages[0] == "pingover" {
			folder = "."
		}
		allowed, ok := table[folder]
		if !ok {
			t.Errorf("docs/architecture.md has no row for %s", folder)
		}
		for _, imported := range packages[1:] {
			if ours, ok := strings.CutPrefix(imported, "pingover/"); ok && !slices.Contains(allowed.may, ours) {
				t.Errorf("%s imports %s, which docs/architecture.md does not allow", folder, ours)
			}
			for library, only := range owner {
				if only != folder && (imported == library || strings.HasPrefix(imported, library+"/")) {
					t.Errorf("%s imports %s, which docs/architecture.md allows to %s alone", folder, imported, only)
				}
			}
		}
		for _, library := range allowed.alone {
			if !slices.Contains(packages, library) {
				t.Errorf("docs/architecture.md says that %s imports %s: it does not", folder, library)
			}
		}
		delete(table, folder)
	}
	for folder := range table {
		t.Errorf("docs/architecture.md has a row for %s, which is no package", folder)
	}
}

// The files that the documents name exist.
func TestDocumentsNameFiles(t *testing.T) {
	t.Parallel()
	for _, document := range append(documents(t), "docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md") {
		text := readFile(t, document)
		names := regexp.MustCompile(`\b(?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:go|md|8)\b`).FindAllString(text, -1)
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)(?:#[a-z0-9-]+)?\)`).FindAllStringSubmatch(text, -1) {
			names = append(names, filepath.Join(filepath.Dir(document), m[1]))
		}
		for _, name := range names {
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names %s: %v", document, name, err)
			}
		}
	}
}
