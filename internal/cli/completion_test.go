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

// script is the completion of a shell in a file, and an environment in which
// pingover is this program and knows the clusters db and web, and others
// elsewhere. Without the shell the test skips.
func script(t *testing.T, shell string) (path string, env []string) {
	t.Helper()
	lab.Need(t, shell, shell)
	got := faked(nil).run("completion", shell)
	if got.Code != 0 || got.Stderr != "" {
		t.Fatalf("exit code %d, stderr %q", got.Code, got.Stderr)
	}
	dir := t.TempDir()
	path = filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte(got.Stdout), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "pingover")); err != nil {
		t.Fatal(err)
	}
	return path, []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "XDG_STATE_HOME=" + knownClusters(t)}
}

// knownClusters is a directory for XDG_STATE_HOME with records of db and web. The
// working directory is from now on one with the state directory "other" and the
// file a.yaml.
func knownClusters(t *testing.T) string {
	t.Helper()
	home, here := t.TempDir(), t.TempDir()
	t.Chdir(here)
	for path, text := range map[string]string{
		filepath.Join(home, "pingover/db.json"):  "",
		filepath.Join(home, "pingover/web.json"): "",
		filepath.Join(here, "state/other.json"):  "",
		filepath.Join(here, "a.yaml"):            "clusters: {filed: {host: 127.0.0.1}, fine: {host: 127.0.0.1}, web: {host: 127.0.0.1}}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

// output is what a shell prints.
func output(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), env...), "HOME="+t.TempDir(), "TERM=dumb", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "PINGOVER_CONFIG=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv[0], err, out)
	}
	return string(out)
}

// typed is a command line up to its last word, which is being typed, and all that
// is offered for it, sorted.
type typed struct {
	name  string
	words []string // as bash splits them
	want  string
}

func lines(t *testing.T) []typed {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(here, "state")
	return []typed{
		{name: "a command", words: []string{"ch"}, want: "check"},
		{name: "two commands", words: []string{"re"}, want: "release resume"},
		{name: "a flag of the program", words: []string{"--v"}, want: "--version"},
		{name: "a flag of the command", words: []string{"check", "--dup"}, want: "--duplicate-check"},
		{name: "a flag that is another command's", words: []string{"pause", "--dup"}, want: ""},
		{name: "a cluster", words: []string{"check", "w"}, want: "web"},
		{name: "all clusters", words: []string{"release", "--force", ""}, want: "db web"},
		{name: "after --", words: []string{"check", "--", ""}, want: "db web"},
		{name: "a cluster after a bare flag", words: []string{"check", "--duplicate-check", ""}, want: "db web"},
		{name: "a tool", words: []string{"check", "--tool", ""}, want: "auto ifconfig ip"},
		{name: "a way of failback, begun", words: []string{"check", "web", "--failback", "a"}, want: "auto"},
		{name: "a witness by word", words: []string{"takeover", "--witness", ""}, want: "auto none"},
		{name: "an interface", words: []string{"check", "-I", "l"}, want: "lo"},
		{name: "the operand of help", words: []string{"help", "doc"}, want: "doctor"},
		{name: "a shell", words: []string{"completion", ""}, want: "bash fish zsh"},
		{name: "the operand of demo", words: []string{"demo", ""}, want: "pools"},
		{name: "no such command", words: []string{"chekc", ""}, want: ""},
		{name: "a cluster of another directory", words: []string{"status", "--state-dir", state, ""}, want: "other"},
		{name: "no such directory", words: []string{"status", "--state-dir", "/none", ""}, want: ""},
		{name: "a cluster of a file", words: []string{"check", "-f", "a.yaml", "fi"}, want: "filed fine"},
		{name: "a cluster of a file, in one word", words: []string{"check", "-fa.yaml", "-v", "f"}, want: "filed fine"},
		{name: "a cluster of a broken file", words: []string{"check", "-f", state, ""}, want: "db web"},
		{name: "a value that cannot be known", words: []string{"check", "--count", ""}, want: ""},
	}
}

// afterEquals are lines with a flag and its value in one word, which bash splits.
func afterEquals() []typed {
	return []typed{
		{name: "a tool after =", words: []string{"check", "--tool", "="}, want: "auto ifconfig ip"},
		{name: "a tool after =, begun", words: []string{"check", "--tool", "=", "if"}, want: "ifconfig"},
		{name: "false, after a bare flag and =", words: []string{"check", "--duplicate-check", "=", "f"}, want: "false"},
		{name: "a cluster of a file after =", words: []string{"check", "--file", "=", "a.yaml", "f"}, want: "filed fine"},
	}
}

func offered(words []string) string {
	slices.Sort(words)
	return strings.Join(words, " ")
}

func TestWordsThatAreCompleted(t *testing.T) {
	p := faked(nil)
	home := knownClusters(t)
	p.Env.Root, p.Env.Getenv = false, func(name string) string { return map[string]string{"XDG_STATE_HOME": home}[name] }
	for _, test := range append(lines(t), afterEquals()...) {
		t.Run(test.name, func(t *testing.T) {
			got := p.run(append([]string{"__complete", "--"}, test.words...)...)
			var words []string
			for line := range strings.Lines(got.Stdout) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
				words = append(words, word)
			}
			if got.Code != 0 || got.Stderr != "" || offered(words) != test.want {
				t.Errorf("%+v, want %q", got, test.want)
			}
		})
	}
	want(t, p.run("__complete", "--", "check", "--tool=i"), printed{Stdout: "ip\nifconfig\n"})
	want(t, p.run("__complete", "--", "che"), printed{Stdout: "check\trun one check (this is what cron calls)\n"})
	want(t, p.run("__complete", "--", "check", "--mail-ca", "/etc/"), printed{Stdout: ":file\n"})
	want(t, p.run("__complete", "--", "check", "--state-dir", ""), printed{Stdout: ":directory\n"})
	want(t, p.run("__complete"), printed{})
}

