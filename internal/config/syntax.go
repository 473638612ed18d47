package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML is the one document of a file; nil where there is none, which is
// noted.
func parseYAML(data []byte, wrong *findings) *yaml.Node {
	if line, why := notText(data); why != "" {
		wrong.wrong("", line, "", "%s", why)
		return nil
	}
	document, second, err := load(data)
	if err != nil {
		line, text := whereBroken(data, err)
		wrong.wrong("", line, "", "not YAML: %s", inOurWords(err, text))
		return nil
	}
	if document == nil || isNull(document.Content[0]) {
		wrong.wrong("", 1, "", "empty; there must be at least one cluster in it")
		return nil
	}
	if second != nil {
		wrong.wrong("", second.Line, "", "a second document begins here, and there can be only one; leave --- out")
	}
	return document.Content[0]
}

// notText says what keeps data from being text, and in which line.
func notText(data []byte) (line int, why string) {
	line = 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return line, fmt.Sprintf("not text: the byte %#02x is not UTF-8", data[i])
		case r == '\n':
			line++
		case r == '\t' || r == '\r' && bytes.HasPrefix(data[i:], []byte("\r\n")):
		case unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\ufeff': // some of them are line ends to YAML alone
			return line, fmt.Sprintf("not text: it has the character %U in it", r)
		}
		i += size
	}
	return 0, ""
}

// load parses data, which should be one document. A second one is parsed as
// well, and nil where there is none.
func load(data []byte) (first, second *yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	next := func() (*yaml.Node, error) {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return &document, err
	}
	if first, err = next(); first != nil && err == nil {
		second, err = next()
	}
	return first, second, err
}

// whereBroken is the line in which the parser gave up, and its number. The
// parser itself says where that began of which it saw no end, with numbers
// that are sometimes one too small; but it says the same of the file up to
// that line as of all of it.
func whereBroken(data []byte, err error) (number int, line string) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	end := 0
	for i, line := range lines {
		end += len(line)
		ends[i] = end
	}
	i := sort.Search(len(lines)-1, func(i int) bool {
		_, _, early := load(data[:ends[i]])
		return early != nil && early.Error() == err.Error()
	})
	return i + 1, string(lines[i])
}

// inOurWords is what the YAML parser found wrong with a line.
func inOurWords(err error, line string) string {
	says := func(words string) bool { return strings.Contains(err.Error(), words) }
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	switch {
	case strings.Contains(indent, "\t"):
		return "a tab at the beginning of the line; YAML wants spaces"
	case says("mapping values are not allowed"):
		return "indented too far, or a value with a colon and a blank in it, which needs quotes, or no blank behind the colon in the line above"
	case says("did not find expected key"), says("did not find expected '-' indicator"), says("block sequence entries are not allowed"):
		return "indented differently from the lines that it belongs to, or text behind a closing quote or bracket"
	case says("could not find expected ':'"):
		return "neither a key with a colon and its value, nor - and a value"
	case says("cannot start any token"):
		return "a value that begins with @, % or ` needs quotes"
	case says("did not find expected ',' or ']'"), says("did not find expected ',' or '}'"), says("did not find expected node content"):
		return `a bracket is not closed, or something inside it needs quotes, as in ["::1"]`
	case says("found unexpected end of stream"):
		return "a quote is not closed"
	case says("did not find expected <document start>"):
		return "something stands behind the end of the document"
	case says("unknown anchor"):
		return "aliases are not for this file; text that begins with * needs quotes"
	}
	return libraryLine.ReplaceAllString(err.Error(), "")
}

// libraryLine is how errors of the YAML library begin.
var libraryLine = regexp.MustCompile(`^yaml: (line \d+: )?`)
