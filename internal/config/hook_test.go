package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/exit"
	"pingover/internal/proc"
)

// What is taken is what a shell makes of it; a shell is asked.
func TestCommandsAreSplitAsAShellDoes(t *testing.T) {
	for text, want := range map[string][]string{
		"fence":                         {"fence"},
		" \tfence  web\tnow ":           {"fence", "web", "now"},
		"fence 'a  b' \"c  d\"":         {"fence", "a  b", "c  d"},
		`fence '' ""`:                   {"fence", "", ""},
		`''`:                            {""},
		`a'b'"c"\d`:                     {"abcd"},
		`fence 'it'\''s' "it's"`:        {"fence", "it's", "it's"},
		`a\ b \' \" \\ \| \$ \n`:        {"a b", "'", `"`, `\`, "|", "$", "n"},
		`'a\b' '\' '|&;<>$` + "`" + `'`: {`a\b`, `\`, "|&;<>$`"},
		`"a\b" "\"" "\\" "\$" "\` + "`" + `" "|&;<>"`: {`a\b`, `"`, `\`, "$", "`", "|&;<>"},
		"a\\\nb \"c\\\nd\" 'e\\\nf'":                  {"ab", "cd", "e\\\nf"},
		"'a\nb' \"c\nd\"":                             {"a\nb", "c\nd"},
		`sh -c 'echo "$PINGOVER_VIPS" | mail root'`:   {"sh", "-c", `echo "$PINGOVER_VIPS" | mail root`},
		"Jörg --name=x,y:z%+@":                        {"Jörg", "--name=x,y:z%+@"},
		"":                                            nil,
		" \t ":                                        nil,
	} {
		got, err := splitCommand(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v, -want +got\n%s", text, err, diff)
		}
		out, err := exec.Command("sh", "-c", "set -- "+text+"\n"+`for word; do printf '%s\0' "$word"; done`).Output()
		if said := strings.Split(string(out), "\x00"); err != nil || !slices.Equal(said[:len(said)-1], want) {
			t.Errorf("%q: to a shell it is %q (%v)", text, said, err)
		}
	}
}

func TestWhatNeedsAShellIsRefused(t *testing.T) {
	shell := func(c string) string {
		return c + " needs a shell, such as sh -c '...'; in single quotes it is an ordinary character"
	}
	for given, want := range map[string]string{
		"sh -c x | tee log":      shell(`"|"`),
		"sh -c x&":               shell(`"&"`),
		"sh -c x; sh -c y":       shell(`";"`),
		"sh </dev/null":          shell(`"<"`),
		"sh >/dev/null":          shell(`">"`),
		"sh $HOME":               shell(`"$"`),
		"sh `id`":                shell("\"`\""),
		`sh "$HOME"`:             shell(`"$"`),
		"sh \"`id`\"":            shell("\"`\""),
		"sh -c x\nsh -c y":       shell(`"\n"`),
		"sh -c 'x":               "the quote ' is not closed",
		`sh -c "x'`:              `the quote " is not closed`,
		`sh -c "x\"`:             `the quote " is not closed`,
		`sh -c x\`:               `ends in a backslash with nothing after it`,
		" ":                      "a command is missing",
		"''":                     "a command is missing",
		"'' sh":                  "a command is missing",
		"sh 'a\x00b'":            "a command must not contain a NUL byte",
		"sh \xff":                "not UTF-8",
		"./fence web":            `"./fence": must be an absolute path, because cron starts in another directory, or a name without a slash`,
		"~/fence":                `"~/fence": must be an absolute path, because cron starts in another directory, or a name without a slash`,
		`sh -c 'echo "$HOME"|x'`: "",
	} {
		for _, setting := range []string{"pre-takeover", "post-takeover", "pre-release", "post-release", "notify"} {
			_, err := FromFlags(map[string][]string{"host": {"h"}, setting: {given}}, rootOn("standby"))
			problems := Problems(nil)
			if want != "" {
				problems = Problems{{Place: "--" + setting + " " + strconv.Quote(given), Text: want, Code: exit.Usage}}
			}
			if got, _ := err.(Problems); !cmp.Equal(problems, got) {
				t.Errorf("%s: -want +got\n%s", setting, cmp.Diff(problems, got))
			}
		}
	}
}

func TestAHookMustBeAProgramThatCanRun(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "fence": 0o755, "two words": 0o755} {
		if err := os.WriteFile(at(name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("fence", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("none", at("dangling")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	folders := dir + ":/usr/sbin:/sbin:/usr/bin:/bin"
	for given, want := range map[string]string{
		"sh":                         "",
		"fence web":                  "",
		"'two words'":                "",
		at("fence") + " web":         "",
		at("link"):                   "",
		"'" + at("two words") + "'":  "",
		"nofence web":                `"nofence" not found in ` + folders,
		"plain":                      `"plain" not found in ` + folders,
		"FOO=1 fence":                `"FOO=1" not found in ` + folders,
		at("none") + " web":          `"` + at("none") + `": no such file or directory`,
		at("dangling"):               `"` + at("dangling") + `": no such file or directory`,
		at("fence") + "/web":         `"` + at("fence") + `/web": not a directory`,
		at("plain"):                  `"` + at("plain") + `": not executable: permission denied`,
		dir:                          `"` + dir + `": not a regular file`,
		"/dev/null":                  `"/dev/null": not a regular file`,
		at(strings.Repeat("a", 256)): `"` + at(strings.Repeat("a", 256)) + `": file name too long`,
	} {
		_, err := FromFlags(map[string][]string{"host": {"h"}, "pre-takeover": {given}}, rootOn("standby"))
		problems := Problems(nil)
		if want != "" {
			problems = Problems{{Place: `--pre-takeover "` + given + `"`, Text: want, Code: exit.Config}}
		}
		if got, _ := err.(Problems); !cmp.Equal(problems, got) {
			t.Errorf("-want +got\n%s", cmp.Diff(problems, got))
		}
	}
}

func FuzzSplitCommand(f *testing.F) {
	for _, text := range []string{
		"fence web", "a 'b c' \"d\"", `a\ b`, `"\a\"\\"`, "''", "'", `"`, `\`, "a|b", "\"$\"", "a\nb", "a\\\nb", "\x00", "a\x00\x00b c\x00'", "\xff ß", "~*#()",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		argv, err := splitCommand(text)
		if err != nil {
			if argv != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %q and %q", text, argv, err)
			}
		} else if again, err := splitCommand(proc.Line(argv)); err != nil || !slices.Equal(again, argv) {
			t.Fatalf("%q is %q, and as a line %q (%v)", text, argv, again, err)
		}
		// Any words at all come back from a line that is made of them.
		words := strings.Split(text, "\x00")
		if again, err := splitCommand(proc.Line(words)); err != nil || !slices.Equal(again, words) {
			t.Fatalf("%q came back as %q (%v)", words, again, err)
		}
	})
}
