package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"pingover/internal/proc"
)

// command is the form of a hook: a command line that is run without a shell.
func command(field func(*Cluster) *[]string) form {
	return form{
		Kind: Command, Argument: "COMMAND", Range: "a program and its arguments, run without a shell",
		set: func(d *draft, text string) error {
			argv, err := splitCommand(text)
			if err != nil {
				return err
			}
			*field(&d.Cluster) = argv
			return checkCommand(argv)
		},
	}
}

// splitCommand splits a command line as a shell does: blanks separate, quotes and
// backslashes keep together. Anything that needs a shell is an error.
func splitCommand(text string) ([]string, error) {
	var argv []string
	var word []byte
	var quote byte // that is open, or 0
	begun := false // a word, which may be empty: ''
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			word = append(word, c)
		case c == '\\':
			i++
			if i == len(text) {
				return nil, errors.New("ends in a backslash with nothing after it")
			}
			c = text[i]
			if c == '\n' { // the line goes on
				continue
			}
			if quote == '"' && strings.IndexByte("\"\\$`", c) < 0 {
				word = append(word, '\\')
			}
			word, begun = append(word, c), true
		case c == '$' || c == '`' || quote == 0 && strings.IndexByte("|&;<>\n", c) >= 0:
			return nil, fmt.Errorf("%q needs a shell, such as sh -c '...'; in single quotes it is an ordinary character", string(c))
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if begun {
				argv = append(argv, string(word))
			}
			word, begun = nil, false
		default:
			word, begun = append(word, c), true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if begun {
		argv = append(argv, string(word))
	}
	return argv, nil
}

// checkCommand checks that argv can be run here, before a takeover needs it. A
// relative path would depend on the directory that cron starts pingover in.
func checkCommand(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("a command is missing")
	}
	if slices.ContainsFunc(argv, func(word string) bool { return strings.IndexByte(word, 0) >= 0 }) {
		return errors.New("a command must not contain a NUL byte")
	}
	name := argv[0]
	if !strings.Contains(name, "/") {
		if _, err := proc.Find(name); err != nil {
			return fileError{err}
		}
		return nil
	}
	if !filepath.IsAbs(name) {
		return fmt.Errorf("%q: must be an absolute path, because cron starts in another directory, or a name without a slash", name)
	}
	if err := proc.Executable(name); err != nil {
		return fileError{fmt.Errorf("%q: %v", name, err)}
	}
	return nil
}
