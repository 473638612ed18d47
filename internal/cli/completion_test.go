package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
)

// script is the completion of a shell, in a file, and a PATH on which pingover
// knows the clusters db and web, and others elsewhere. Without the shell the test skips.
func script(t *testing.T, shell string) (path, env string) {
	t.Helper()
	lab.Need(t, shell, shell)
	dir := t.TempDir()
	got := faked(nil).run("completion", shell)
	if got.Code != 0 || got.Stderr != "" {
		t.Fatalf("exit code %d, stderr %q", got.Code, got.Stderr)
	}
	path = filepath.Join(dir, "script")
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(path, got.Stdout, 0o644)
	write(filepath.Join(dir, "pingover"), `#!/bin/sh
case $* in
'completion clusters') printf 'db\nweb\n' ;;
'completion clusters --state-dir /other' | 'completion clusters --state-dir=/other') echo other ;;
'completion clusters -f a.yaml' | 'completion clusters -fa.yaml' | 'completion clusters --file a.yaml' | 'completion clusters --file=a.yaml') echo filed ;;
esac
`, 0o755)
	return path, "PATH=" + dir + ":" + os.Getenv("PATH")
}

// output is what a shell prints.
func output(t *testing.T, env string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env, "HOME="+t.TempDir(), "TERM=dumb", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv[0], err, out)
	}
	return string(out)
}

// typed is a command line to its last word, which is being typed, and words
// that a shell offers for that.
type typed struct {
	name  string
	words []string // as bash splits them
	want  string   // all that is offered, sorted
}

func lines() []typed {
	return []typed{
		{name: "a command", words: []string{"ch"}, want: "check"},
		{name: "two commands", words: []string{"re"}, want: "release resume"},
		{name: "a flag of the program", words: []string{"--v"}, want: "--version"},
		{name: "a flag of the command", words: []string{"check", "--dup"}, want: "--duplicate-check"},
		{name: "a flag that is another command's", words: []string{"pause", "--dup"}, want: ""},
		{name: "a cluster", words: []string{"check", "w"}, want: "web"},
		{name: "all clusters", words: []string{"release", "--force", ""}, want: "db web"},
		{name: "a tool", words: []string{"check", "--tool", ""}, want: "auto ifconfig ip"},
		{name: "a way of failback, begun", words: []string{"check", "web", "--failback", "a"}, want: "auto"},
		{name: "a witness by word", words: []string{"takeover", "--witness", ""}, want: "auto none"},
		{name: "what help is for", words: []string{"help", "doc"}, want: "doctor"},
		{name: "a shell", words: []string{"completion", ""}, want: "bash fish zsh"},
		{name: "a cluster of another directory", words: []string{"status", "--state-dir", "/other", ""}, want: "other"},
		{name: "a cluster of a file", words: []string{"check", "-f", "a.yaml", ""}, want: "filed"},
		{name: "a cluster of a file, in one word", words: []string{"check", "-fa.yaml", "-v", ""}, want: "filed"},
		{name: "a value that nobody can guess", words: []string{"check", "--count", ""}, want: ""},
	}
}

