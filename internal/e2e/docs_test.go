package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/state"
)

// README.md is tested: its commands are run, and its tables are compared with
// those of the program.

func TestReadmeSettings(t *testing.T) {
	var b strings.Builder
	b.WriteString("| setting | default | values | meaning |\n|---|---|---|---|\n")
	for _, s := range config.Settings() {
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
	readmeTable(t, "settings", b.String())
}

func TestReadmeCodes(t *testing.T) {
	var b strings.Builder
	b.WriteString("| code | outcome | meaning |\n|---|---|---|\n")
	for _, c := range exit.Codes() {
		outcome := ""
		if c.Outcome != "" {
			outcome = "`" + c.Outcome + "`"
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", c.Code, outcome, c.Meaning)
	}
	readmeTable(t, "codes", b.String())
}

// readmeTable fails the test unless the text between the marks of that name in
// README.md is as wanted. UPDATE=1 writes it.
func readmeTable(t *testing.T, name, want string) {
	t.Helper()
	generated(t, "README.md", "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n", want)
}

// generated fails the test unless the text between two lines of a file is as
// wanted. UPDATE=1 writes it.
func generated(t *testing.T, file, open, end, want string) {
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
func TestReadmeRules(t *testing.T) {
	section := readmeSection(t, "How it decides")
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
		t.Errorf("rules and their outcomes (-Decide +README.md):\n%s", diff)
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

// commandLine is a command in an indented block of README.md.
var commandLine = regexp.MustCompile(`(?m)^    ((?:[A-Z_]+=\S+ |sudo )*(?:go|install|pingover (?:check|help)) .*|\* \* \* \* \* .*)$`)

// All commands of README.md succeed on the standby, one after the other, while
// all is well. What they build and install is seen by that host only.
func TestReadmeCommands(t *testing.T) {
	lines := commandLine.FindAllStringSubmatch(readFile(t, "README.md"), -1)
	if len(lines) < 7 {
		t.Fatalf("only %d commands were found: %q", len(lines), lines)
	}
	s := shortScene(t)
	s.run(s.Standby, "sh", "-ec", `
		mkdir /var/lib/lab/here /var/lib/lab/here-work /var/lib/bin
		mount -t overlay -o lowerdir="$PWD",upperdir=/var/lib/lab/here,workdir=/var/lib/lab/here-work lab "$PWD"
		mount -t tmpfs -o mode=0755 lab /usr/local/sbin
		cat >/var/lib/bin/sudo <<-"END"
			#!/bin/sh
			exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
		END
		chmod 0755 /var/lib/bin/sudo
	`)
	environment := append(os.Environ(), "GOFLAGS=-buildvcs=false", "PATH=/var/lib/bin:/usr/local/sbin:"+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
	for _, line := range lines {
		command := line[1]
		switch {
		case strings.HasPrefix(command, "go test "), command == "go run . demo":
			continue // this test, and TestDemo
		case strings.HasPrefix(command, "*"):
			if !strings.Contains(readFile(t, "crontab.example"), "\n"+command+"\n") {
				t.Errorf("this is not the line of crontab.example: %s", command)
			}
			command = job.FindStringSubmatch(command)[2]
		}
		files := func() string { return s.run(s.Standby, "ls", "-A", "/var/lib/pingover") }
		untouched, before := s.untouched(s.Standby), files()
		cmd := s.Standby.Command(t.Context(), "sh", "-c", command)
		cmd.Env = environment
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		t.Logf("%s\n%s", command, out)
		untouched()
		if after := files(); strings.Contains(command, "--dry-run") && after != before {
			t.Errorf("%s: left %q", command, after)
		}
	}
	s.mail.want(t)
}

// The configuration file in README.md is valid.
func TestReadmeFile(t *testing.T) {
	_, file, _ := strings.Cut(readmeSection(t, "The file"), "\n    defaults:")
	file, _, _ = strings.Cut("\n    defaults:"+file, "\n\nThen")
	hook := strings.Replace(indented(file), "systemctl start postgresql", "true", 1) // not every machine has it
	got, err := config.FromFile("README.md", []byte(hook), nil, config.Env{Hostname: "standby", Root: true, Getenv: func(string) string { return "" }})
	clusters := got.Clusters
	if err != nil || len(clusters) != 2 || clusters[1].Name != "db" || len(clusters[1].VIPs) != 2 {
		t.Errorf("%+v, %v\n%s", clusters, err, hook)
	}
}

// The takeover in README.md happens in the lab, in fewer seconds, with the same
// output and the same mail.
func TestReadmeTakeover(t *testing.T) {
	shown, mail, _ := strings.Cut(readmeSection(t, "A takeover"), "\nand the mail")
	shown, mail = indented(shown), indented(mail)
	command, output, _ := strings.Cut(shown, "\n")
	output, code, _ := strings.Cut(output, "# echo $?\n")
	output = strings.NewReplacer("3s apart", "100ms apart", "waiting 20s", "waiting 1s", "52:54:00:", "02:00:00:").Replace(output)

	s := shortScene(t)
	s.install(s.Standby)
	once := strings.TrimPrefix(command, "# ") + " --interval 100ms --timeout 200ms --retry-wait 1s"
	s.run(s.Standby, "sh", "-c", "PATH=/usr/local/sbin:$PATH "+once+" 2>/dev/null") // it was up before
	s.must(s.Primary.PowerOff())
	cmd := s.Standby.Command(t.Context(), "sh", "-c", once)
	cmd.Env = append(os.Environ(), "TZ=UTC", "PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
	out, _ := cmd.CombinedOutput() // the error is the exit code
	if diff := cmp.Diff(output, string(out)); diff != "" {
		t.Errorf("the output (-README.md +got):\n%s", diff)
	}
	if got := fmt.Sprintln(cmd.ProcessState.ExitCode()); got != code {
		t.Errorf("exit code %s, README.md has %s", got, code)
	}
	var got string
	for _, l := range s.emails(s.Standby) {
		got += "Subject: " + l.subject + "\n\n" + l.body
	}
	clock := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\d{8}T\d{6}Z-[A-Z2-7]{8}`)
	if diff := cmp.Diff(clock.ReplaceAllString(mail, "now"), clock.ReplaceAllString(got, "now")); diff != "" {
		t.Errorf("the mail (-README.md +got):\n%s", diff)
	}
}

func TestReadmeScript(t *testing.T) {
	t.Parallel()
	var script string
	for block := range strings.SplitSeq(readFile(t, "README.md"), "\n\n") {
		if strings.Contains(block, "case $? in") {
			script = block
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

// readmeSection is a section of README.md without its heading.
func readmeSection(t *testing.T, heading string) string {
	t.Helper()
	_, section, ok := strings.Cut(readFile(t, "README.md"), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// indented are the indented lines of a text, without their indentation, and
// the empty lines between them.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if code, ok := strings.CutPrefix(line, "    "); ok || line == "\n" {
			b.WriteString(code)
		}
	}
	return strings.Trim(b.String(), "\n") + "\n"
}

func readFile(t *testing.T, name string) string {
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

// The files that the documents for contributors name exist.
func TestDocumentsNameFiles(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"README.md", "docs/architecture.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		text := readFile(t, document)
		names := regexp.MustCompile(`\b(?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:go|md|8)\b`).FindAllString(text, -1)
		for _, m := range regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(text, -1) {
			names = append(names, filepath.Join(filepath.Dir(document), m[1]))
		}
		for _, name := range names {
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names %s: %v", document, name, err)
			}
		}
	}
}
