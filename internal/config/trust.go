package config

import (
	"io/fs"

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