func TestBashCompletes(t *testing.T) {
	path, env := script(t, "bash")
	tests := append(lines(),
		typed{name: "behind --", words: []string{"check", "--", ""}, want: "db web"},
		typed{name: "a tool behind =", words: []string{"check", "--tool", "="}, want: "auto ifconfig ip"},
		typed{name: "a tool behind =, begun", words: []string{"check", "--tool", "=", "if"}, want: "ifconfig"},
		typed{name: "false, behind a bare flag and =", words: []string{"check", "--duplicate-check", "=", "f"}, want: "false"},
		typed{name: "a cluster behind a bare flag", words: []string{"check", "--duplicate-check", ""}, want: "db web"},
		typed{name: "a cluster of a file behind =", words: []string{"check", "--file", "=", "a.yaml", ""}, want: "filed"},
		typed{name: "an interface", words: []string{"check", "-I", "l"}, want: "lo"},
		typed{name: "a file", words: []string{"check", "--mail-ca", strings.TrimSuffix(path, "ipt")}, want: path},
	)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := output(t, env, append([]string{
				"bash", "--norc", "-c",
				`source "$1"; shift; COMP_WORDS=(pingover "$@"); COMP_CWORD=$#; _pingover; printf '%s\n' "${COMPREPLY[@]}"`, "bash", path,
			}, test.words...)...)
			offered := strings.Fields(out)
			slices.Sort(offered)
			if diff := cmp.Diff(test.want, strings.Join(offered, " ")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	if out := output(t, env, "bash", "--norc", "-c", `source "$1"; complete -p pingover`, "bash", path); out != "complete -F _pingover pingover\n" {
		t.Errorf("complete -p: %q", out)
	}
}

func TestFishCompletes(t *testing.T) {
	path, env := script(t, "fish")
	output(t, env, "fish", "--no-execute", path)
	for _, test := range lines() {
		t.Run(test.name, func(t *testing.T) {
			out := output(t, env, "fish", "--no-config", "-c", `source $argv[1]; complete -C "pingover $argv[2]"`, path, strings.Join(test.words, " "))
			var offered []string
			for line := range strings.Lines(out) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
				offered = append(offered, word)
			}
			slices.Sort(offered)
			if diff := cmp.Diff(test.want, strings.Join(offered, " ")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestZshTakesItsCompletion(t *testing.T) {
	path, env := script(t, "zsh")
	output(t, env, "zsh", "-f", "-n", path)
	if out := output(t, env, "zsh", "-f", "-c", `autoload -Uz compinit; compinit -D -u; source $1; print $_comps[pingover]`, "zsh", path); out != "_pingover\n" {
		t.Errorf("completes pingover by %q", out)
	}
}

func TestZshAsksForTheClustersOfTheLine(t *testing.T) {
	path, env := script(t, "zsh")
	const ask = `compdef() { }; compadd() { print $names }; source $1; shift; words=("$@"); CURRENT=$#; _pingover_clusters`
	for _, test := range []typed{
		{words: []string{"check", ""}, want: "db web"},
		{words: []string{"status", "--state-dir", "/other", ""}, want: "other"},
		{words: []string{"status", "--state-dir=/other", ""}, want: "other"},
		{words: []string{"check", "-f", "'a.yaml'", "-v", ""}, want: "filed"},
		{words: []string{"check", "-fa.yaml", ""}, want: "filed"},
	} {
		out := output(t, env, append([]string{"zsh", "-f", "-c", ask, "zsh", path}, test.words...)...)
		if diff := cmp.Diff(test.want+"\n", out); diff != "" {
			t.Errorf("%q: -want +got\n%s", test.words, diff)
		}
	}
}

func TestZshCompletion(t *testing.T) {
	got := faked(nil).run("completion", "zsh").Stdout
	for _, line := range []string{
		"'check:one check of a cluster: the crontab line, and the main job'",
		`'(-n --dry-run)'{-n,--dry-run}'[change, send and write nothing; show the commands that would run]' \`,
		`'--tool=[what raises and lowers addresses; auto is ip where there is one]:TOOL:(auto ip ifconfig)' \`,
		`'*--vip=[virtual IP that follows the primary; may be repeated]:VIP: ' \`,
		`'(-I --interface)'{-I+,--interface=}'[where the virtual IPs are raised]:INTERFACE:_net_interfaces' \`,
		`'*:cluster:_pingover_clusters'`,
		`'1:completion:(bash zsh fish)'`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
}

func TestEveryFlagIsCompleted(t *testing.T) {
	p := faked(nil)
	for _, c := range p.commands() {
		for _, r := range c.flags {
			for shell, word := range map[string]string{"bash": "--" + r.name, "zsh": "--" + r.name, "fish": "-l " + r.name + " "} {
				if !strings.Contains(p.run("completion", shell).Stdout, word) {
					t.Errorf("%s does not complete %s of %s", shell, word, c.name)
				}
			}
		}
	}
}

func TestTheClustersThatAreCompleted(t *testing.T) {
	want(t, faked(nil).run("completion", "clusters", "--state-dir", checked(t, "db", "web")), printed{Stdout: "db\nweb\n"})
	// Somebody is in the middle of typing, and wants no errors.
	want(t, faked(nil).run("completion", "clusters", "--state-dir", t.TempDir()+"/none"), printed{})
	want(t, faked(nil).run("completion", "clusters", "--state-dir", "relative"), printed{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, faked(nil).run("completion", "clusters", "--state-dir", file), printed{})
}

func TestCompletionIsForOneShell(t *testing.T) {
	want(t, faked(nil).run("completion"), printed{Code: 64, Stderr: "pingover: completion is for one shell: bash, zsh, fish\nhint: see pingover help completion\n"})
	want(t, faked(nil).run("completion", "bash", "zsh"), printed{Code: 64, Stderr: "pingover: completion is for one shell: bash, zsh, fish\nhint: see pingover help completion\n"})
	want(t, faked(nil).run("completion", "tcsh"), printed{Code: 64, Stderr: "pingover: \"tcsh\": no shell that completion is for; there are bash, zsh, fish\n"})
}
