package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// arrange brings a command line into the one order that urfave/cli understands:
// program, command, each flag as --name=value, --, names. By itself the library
// takes a flag after a name for a name, the false of "--dry-run false" too, and
// refuses "-c 5 --count 6" for the wrong reason.
func arrange(args []string, commands []command) ([]string, error) {
	at := slices.IndexFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "-") })
	if at < 0 {
		at = len(args)
	}
	before := words{left: args[:at], rows: rootFlags()}
	if err := before.sort("flags of a command come after it"); err != nil {
		return nil, err
	}
	switch {
	case before.help:
		return []string{programName, "help"}, nil
	case at == len(args) || len(before.flags) > 0:
		return append([]string{programName}, before.flags...), nil
	}
	command, err := find(args[at], commands)
	if err != nil {
		return nil, err
	}
	after := words{left: args[at+1:], rows: command.flags()}
	err = after.sort("see pingover help " + command.name)
	if after.help {
		return []string{programName, "help", command.name}, err
	}
	return slices.Concat([]string{programName, command.name}, after.flags, []string{"--"}, after.names), err
}

// words are the words of a command line, to be sorted into flags, written out
// as --name=value, and names.
type words struct {
	left         []string
	rows         []flagRow
	flags, names []string
	help         bool     // asked for: the library would print its own
	missing      *flagRow // the flag at the end, whose value is missing
}

func (w *words) sort(hint string) error {
	for len(w.left) > 0 {
		word := w.left[0]
		w.left = w.left[1:]
		var err error
		switch {
		case word == "--":
			w.names = append(w.names, w.left...)
			return nil
		case strings.HasPrefix(word, "--"):
			err = w.long(word, hint)
		case strings.HasPrefix(word, "-") && word != "-":
			err = w.short(word, hint)
		default:
			w.names = append(w.names, word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// long takes --name, --name=value or --name value.
func (w *words) long(word, hint string) error {
	name, text, given := strings.Cut(word[2:], "=")
	for _, row := range w.rows {
		if row.name == name {
			return w.take(row, text, given)
		}
	}
	return w.unknown("--"+name, name, hint)
}

// short takes the short flags after a single dash: -n, -nv, -c5, -c=5, -c 5.
func (w *words) short(word, hint string) error {
	name, _, _ := strings.Cut(word[1:], "=")
	for _, row := range w.rows {
		if row.name == name && len(name) > 1 {
			return w.unknown("-"+name, name, hint)
		}
	}
	for rest := word[1:]; rest != ""; {
		_, size := utf8.DecodeRuneInString(rest)
		flag := rest[:size]
		rest = rest[size:]
		at := slices.IndexFunc(w.rows, func(row flagRow) bool { return row.short == flag })
		if at < 0 {
			return w.unknown("-"+flag, "", hint)
		}
		row := w.rows[at]
		if rest == "" || row.bare && rest[0] != '=' {
			if err := w.take(row, "true", rest != ""); err != nil {
				return err
			}
			continue
		}
		return w.take(row, strings.TrimPrefix(rest, "="), true)
	}
	return nil
}

// take writes a flag out with its value: text if given, else the next word, which
// a bare flag takes only if it is true or false.
func (w *words) take(row flagRow, text string, given bool) error {
	next := len(w.left) > 0 && (!row.bare || w.left[0] == "true" || w.left[0] == "false")
	switch {
	case given:
	case next:
		text, w.left = w.left[0], w.left[1:]
	case row.bare:
		text = "true"
	default:
		w.missing = &row
		return usageError{"--" + row.name + ": a value is missing", ""}
	}
	if row.bare && text != "true" && text != "false" {
		return usageError{fmt.Sprintf("--%s %q: must be true or false", row.name, text), ""}
	}
	if row.name == "help" {
		w.help = text == "true"
		return nil
	}
	w.flags = append(w.flags, "--"+row.name+"="+text)
	return nil
}

func (w *words) unknown(word, name, hint string) error {
	var names []string
	for _, row := range w.rows {
		names = append(names, row.name)
	}
	return usageError{fmt.Sprintf("unknown flag %q", word), meant("--", name, names, hint)}
}
