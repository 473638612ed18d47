package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pingover/state"
)

// completeCommand is the hidden command that the scripts call with the words of
// a command line up to the one that is being typed:
//
//	pingover __complete -- status --st
//
// It prints what that word may become, one per line, with a tab and its meaning;
// after --flag= only the value. :file and :directory stand for the names of
// files and directories, which shells complete better.
const completeCommand = "__complete"

const bashCompletion = `# bash completion for pingover: source <(pingover completion bash)

_pingover() {
	local cur=${COMP_WORDS[COMP_CWORD]} line
	[[ $cur != = ]] || cur=
	COMPREPLY=()
	while IFS= read -r line; do
		case $line in
		:file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		:directory) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		*) COMPREPLY+=("${line%%$'\t'*}") ;;
		esac
	done < <(pingover __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}

complete -F _pingover pingover
`

const zshCompletion = `#compdef pingover
# zsh completion for pingover: source <(pingover completion zsh), after compinit;
# or as _pingover in a directory of $fpath

_pingover() {
	local line
	local -a offers
	offers=("${(@f)$(pingover __complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	compset -P '--*='
	case $offers[1] in
	'') return 1 ;;
	:file) _files ;;
	:directory) _files -/ ;;
	*) _describe pingover "${(@)${(@)offers//:/\\:}/$'\t'/:}" ;;
	esac
}

if [[ $funcstack[1] == _pingover ]]; then
	_pingover "$@"
else
	compdef _pingover pingover
fi
`

const fishCompletion = `# fish completion for pingover: pingover completion fish | source

function __pingover_complete
	set -l words (commandline -opc)
	set -l current (commandline -ct)
	set -l flag (string match -r -- '^--[^=]*=' "$current"; or echo)
	for line in (pingover __complete -- $words[2..] "$current" 2>/dev/null)
		switch $line
			case :file
				printf '%s\n' $flag(__fish_complete_path (string replace -- "$flag" '' "$current"))
			case :directory
				printf '%s\n' $flag(__fish_complete_directories (string replace -- "$flag" '' "$current"))
			case '*'
				printf '%s\n' $flag$line
		end
	end
end

complete -c pingover -f -a '(__pingover_complete)'
`

// shells are those that there is a script for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

// completion is the command that prints a script.
func (p Program) completion(c *cli.Context) (int, error) {
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	script, known := scripts[c.Args().First()]
	switch {
	case c.NArg() != 1:
		return 0, usageError{"completion is for one shell: " + strings.Join(shells(), ", "), "see pingover help completion"}
	case !known:
		return 0, usageError{fmt.Sprintf("%q: unknown shell; must be one of %s", c.Args().First(), strings.Join(shells(), ", ")), ""}
	}
	p.printRaw(script)
	return 0, nil
}

// complete is the hidden command.
func (p Program) complete(c *cli.Context, commands []command) (int, error) {
	var typed []string
	for _, word := range c.Args().Slice() { // bash splits --flag=value into three words
		if last := len(typed) - 1; last >= 0 && strings.HasPrefix(typed[last], "--") &&
			(word == "=" && !strings.Contains(typed[last], "=") || strings.HasSuffix(typed[last], "=")) {
			typed[last] += word
		} else {
			typed = append(typed, word)
		}
	}
	if len(typed) == 0 {
		return 0, nil
	}
	before, current := typed[:len(typed)-1], typed[len(typed)-1]
	offers := p.offers(c, commands, before, current)
	if strings.HasPrefix(current, "--") {
		if _, value, given := strings.Cut(current, "="); given {
			current = value
		}
	}
	for _, offer := range offers {
		if strings.HasPrefix(offer, current) || strings.HasPrefix(offer, ":") {
			p.printRaw(offer + "\n")
		}
	}
	return 0, nil
}

// offers are all words that may follow before, where the current one begins in
// this way.
func (p Program) offers(c *cli.Context, commands []command, before []string, current string) (offers []string) {
	at := slices.IndexFunc(before, func(word string) bool { return !strings.HasPrefix(word, "-") })
	if at < 0 {
		if strings.HasPrefix(current, "-") {
			return flagOffers(rootFlags())
		}
		return commandOffers(commands)
	}
	command, err := find(before[at], commands)
	if err != nil {
		return nil
	}
	line := words{left: before[at+1:], rows: command.flags()}
	_ = line.sort("") // of an unfinished command line
	name, _, given := strings.Cut(current, "=")
	switch {
	case line.missing != nil:
		return valueOffers(*line.missing)
	case slices.Contains(before, "--"):
	case given:
		for _, row := range command.flags() {
			if "--"+row.name == name {
				return valueOffers(row)
			}
		}
		return nil
	case strings.HasPrefix(current, "-"):
		return flagOffers(command.flags())
	}
	switch command.operand {
	case clusterOperand:
		return namesOf(p.taskOffers(c, line.flags))
	case memberOperand:
		return memberOffers(p.taskOffers(c, line.flags), line.names)
	case "":
		return nil
	case helpOperand:
		return append(commandOffers(commands), settingsTopic+"\tall settings")
	}
	return strings.Split(strings.Trim(command.operand, "[]"), "|")
}

func commandOffers(commands []command) (offers []string) {
	for _, command := range commands {
		if !command.hidden {
			offers = append(offers, command.name+"\t"+command.summary)
		}
	}
	return offers
}

func flagOffers(rows []flagRow) (offers []string) {
	for _, row := range rows {
		offers = append(offers, "--"+row.name+"\t"+row.help)
		if row.short != "" {
			offers = append(offers, "-"+row.short+"\t"+row.help)
		}
	}
	return offers
}

// valueOffers are the values of a flag, if they can be known.
func valueOffers(row flagRow) []string {
	switch row.argument {
	case "FILE", "COMMAND":
		return []string{":file"}
	case "DIRECTORY":
		return []string{":directory"}
	case "INTERFACE":
		var names []string
		entries, _ := os.ReadDir("/sys/class/net") // without it there is nothing to offer
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	return row.values
}

// memberOffers are the pools, and after the name of one its members that are not
// given yet.
func memberOffers(tasks []Task, before []string) (offers []string) {
	for _, t := range tasks {
		switch {
		case t.Kind != state.OfPool:
		case len(before) == 0:
			offers = append(offers, t.Name)
		case t.Name == before[0]:
			for _, m := range t.pool.Members {
				if !slices.Contains(before, m.String()) {
					offers = append(offers, m.String())
				}
			}
		}
	}
	return offers
}

// taskOffers are the known tasks, in the places that these flags name. Nobody
// wants errors in the middle of a command line: then there are none.
func (p Program) taskOffers(c *cli.Context, flags []string) (tasks []Task) {
	line := []string{programName, completeCommand}
	for _, flag := range flags {
		if strings.HasPrefix(flag, "--file=") || strings.HasPrefix(flag, "--state-dir=") {
			line = append(line, flag)
		}
	}
	known := command{
		name: completeCommand, flags: func() []flagRow { return append(settingFlags("state-dir"), fileFlag()) },
		run: func(c *cli.Context) (int, error) {
			var err error
			tasks, _, _, err = p.observed(c)
			return 0, err
		},
	}
	if err := p.runLine(c.Context, line, []command{known}, new(int)); err != nil {
		return nil
	}
	return tasks
}
