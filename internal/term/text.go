// Package term is what a terminal shows: printable text, lines that fit,
// colours, and one line at the bottom that is drawn again and again.
package term

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// width is the number of columns that text is broken at.
const width = 80

// Printable is text as one line of what can be printed, as it may be shown on a
// terminal and written to a log. Characters that control the terminal, break the
// line or change the direction of what follows are blanks.
func Printable(text string) string { return Plain(strings.TrimSpace(text)) }

// Plain is Printable, but with the blanks around the text.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// Columns writes left and, from column indent on, right, broken between words
// at 80 columns.
func Columns(b *strings.Builder, indent int, left, right string) {
	line := left
	for _, word := range strings.Fields(right) {
		switch n := utf8.RuneCountInString(line); {
		case n < indent:
			line += strings.Repeat(" ", indent-n) + word
		case n+1+utf8.RuneCountInString(word) > width:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", indent) + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}

// Table is rows in aligned columns, two blanks apart. On a terminal of that many
// columns the last cell of a row is cut to fit, unless almost nothing of it would be
// left: then the terminal breaks the line. 0: nothing is cut. Paint gives a cell its
// colour; nil: it has none.
func Table(rows [][]string, columns int, paint func(row, column int, cell string) string) (lines []string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		at, blanks := 0, 0
		for i, cell := range row {
			if room := columns - at - blanks; i == len(row)-1 && room >= leastCell {
				cell = cut(cell, room)
			}
			if cell == "" {
				blanks += widths[i] + 2
				continue
			}
			b.WriteString(strings.Repeat(" ", blanks))
			width := utf8.RuneCountInString(cell)
			at += blanks + width
			blanks = widths[i] - width + 2
			if paint != nil {
				cell = paint(n, i, cell)
			}
			b.WriteString(cell)
		}
		lines = append(lines, b.String())
	}
	return lines
}

// leastCell is how many columns of a cell say something: an outcome.
const leastCell = 10

// cut is the beginning of text that fits into so many columns, at least 1.
func cut(text string, columns int) string {
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	return string(runes[:columns-1]) + "…"
}

// UTF8 reports whether the locale is a UTF-8 one (locale(7)).
func UTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// ASCII is text as it is shown where the locale is not UTF-8.
func ASCII(text string) string {
	text = strings.NewReplacer("→", "->", "…", "...", "●", "*", "○", "o", "·", ".").Replace(text)
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, text)
}

// ASCIIWriter writes everything to w in ASCII. Each write has whole characters.
func ASCIIWriter(w io.Writer) io.Writer { return asciiWriter{w} }

type asciiWriter struct{ io.Writer }

func (a asciiWriter) Write(data []byte) (int, error) {
	_, err := io.WriteString(a.Writer, ASCII(string(data)))
	return len(data), err
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Width is the number of columns of a terminal, 0 where f is none.
func Width(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case size.Col == 0: // a serial line does not know
		return width
	}
	return int(size.Col)
}

// Redraws reports whether f is a terminal on which a line can be drawn again.
func Redraws(f *os.File, getenv func(string) string) bool {
	name := getenv("TERM")
	return IsTerminal(f) && name != "" && name != "dumb"
}

// Colors are the colours of a terminal, or none (no-color.org).
type Colors bool

// Bold is text in bold (ECMA-48: SGR).
func (c Colors) Bold(text string) string { return c.sgr("1", text) }

// Red is text in red.
func (c Colors) Red(text string) string { return c.sgr("31", text) }

// Green is text in green.
func (c Colors) Green(text string) string { return c.sgr("32", text) }

// Yellow is text in yellow.
func (c Colors) Yellow(text string) string { return c.sgr("33", text) }

func (c Colors) sgr(parameter, text string) string {
	if !c {
		return text
	}
	return "\033[" + parameter + "m" + text + "\033[0m"
}
