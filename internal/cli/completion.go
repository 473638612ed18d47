package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const aboutCompletion = `  source <(pingover completion bash)     # in ~/.bashrc
  source <(pingover completion zsh)      # in ~/.zshrc, behind compinit
  pingover completion fish | source      # in config.fish

Or each into the file that its shell reads completions from.
`

// clustersOperand is what the scripts ask for the names of the clusters by, with
// what was typed of --file and --state-dir. It is no shell, so nothing else can be
// meant.
const clustersOperand = "clusters"

// shells are those that completion is for.
func shells() []string { return []string{"bash", "zsh", "fish"} }

// completion is the command.
func (p Program) completion(c *cli.Context) (int, error) {
	if c.NArg() != 1 {
		return 0, usageError{"completion is for one shell: " + strings.Join(shells(), ", "), "see pingover help completion"}
	}
	commands := p.commands()
	switch shell := c.Args().First(); shell {
	case "bash":
		p.print(bashCompletion(commands))
	case "zsh":
		p.print(zshCompletion(commands))
	case "fish":
		p.print(fishCompletion(commands))
	case clustersOperand:
		for _, name := range p.completedClusters(c) {
			p.print(name + "\n")
		}
	default:
		return 0, usageError{fmt.Sprintf("%q: no shell that completion is for; there are %s", shell, strings.Join(shells(), ", ")), ""}
	}
	return 0, nil
}

// completedClusters are the names of the clusters as far as they can be found
// out: somebody is in the middle of typing, and wants no errors.
func (p Program) completedClusters(c *cli.Context) []string {
	clusters, _, _ := p.observed(c)
	return namesOf(clusters)
}

// takesClusters says whether clusters may stand behind the command.
func (c command) takesClusters() bool { return strings.Contains(c.operand, "CLUSTER") }

// operands are the words that may stand behind the command, where they are
// known.
func (c command) operands(commands []command) []string {
	switch c.name {
	case "help":
		return commandNames(commands)
	case "completion":
		return shells()
	}
	return nil
}

func commandNames(commands []command) (names []string) {
	for _, c := range commands {
		names = append(names, c.name)
	}
	return names
}

// spellings are a flag as it may be typed: --interface, -I.
func (r flagRow) spellings() []string {
	if r.short == "" {
		return []string{"--" + r.name}
	}
	return []string{"--" + r.name, "-" + r.short}
}

func spellings(rows []flagRow) (words []string) {
	for _, r := range rows {
		words = append(words, r.spellings()...)
	}
	return words
}

// bashCompletion is the script for bash. Bash splits words at "=" and ":".
func bashCompletion(commands []command) string {
	var b strings.Builder
	b.WriteString(`# bash completion for pingover: source <(pingover completion bash)

_pingover_words() {
	local word
	for word in $1; do
		[[ $word != "$cur"* ]] || COMPREPLY+=("$word")
	done
}

_pingover() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= names= equals= where=() i j
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) names=1 ;;
		-f|--file|--state-dir)
			j=$((i + 1))
			[[ ${COMP_WORDS[j]} != = ]] || ((j++))
			where+=("${COMP_WORDS[i]}" "${COMP_WORDS[j]}")
			;;
		-f?*) where+=("${COMP_WORDS[i]}") ;;
		-*) ;;
		*) [[ -n $command ]] || command=${COMP_WORDS[i]} ;;
		esac
	done
	if [[ $cur == = ]]; then
		cur= equals=1
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]} equals=1
	fi
	if [[ -z $names ]]; then
		case $prev in
`)
	var actions []string
	flags := map[string][]string{}
	for _, r := range distinctFlags(commands) {
		if r.bare && len(r.values) == 0 {
			continue
		}
		action := bashValue(r)
		if flags[action] == nil {
			actions = append(actions, action)
		}
		flags[action] = append(flags[action], r.spellings()...)
	}
	for _, action := range actions {
		fmt.Fprintf(&b, "\t\t%s) %s ;;\n", strings.Join(flags[action], "|"), action)
	}
	b.WriteString("\t\tesac\n\tfi\n\tlocal flags= words=\n\tcase $command in\n")
	fmt.Fprintf(&b, "\t'') flags='%s' words='%s' ;;\n", strings.Join(spellings(rootFlags()), " "), strings.Join(commandNames(commands), " "))
	for _, c := range commands {
		words := "'" + strings.Join(c.operands(commands), " ") + "'"
		if c.takesClusters() {
			words = `$(pingover completion ` + clustersOperand + ` "${where[@]}" 2>/dev/null)`
		}
		fmt.Fprintf(&b, "\t%s) flags='%s' words=%s ;;\n", c.name, strings.Join(spellings(c.flags), " "), words)
	}
	b.WriteString(`	esac
	if [[ $cur == -* && -z $names ]]; then
		_pingover_words "$flags"
	else
		_pingover_words "$words"
	fi
}

complete -F _pingover pingover
`)
	return b.String()
}

