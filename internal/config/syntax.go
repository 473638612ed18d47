package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML is the one document of a file, or nil after noting the error.
func parseYAML(data []byte, wrong *findings) *yaml.Node {
	if line, why := notText(data); why != "" {
		wrong.wrong("", line, "", "%s", why)
		return nil
	}
	document, second, err := load(data)
	if err != nil {
		line, text := syntaxError(data, err)
		wrong.wrong("", line, "", "not YAML: %s", text)
		return nil
	}
	if isEmpty(document) {
		wrong.wrong("", 1, "", "empty; at least one cluster or pool is required")
		return nil
	}
	if second != nil {
		wrong.wrong("", second.Line, "", "a second document begins here; remove the line ---")
	}
	return document.Content[0]
}

// Empty reports whether a configuration file has nothing but blanks and comments, as
// the one of the packages.
func Empty(data []byte) bool {
	document, second, err := load(bytes.TrimPrefix(data, []byte(byteOrderMark)))
	return err == nil && second == nil && isEmpty(document)
}

func isEmpty(document *yaml.Node) bool { return document == nil || isNull(document.Content[0]) }

// notText checks that data is text: the error and its line.
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
		case unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\ufeff': // some end a line only in YAML
			return line, fmt.Sprintf("not text: it contains the character %U", r)
		}
		i += size
	}
	return 0, ""
}

// byteOrderMark is written by some editors.
const byteOrderMark = "\ufeff"

// load parses data, which should be one document; second is nil if it is.
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

// syntaxError is the message of the YAML parser, and the line where it failed:
// the first one up to which the file gives the same error.
func syntaxError(data []byte, err error) (line int, text string) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	at := sort.Search(len(lines)-1, func(i int) bool {
		_, _, early := load(bytes.Join(lines[:i+1], nil))
		return early != nil && early.Error() == err.Error()
	})
	// The line that the parser names is where the block began that it could not finish.
	text = regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
	if before, _, tab := bytes.Cut(lines[at], []byte("\t")); tab && len(bytes.TrimSpace(before)) == 0 {
		text = "a tab at the beginning of the line; YAML wants spaces"
	}
	return at + 1, text
}
