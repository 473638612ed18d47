package config

import (
	"fmt"
	"io/fs"
	"os"

	"pingover/internal/exit"
	"pingover/internal/proc"
)

// untrusted checks that nobody but root can write to or replace a file that names
// commands which root runs.
func untrusted(path string, file fs.FileInfo) (problems Problems) {
	add := func(text string) { problems = append(problems, Problem{Place: path, Text: text, Code: exit.Config}) }
	exposures, err := proc.WritableByOthers(path, file)
	for _, e := range exposures {
		if e.Kind == "" {
			add(e.Why + ", and it names commands that root runs; after reviewing it: " + e.Fix)
			continue
		}
		add(e.String() + ", and the file names commands that root runs; after reviewing it, move it into /etc, or: " + e.Fix)
	}
	if err != nil {
		add(unreadable(err).Error())
	}
	return problems
}

// onlyOurs accepts, as root, a file of mail's credentials that nobody else can
// write to or replace: who can, decides which server gets the mail and the password.
func onlyOurs(path string) func(fs.FileInfo) error {
	return func(file fs.FileInfo) error {
		if os.Geteuid() != 0 {
			return nil
		}
		exposures, err := proc.WritableByOthers(path, file)
		switch {
		case err != nil:
			return unreadable(err)
		case len(exposures) > 0:
			return fileError{fmt.Errorf("%s, so root does not use it; after reviewing it: %s", exposures[0], exposures[0].Fix)}
		}
		return nil
	}
}
