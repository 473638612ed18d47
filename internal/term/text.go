// Package term is what a terminal shows: printable text, lines that fit,
// colours, and one line at the bottom that is drawn again and again.
package term

import (
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Page is the number of columns that text is broken at where no terminal is
// narrower.
const Page = 80

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

// Columns writes left and, from column indent on, right, broken between words at
// so many columns.
func Columns(b *strings.Builder, columns, indent int, left, right string) {
	if indent > columns/2 {
		indent = min(4, columns/4)
	}
	line := left
	for _, word := range strings.Fields(right) {
		switch n := utf8.RuneCountInString(line); {
		case n < indent:
			line += strings.Repeat(" ", indent-n) + word
		case n == 0:
			line = word
		case n > indent && n+1+utf8.RuneCountInString(word) > columns:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", indent) + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}

// cellWidth is the width of a cell that has an outcome and its time, such as "12s
// ago: takeover-failed". With less room a cell is not cut, and longer ones do not
// move the columns of others.
const cellWidth = 24

// Table is rows in aligned columns, two blanks apart. On a terminal of that many
// columns (0: none) it fits: the last cell of a row is cut, or on a line of its own
// where too little of it would be left; a cell of more than 24 characters ends its
// line where the table would be too wide. Paint gives a cell its colour; nil: it has
// none. Each element is a row, of one line or more.
func Table(rows [][]string, columns int, paint func(row, column int, cell string) string) (lines []string) {
	widths := widthsOf(rows, math.MaxInt)
	if columns > 0 && total(widths) > columns {
		widths = widthsOf(rows, cellWidth)
	}
	for n, row := range rows {
		var b strings.Builder
		at, start, last := 0, 0, len(row)-1
		for i, cell := range row {
			if i == last && columns > 0 && cell != "" {
				if room := columns - start; room < min(cellWidth, utf8.RuneCountInString(cell)) {
					b.WriteString("\n")
					at, start = 0, min(4, columns/4)
				}
				cell = cut(cell, columns-start)
			}
			if width := utf8.RuneCountInString(cell); width > 0 {
				b.WriteString(strings.Repeat(" ", start-at))
				at = start + width
				if paint != nil {
					cell = paint(n, i, cell)
				}
				b.WriteString(cell)
			}
			start += widths[i] + 2
			if i < last && at+2 > start {
				b.WriteString("\n")
				at = 0
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

// Narrow leaves columns out until the table fits on a terminal of that many columns
// (0: none): of the optional ones the first that still is there, and says which.
func Narrow(rows [][]string, columns int, optional ...string) (_ [][]string, left []string) {
	for _, name := range optional {
		widths := widthsOf(rows, cellWidth)
		if columns == 0 || total(widths) <= columns {
			break
		}
		at := slices.Index(rows[0], name)
		for i, row := range rows {
			rows[i] = slices.Delete(slices.Clone(row), at, at+1)
		}
		left = append(left, name)
	}
	return rows, left
}

// widthsOf are the widths of the columns, without the cells that are longer than most.
func widthsOf(rows [][]string, most int) (widths []int) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if n := utf8.RuneCountInString(cell); n <= most {
				widths[i] = max(widths[i], n)
			}
		}
	}
	return widths
}

// total is the width of a table with columns of these widths.
func total(widths []int) (n int) {
	for _, width := range widths {
		n += width + 2
	}
	return n - 2
}

// cut is the beginning of text that fits into so many columns.
func cut(text string, columns int) string {
	runes := []rune(text)
	if len(runes) <= columns {
		return text
	}
	return string(runes[:max(0, columns-1)]) + "…"
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

// Size is the number of columns and rows of a terminal, 0 where f is none, and rows
// where it does not know.
func Size(f *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0, 0
	case size.Col == 0: // a serial line does not know
		return Page, 0
	}
	return int(size.Col), int(size.Row)
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
