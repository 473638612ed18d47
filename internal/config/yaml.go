package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pingover/internal/proc"
)

// sections are the content of a configuration file.
type sections struct {
	defaults section
	named    []section // clusters and pools
}

// section is one mapping of settings to values: defaults, a cluster or a pool.
type section struct {
	whose string // defaults, cluster NAME or pool NAME
	scope Scope
	line  int
	given map[string][]value
	bad   map[string]bool // settings that were given and cannot be used
}

// reader reads a configuration file.
type reader struct {
	*findings
	settings map[string]Setting
	table    []Setting
}

// readSections reads a configuration file, and notes unknown keys and values of
// the wrong form. The values are parsed later.
func readSections(data []byte, table []Setting, wrong *findings) sections {
	r := reader{findings: wrong, settings: map[string]Setting{}}
	for _, s := range table {
		if s.Name != "name" { // the key of a cluster or pool
			r.table = append(r.table, s)
			r.settings[s.Name] = s
		}
	}
	root := parseYAML(data, wrong)
	if root == nil {
		return sections{}
	}
	return r.sections(root)
}

func (r reader) sections(root *yaml.Node) sections {
	all := sections{defaults: r.section("defaults", Everywhere, 0, &yaml.Node{Kind: yaml.MappingNode})}
	if !r.isMapping("", root, "defaults, clusters and pools") {
		return all
	}
	there := false
	for _, p := range r.pairs("", root) {
		switch p.key {
		case "defaults":
			if s := r.section(p.key, Everywhere, p.line, p.value); !p.again {
				all.defaults = s
			}
		case "clusters":
			there = true
			all.named = append(all.named, r.named(p, Clusters)...)
		case "pools":
			there = true
			all.named = append(all.named, r.named(p, Pools)...)
		default:
			meant := r.unknown("", p, []string{"defaults", "clusters", "pools"}, "; must be defaults, clusters or pools")
			there = there || meant == "clusters" || meant == "pools"
		}
	}
	if !there {
		r.wrong("", root.Line, "clusters", "missing; at least one cluster or pool is required")
	}
	return all
}

// named are the clusters of the file, or its pools.
func (r reader) named(p pair, scope Scope) []section {
	whose := p.key
	if isNull(p.value) || p.value.Kind == yaml.MappingNode && len(p.value.Content) == 0 {
		r.wrong("", p.line, whose, "empty; each %s has a name, with its settings indented below it", scope)
		return nil
	}
	if !r.isMapping(whose, p.value, "names, each with its settings below it") {
		return nil
	}
	var all []section
	for _, p := range r.pairs(whose, p.value) {
		_, isSetting := r.settings[p.key]
		if isSetting && p.value.Kind != yaml.MappingNode && !isNull(p.value) {
			r.wrong(whose, p.line, keyNamed(p.key), "is a setting; the name of its %s is missing above it", scope)
			continue
		}
		own := scope.String() + " " + p.key
		err := checkName(scope, p.key)
		if err != nil {
			own = fmt.Sprintf("%s %q", scope, clip(p.key))
			r.wrong(whose, p.line, keyNamed(p.key), "%v", err)
		}
		s := r.section(own, scope, p.line, p.value)
		s.given["name"] = []value{{text: p.key, line: p.line}}
		if err != nil || p.again {
			s.bad["name"] = true
		}
		all = append(all, s)
	}
	return all
}

func (r reader) section(whose string, scope Scope, line int, node *yaml.Node) section {
	s := section{whose: whose, scope: scope, line: line, given: map[string][]value{}, bad: map[string]bool{}}
	switch {
	case isNull(node):
		return s
	case !r.isMapping(whose, node, "settings with their values"):
		for _, one := range r.settings { // not known to be missing
			s.bad[one.Name] = s.bad[one.Name] || one.Required
		}
		return s
	}
	for _, p := range r.pairs(whose, node) {
		setting, known := r.settings[p.key]
		switch {
		case known && scope != Everywhere && !setting.appliesTo(scope):
			r.wrong(whose, p.line, keyNamed(p.key), "is a setting of a %s, and does not apply to a %s", setting.Only, scope)
		case known && scope != Everywhere && setting.Shared:
			r.wrong(whose, p.line, keyNamed(p.key), "is for all clusters and pools at once; move it into defaults")
		case known:
			values, ok := r.values(whose, setting, p)
			if p.again {
				continue
			}
			s.given[p.key] = values
			if !ok {
				s.bad[p.key] = true
			}
		case p.key == "name":
			r.wrong(whose, p.line, keyNamed(p.key), "the name of a %s is the key above its settings", scope)
		default:
			r.unknown(whose, p, r.namesOf(scope), "; pingover help settings lists them")
		}
	}
	return s
}

// namesOf are the names of the settings that apply.
func (r reader) namesOf(scope Scope) (names []string) {
	for _, s := range r.table {
		if scope == Everywhere || s.appliesTo(scope) {
			names = append(names, s.Name)
		}
	}
	return names
}

// onlyFlags are the flags that are no settings.
var onlyFlags = []string{"all", "dry-run", "every", "file", "for", "force", "json", "monitoring", "quiet", "send-mail", "send-test", "verbose"}