// The names were once found by an ignored error of `completion clusters`, and a
// cluster of that name was the only one that was ever offered.
func TestAClusterCalledClustersHidesNoOther(t *testing.T) {
	p := faked(nil)
	for _, flag := range []string{"--state-dir", "--state-dir="} {
		words := []string{"__complete", "--", "status", flag, checked(t, "clusters", "web"), ""}
		if strings.HasSuffix(flag, "=") {
			words = append(words[:3], flag+words[4], "")
		}
		want(t, p.run(words...), printed{Stdout: "clusters\nweb\n"})
	}
}

func TestBashCompletes(t *testing.T) {
	path, env := script(t, "bash")
	tests := append(append(lines(t), afterEquals()...),
		typed{name: "a file", words: []string{"check", "--mail-ca", strings.TrimSuffix(path, "ipt")}, want: path},
		typed{name: "a directory", words: []string{"check", "--state-dir", strings.TrimSuffix(filepath.Dir(path), "/001")}, want: filepath.Dir(filepath.Dir(path))},
	)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := output(t, env, append([]string{
				"bash", "--norc", "-c",
				`source "$1"; shift; COMP_WORDS=(pingover "$@"); COMP_CWORD=$#; _pingover; printf '%s\n' "${COMPREPLY[@]}"`, "bash", path,
			}, test.words...)...)
			if diff := cmp.Diff(test.want, offered(strings.Fields(out))); diff != "" {
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
	tests := append(lines(t),
		typed{name: "a tool after =", words: []string{"check", "--tool=i"}, want: "--tool=ifconfig --tool=ip"},
		typed{name: "a file", words: []string{"check", "--mail-ca", strings.TrimSuffix(path, "ipt")}, want: path},
		typed{name: "a file after =", words: []string{"check", "--mail-ca=" + strings.TrimSuffix(path, "ipt")}, want: "--mail-ca=" + path},
	)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := output(t, env, "fish", "--no-config", "-c", `source $argv[1]; complete -C "pingover $argv[2]"`, path, strings.Join(test.words, " "))
			var words []string
			for line := range strings.Lines(out) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
				words = append(words, word)
			}
			if diff := cmp.Diff(test.want, offered(words)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestZshCompletes(t *testing.T) {
	path, env := script(t, "zsh")
	output(t, env, "zsh", "-f", "-n", path)
	if out := output(t, env, "zsh", "-f", "-c", `autoload -Uz compinit; compinit -D -u; source $1; print $_comps[pingover]`, "zsh", path); out != "_pingover\n" {
		t.Errorf("completes pingover by %q", out)
	}
	const ask = `compdef() { }; compset() { }; _files() { print files "$@" }
		_describe() { shift; print -l -- "$@" }
		source $1; shift; words=(pingover "$@"); CURRENT=$#words; _pingover || true`
	for _, test := range append(lines(t),
		typed{name: "a quoted file", words: []string{"check", "-f", "'a.yaml'", "f"}, want: "filed fine"},
		typed{name: "a tool after =", words: []string{"check", "--tool=i"}, want: "ifconfig ip"},
		typed{name: "a file", words: []string{"check", "--mail-ca", ""}, want: "files"},
		typed{name: "a directory", words: []string{"check", "--state-dir", ""}, want: "files -/"},
	) {
		t.Run(test.name, func(t *testing.T) {
			out := output(t, env, append([]string{"zsh", "-f", "-c", ask, "zsh", path}, test.words...)...)
			var words []string
			for line := range strings.Lines(out) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), ":")
				words = append(words, word)
			}
			if diff := cmp.Diff(test.want, strings.TrimSpace(offered(words))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestEveryFlagIsCompleted(t *testing.T) {
	p := faked(nil)
	for _, c := range p.commands() {
		if c.hidden {
			continue
		}
		got := p.run("__complete", "--", c.name, "-").Stdout
		for _, r := range c.flags() {
			if !strings.Contains(got, "--"+r.name+"\t"+r.help+"\n") {
				t.Errorf("--%s of %s is not completed", r.name, c.name)
			}
			if r.short != "" && !strings.Contains(got, "-"+r.short+"\t") {
				t.Errorf("-%s of %s is not completed", r.short, c.name)
			}
		}
	}
}

func TestCompletionIsForOneShell(t *testing.T) {
	want(t, faked(nil).run("completion"), printed{Code: 64, Stderr: "pingover: completion is for one shell: bash, zsh, fish\nhint: see pingover help completion\n"})
	want(t, faked(nil).run("completion", "bash", "zsh"), printed{Code: 64, Stderr: "pingover: completion is for one shell: bash, zsh, fish\nhint: see pingover help completion\n"})
	want(t, faked(nil).run("completion", "tcsh"), printed{Code: 64, Stderr: "pingover: \"tcsh\": unknown shell; must be one of bash, zsh, fish\n"})
}
