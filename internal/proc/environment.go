package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// folders is where programs are: PATH, and the folders that cron's PATH lacks. An empty or relative entry of PATH
// depends on the folder we happen to be in, so it does not count.
func folders() []string {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/bin", "/bin")
	var unique []string
	for _, dir := range dirs {
		if filepath.IsAbs(dir) && !slices.Contains(unique, dir) {
			unique = append(unique, dir)
		}
	}
	return unique
}

// Find looks for a program in PATH, then in /usr/sbin, /sbin, /usr/bin and /bin. A name with a slash is taken as it
// is.
func Find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range folders() {
		if path, err := exec.LookPath(filepath.Join(dir, name)); name != "" && err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%q not found in %s", name, strings.Join(folders(), ":"))
}

// Environment is what a child is given: where programs are, who we are, and English as the language. Nothing
// else of our own environment is in it, so no password either. Extra entries ("KEY=value") come last and win.
func Environment(extra ...string) []string {
	env := []string{"PATH=" + strings.Join(folders(), ":"), "LANG=C", "LC_ALL=C"}
	for _, key := range []string{"HOME", "USER", "LOGNAME"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return append(env, extra...)
}

// Line is a command line as one would type it into a shell.
func Line(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = quote(arg)
	}
	return strings.Join(words, " ")
}

// quote puts quotes round a word in which a shell would see more than a word.
func quote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,@%+=", r)
	}
	if arg != "" && !strings.ContainsFunc(arg, func(r rune) bool { return !plain(r) }) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