// unknown notes an unknown key, and returns the nearest known one.
func (r reader) unknown(whose string, p pair, known []string, otherwise string) (nearest string) {
	setting, isSetting := r.settings[p.key]
	switch nearest = Nearest(p.key, known); {
	case isSetting:
		r.wrong(whose, p.line, keyNamed(p.key), "is a setting; move it into defaults, or into a %s", setting.Only)
	case slices.Contains(onlyFlags, p.key):
		r.wrong(whose, p.line, keyNamed(p.key), "is only a flag, --%s", p.key)
	case nearest != "":
		r.wrong(whose, p.line, keyNamed(p.key), "unknown; did you mean %s?", nearest)
	default:
		r.wrong(whose, p.line, keyNamed(p.key), "unknown%s", otherwise)
	}
	return nearest
}

// values are the values of one setting. A list of one needs no brackets.
func (r reader) values(whose string, s Setting, p pair) (values []value, ok bool) {
	wrong := func(line int, format string, args ...any) {
		r.wrong(whose, line, p.key, format, args...)
		ok = false
	}
	ok = true
	nodes := []*yaml.Node{p.value}
	if p.value.Kind == yaml.SequenceNode && (s.Kind == List || s.Kind == Command) {
		nodes = p.value.Content
		if !r.isPlain(whose, p.key, p.value) {
			ok = false
		}
		if len(nodes) == 0 {
			wrong(p.value.Line, "an empty list; remove the key")
		}
	}
	for _, n := range nodes {
		text, form := n.Value, formOf(n)
		if n != p.value && n.Kind == yaml.SequenceNode {
			form = "a list within the list"
		}
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			text = strings.TrimSuffix(text, "\n")
		}
		switch {
		case !r.isPlain(whose, p.key, n):
			ok = false
		case n.Kind != yaml.ScalarNode && s.Kind == List:
			wrong(n.Line, "takes one value or a list of values, not %s", form)
		case n.Kind != yaml.ScalarNode && s.Kind == Command:
			wrong(n.Line, "takes a command line or a list of its words, not %s", form)
		case n.Kind != yaml.ScalarNode:
			wrong(n.Line, "takes one value, not %s", form)
		case isNull(n) && s.Required:
			wrong(n.Line, "a value is missing; every %s needs one", s.Only)
		case isNull(n):
			wrong(n.Line, "a value is missing; remove the key, or set it")
		case s.Kind != Command && strings.Contains(text, "\n"):
			wrong(n.Line, "must be on one line")
		default:
			values = append(values, value{text, n.Line})
		}
	}
	if !ok {
		return nil, false
	}
	if s.Kind == Command && p.value.Kind == yaml.SequenceNode {
		return []value{{commandLine(values), values[0].line}}, true
	}
	return values, true
}

// commandLine is the line that is split into these words again.
func commandLine(words []value) string {
	argv := make([]string, len(words))
	for i, w := range words {
		argv[i] = w.text
	}
	return proc.Line(argv)
}

// pair is a key and its value.
type pair struct {
	key   string
	line  int // of the key
	value *yaml.Node
	again bool // the key is there once more
}

// pairs are those of a mapping whose keys are words.
func (r reader) pairs(whose string, mapping *yaml.Node) []pair {
	var pairs []pair
	first := map[string]int{}
	for both := range slices.Chunk(mapping.Content, 2) {
		key, value := both[0], both[1]
		name := keyNamed(key.Value)
		switch {
		case !r.isPlain(whose, "", key):
		case key.Kind != yaml.ScalarNode:
			r.wrong(whose, key.Line, "", "a key must be a word, not %s", formOf(key))
		case key.Tag == "!!merge":
			r.wrong(whose, key.Line, name, "merge keys are not supported; put shared settings into defaults")
		case key.Value == "":
			r.wrong(whose, key.Line, "", "a key is missing")
		default:
			line, again := first[key.Value]
			if again {
				r.wrong(whose, key.Line, name, "duplicate of line %d", line)
			} else {
				first[key.Value] = key.Line
			}
			pairs = append(pairs, pair{key.Value, key.Line, value, again})
		}
	}
	return pairs
}

// isPlain reports whether a node has no alias, anchor or tag, and notes one.
func (r reader) isPlain(whose, what string, n *yaml.Node) bool {
	const instead = "; put shared settings into defaults"
	switch {
	case n.Kind == yaml.AliasNode:
		r.wrong(whose, n.Line, what, "aliases such as *%s are not supported"+instead, clip(n.Value))
	case n.Anchor != "":
		r.wrong(whose, n.Line, what, "anchors such as &%s are not supported"+instead, clip(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		r.wrong(whose, n.Line, what, "tags such as %q are not supported; text that begins with ! needs quotes", clip(n.Tag))
	default:
		return true
	}
	return false
}

// isMapping reports whether a node is a plain mapping, and notes anything else.
func (r reader) isMapping(whose string, n *yaml.Node, of string) bool {
	if !r.isPlain(whose, "", n) {
		return false
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(whose, n.Line, "", "must be %s, not %s", of, formOf(n))
		return false
	}
	return true
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Style == 0 && n.Anchor == ""
}

// formOf is what a node is, in words.
func formOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("the value %q", clip(n.Value))
}

func keyNamed(key string) string { return fmt.Sprintf("key %q", clip(key)) }

// clip shortens a text for an error.
func clip(text string) string {
	const most = 500
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
