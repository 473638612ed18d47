package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"pingover/internal/term"
	"pingover/state"
)

// shownCommand is a command with all its keys, also those that the record leaves
// out.
type shownCommand struct {
	Argv   []string `json:"argv"`
	Hook   string   `json:"hook"`
	Code   *int     `json:"code"`
	Output string   `json:"output"`
}

func shown(commands []state.Command) []shownCommand {
	all := []shownCommand{}
	for _, c := range commands {
		all = append(all, shownCommand(c))
	}
	return all
}

// jsonLine is v as one line of JSON.
func jsonLine(v any) string {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // all of our types can be encoded
	}
	return printableJSON(strings.TrimSuffix(line.String(), "\n")) + "\n"
}

// printableJSON is JSON with blanks for all that cannot be printed, but for line
// breaks and tabs: jq -r shows its strings on a terminal.
func printableJSON(text string) string {
	text = term.Plain(text)
	if !strings.Contains(text, `\`) {
		return text
	}
	escapes := []string{`\\`, `\\`, `\b`, " ", `\f`, " ", `\r`, " ", `\u2028`, " ", `\u2029`, " "} // an escaped backslash begins no escape
	for c := range ' ' {
		escapes = append(escapes, fmt.Sprintf(`\u%04x`, c), " ")
	}
	return strings.NewReplacer(escapes...).Replace(text)
}

// list is l, in JSON [] and never null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
