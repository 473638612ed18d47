package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/lab"
)

// The manual page has the program's settings, exit codes, commands and flags, and
// mandoc can format it.

const manPage = "packaging/pingover.8"

func TestManPageSettings(t *testing.T) {
	var b strings.Builder
	group := ""
	for _, s := range config.Settings() {
		if s.Group != group {
			if group != "" {
				b.WriteString(".El\n")
			}
			group = s.Group
			fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", group)
		}
		short := ""
		if s.Short != "" {
			short = "Fl " + s.Short + " , "
		}
		value := "; default: " + s.Derived
		switch {
		case s.Required:
			value = ""
		case s.Default != "":
			value = "; default " + s.Default
		}
		argument := ""
		if s.Argument != "" {
			argument = " Ar " + strings.ToLower(s.Argument)
		}
		fmt.Fprintf(&b, ".It %sFl -%s%s\n", short, s.Name, argument)
		fmt.Fprintf(&b, "%s\n(%s%s).\n", roff(s.Help), roff(s.Range), roff(value))
	}
	b.WriteString(".El\n")
	generatedBetween(t, manPage, ".\\\" settings\n", ".\\\" /settings\n", b.String())
}

func TestManPageCodes(t *testing.T) {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, c := range exit.Codes() {
		outcome := ""
		if c.Outcome != "" {
			outcome = " Pq " + c.Outcome
		}
		fmt.Fprintf(&b, ".It %d%s\n%s.\n", c.Code, outcome, roff(c.Meaning))
	}
	b.WriteString(".El\n")
	generatedBetween(t, manPage, ".\\\" codes\n", ".\\\" /codes\n", b.String())
}

// The settings of pools are keys of the file only.
func TestManPagePoolSettings(t *testing.T) {
	var b strings.Builder
	b.WriteString(".Bl -tag -width Ds\n")
	for _, s := range poolSettingsOnly() {
		value := "; default: " + s.Derived
		switch {
		case s.Required:
			value = ""
		case s.Default != "":
			value = "; default " + s.Default
		}
		fmt.Fprintf(&b, ".It Ic %s\n%s\n(%s%s).\n", s.Name, roff(s.Help), roff(s.Range), roff(value))
	}
	b.WriteString(".El\n")
	generatedBetween(t, manPage, ".\\\" pool settings\n", ".\\\" /pool settings\n", b.String())
}

// The diagnostics are those of docs/troubleshooting.md, by their first words.
func TestManPageDiagnostics(t *testing.T) {
	row := regexp.MustCompile("^\\| (?:cron mails )?`([^`]+)`[^|]*\\| ([^|]+) \\| ([^|]*)\\|$")
	plain := func(text string) string {
		text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(text, "$1")
		return strings.ReplaceAll(roff(strings.TrimSpace(strings.ReplaceAll(text, "`", ""))), ". ", ".\n") // a sentence, a line
	}
	_, chapter, _ := strings.Cut(readFile(t, "docs/troubleshooting.md"), "\n## ")
	var b strings.Builder
	n := 0
	for section := range strings.SplitSeq(chapter, "\n## ") {
		heading, text, _ := strings.Cut(section, "\n")
		fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width Ds\n", heading)
		for line := range strings.Lines(text) {
			if m := row.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				n++
				fmt.Fprintf(&b, ".It \"%s\"\n%s.\n", roff(m[1]), plain(m[2]))
				if do := plain(m[3]); do != "" {
					fmt.Fprintf(&b, "To do: %s.\n", do)
				}
			}
		}
		b.WriteString(".El\n")
	}
	if n < 60 {
		t.Fatalf("only %d messages were found", n)
	}
	generatedBetween(t, manPage, ".\\\" diagnostics\n", ".\\\" /diagnostics\n", b.String())
}

// roff is text as it is written in the middle of a line of a manual page.
func roff(text string) string { return strings.ReplaceAll(text, `\`, `\e`) }

// Every command and flag of the help is in the page.
func TestManPageNamesEveryCommandAndFlag(t *testing.T) {
	page := readFile(t, manPage)
	help := readFile(t, "testdata/help.txt")
	commands := regexp.MustCompile(`(?m)^pingover ([a-z]+) - `).FindAllStringSubmatch(help, -1)
	if len(commands) < 10 {
		t.Fatalf("only %d commands in the help", len(commands))
	}
	for _, c := range commands {
		if !regexp.MustCompile(`(?m)^\.It Cm ` + c[1] + `( |$)`).MatchString(page) {
			t.Errorf("no entry for the command %q", c[1])
		}
	}
	var flags []string
	for _, f := range regexp.MustCompile(`(?m)^  (?:-[a-zA-Z], |    )--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
		if !slices.Contains(flags, f[1]) {
			flags = append(flags, f[1])
		}
	}
	if len(flags) < 45 {
		t.Fatalf("only %d flags in the help: %q", len(flags), flags)
	}
	for _, f := range flags {
		if !regexp.MustCompile(`(?:Fl|,|\|) -` + f + `\b`).MatchString(page) {
			t.Errorf("no mention of the flag --%s", f)
		}
	}
}

func TestManPageReads(t *testing.T) {
	lab.Need(t, "mandoc", "mandoc")
	if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", manPage).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	page, err := exec.Command("mandoc", "-T", "ascii", "-O", "width=72", manPage).Output()
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(".\b").ReplaceAllString(string(page), "") // overstruck for bold and underlined
	for _, want := range []string{
		"PINGOVER(8)",
		"pingover - take over the virtual IPs of a primary that is down",
		"  -c, --count n\n",
		"pings in a round (1 to 100; default 5).",
		"  21 (blocked)\n",
		"     * * * * * root command -v pingover >/dev/null && pingover check\n",
		"     does not reply to pings, but it replies to ARP: it is alive\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