// bashValue completes the value of a flag; where it cannot be guessed, by
// nothing.
func bashValue(r flagRow) string {
	switch {
	case r.bare: // takes a value only behind "="
		return fmt.Sprintf("[[ -z $equals ]] || { _pingover_words '%s'; return; }", strings.Join(r.values, " "))
	case len(r.values) > 0:
		return fmt.Sprintf("_pingover_words '%s'; return", strings.Join(r.values, " "))
	case r.argument == "FILE" || r.argument == "COMMAND":
		return `mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return`
	case r.argument == "DIRECTORY":
		return `mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return`
	case r.argument == "INTERFACE":
		return `_pingover_words "$(ls /sys/class/net 2>/dev/null)"; return`
	}
	return "return"
}

// distinctFlags are the flags of all commands, each once: the same name means
// the same everywhere.
func distinctFlags(commands []command) (rows []flagRow) {
	for _, c := range commands {
		for _, r := range c.flags {
			if !slices.ContainsFunc(rows, func(known flagRow) bool { return known.name == r.name }) {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// zshCompletion is the script for zsh, which shows what each flag is for.
func zshCompletion(commands []command) string {
	var b strings.Builder
	b.WriteString(`#compdef pingover
# zsh completion for pingover: source <(pingover completion zsh), behind compinit;
# or as _pingover in a directory of $fpath

_pingover_clusters() {
	local -a names where
	local -i i
	for ((i = 2; i < CURRENT; i++)); do
		case $words[i] in
		-f|--file|--state-dir) where+=($words[i] ${(Q)words[i+1]}) ;;
		-f?*|--file=*|--state-dir=*) where+=(${(Q)words[i]}) ;;
		esac
	done
	names=(${(f)"$(pingover completion ` + clustersOperand + ` $where 2>/dev/null)"})
	compadd -a names
}

_pingover() {
	local curcontext=$curcontext state
	local -a line commands
	local -A opt_args
	commands=(
`)
	for _, c := range commands {
		fmt.Fprintf(&b, "\t\t%s\n", inQuotes(c.name+":"+c.summary))
	}
	b.WriteString("\t)\n\t_arguments -C \\\n")
	for _, r := range rootFlags() {
		fmt.Fprintf(&b, "\t\t%s \\\n", zshFlag(r))
	}
	b.WriteString(`		'1:command:->command' \
		'*::argument:->arguments'
	case $state in
	command) _describe command commands ;;
	arguments)
		case $words[1] in
`)
	for _, c := range commands {
		fmt.Fprintf(&b, "\t\t%s)\n\t\t\t_arguments -S", c.name)
		for _, r := range c.flags {
			fmt.Fprintf(&b, " \\\n\t\t\t\t%s", zshFlag(r))
		}
		switch operands := c.operands(commands); {
		case c.takesClusters():
			b.WriteString(" \\\n\t\t\t\t'*:cluster:_pingover_clusters'")
		case len(operands) > 0:
			fmt.Fprintf(&b, " \\\n\t\t\t\t'1:%s:(%s)'", strings.ToLower(c.name), strings.Join(operands, " "))
		}
		b.WriteString("\n\t\t\t;;\n")
	}
	b.WriteString(`		esac
		;;
	esac
}

if [[ $funcstack[1] == _pingover ]]; then
	_pingover "$@"
else
	compdef _pingover pingover
fi
`)
	return b.String()
}

// zshFlag is a flag as _arguments wants it.
func zshFlag(r flagRow) string {
	text := "[" + strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(r.help) + "]"
	long, short := "--"+r.name, "-"+r.short
	if !r.bare {
		long, short = long+"=", short+"+"
		action := " "
		switch {
		case len(r.values) > 0:
			action = "(" + strings.Join(r.values, " ") + ")"
		case r.argument == "FILE" || r.argument == "COMMAND":
			action = "_files"
		case r.argument == "DIRECTORY":
			action = "_files -/"
		case r.argument == "INTERFACE":
			action = "_net_interfaces"
		}
		text += ":" + r.argument + ":" + action
	}
	again := ""
	if r.list {
		again = "*"
	}
	switch {
	case r.short == "":
		return inQuotes(again + long + text)
	case r.list:
		return fmt.Sprintf("'*'{%s,%s}%s", short, long, inQuotes(text))
	}
	return fmt.Sprintf("'(-%s --%s)'{%s,%s}%s", r.short, r.name, short, long, inQuotes(text))
}

// fishCompletion is the script for fish. A flag that means the same for several
// commands stands there once.
func fishCompletion(commands []command) string {
	var b strings.Builder
	b.WriteString(`# fish completion for pingover: pingover completion fish | source

function __pingover_clusters
	set -l words (commandline -opc)
	set -l where
	for i in (seq (count $words))
		switch $words[$i]
			case -f --file --state-dir
				set where $where $words[$i] $words[(math $i + 1)]
			case '-f*' '--file=*' '--state-dir=*'
				set where $where $words[$i]
		end
	end
	pingover completion ` + clustersOperand + ` $where 2>/dev/null
end

complete -c pingover -f
`)
	for _, c := range commands {
		fmt.Fprintf(&b, "complete -c pingover -n __fish_use_subcommand -a %s -d %s\n", c.name, fishQuotes(c.summary))
	}
	for _, r := range rootFlags() {
		fmt.Fprintf(&b, "complete -c pingover -n __fish_use_subcommand%s\n", fishFlag(r))
	}
	var flags, takers []string
	users := map[string][]string{}
	for _, c := range commands {
		for _, r := range c.flags {
			flag := fishFlag(r)
			if users[flag] == nil {
				flags = append(flags, flag)
			}
			users[flag] = append(users[flag], c.name)
		}
		switch operands := c.operands(commands); {
		case c.takesClusters():
			takers = append(takers, c.name)
		case len(operands) > 0:
			fmt.Fprintf(&b, "complete -c pingover -n '__fish_seen_subcommand_from %s' -a %s\n", c.name, fishQuotes(strings.Join(operands, " ")))
		}
	}
	fmt.Fprintf(&b, "complete -c pingover -n '__fish_seen_subcommand_from %s' -a '(__pingover_clusters)' -d cluster\n",
		strings.Join(takers, " "))
	for _, flag := range flags {
		fmt.Fprintf(&b, "complete -c pingover -n '__fish_seen_subcommand_from %s'%s\n", strings.Join(users[flag], " "), flag)
	}
	return b.String()
}

// fishFlag is a flag as complete wants it.
func fishFlag(r flagRow) string {
	text := " -l " + r.name
	if r.short != "" {
		text += " -s " + r.short
	}
	switch {
	case r.bare:
	case len(r.values) > 0:
		text += " -x -a " + fishQuotes(strings.Join(r.values, " "))
	case r.argument == "FILE" || r.argument == "COMMAND":
		text += " -r -F"
	case r.argument == "DIRECTORY":
		text += " -x -a '(__fish_complete_directories)'"
	case r.argument == "INTERFACE":
		text += " -x -a '(__fish_print_interfaces)'"
	default:
		text += " -x"
	}
	return text + " -d " + fishQuotes(r.help)
}

// inQuotes is text in the single quotes of a POSIX shell.
func inQuotes(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuotes is text in the single quotes of fish, where a backslash counts.
func fishQuotes(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
