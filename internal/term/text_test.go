package term

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// rows are a table as status shows it.
func rows() [][]string {
	return [][]string{
		{"CLUSTER", "PRIMARY", "VIP", "SERVED BY", "SINCE", "LAST CHECK"},
		{"web", "172.16.0.2", "172.16.0.1", "standby", "2026-03-01 09:00", "34s ago: holding"},
		{"", "", "2001:db8::5", "?", "", ""},
		{"a.very.long.name.that.somebody.chose", "172.16.0.3", "172.16.0.5", "primary", "-", "12m ago: takeover-failed"},
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	for columns, want := range map[int]string{
		0: `CLUSTER                               PRIMARY     VIP          SERVED BY  SINCE             LAST CHECK
web                                   172.16.0.2  172.16.0.1   standby    2026-03-01 09:00  34s ago: holding
                                                  2001:db8::5  ?
a.very.long.name.that.somebody.chose  172.16.0.3  172.16.0.5   primary    -                 12m ago: takeover-failed
`,
		80: `CLUSTER  VIP          SERVED BY  SINCE             LAST CHECK
web      172.16.0.1   standby    2026-03-01 09:00  34s ago: holding
         2001:db8::5  ?
a.very.long.name.that.somebody.chose
         172.16.0.5   primary    -                 12m ago: takeover-failed
`,
		50: `CLUSTER  VIP          LAST CHECK
web      172.16.0.1   34s ago: holding
         2001:db8::5
a.very.long.name.that.somebody.chose
         172.16.0.5   12m ago: takeover-failed
`,
		40: `CLUSTER  VIP          LAST CHECK
web      172.16.0.1   34s ago: holding
         2001:db8::5
a.very.long.name.that.somebody.chose
         172.16.0.5
    12m ago: takeover-failed
`,
	} {
		some, _ := Narrow(rows(), columns, "PRIMARY", "SINCE", "SERVED BY")
		if diff := cmp.Diff(want, strings.Join(Table(some, columns, nil), "\n")+"\n"); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", columns, diff)
		}
	}
}

// No line is wider than any terminal, and none panics.
func TestTableOfAnyWidth(t *testing.T) {
	for columns := 1; columns < 130; columns++ {
		some, left := Narrow(rows(), columns, "PRIMARY", "SINCE", "SERVED BY")
		if (columns < 87) != (len(left) > 0) {
			t.Errorf("%d columns: left out %v", columns, left)
		}
		for line := range strings.Lines(strings.Join(Table(some, columns, nil), "\n")) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); columns >= 36 && n > columns {
				t.Errorf("%d columns: %q has %d", columns, line, n)
			}
		}
	}
}

func TestColumnsBreakBetweenWords(t *testing.T) {
	for _, tt := range []struct {
		columns, indent   int
		left, right, want string
	}{
		{20, 6, "warn", "so many words that do not fit", "warn  so many words\n      that do not\n      fit\n"},
		{20, 6, "a-long-name", "and its words", "a-long-name and its\n      words\n"},
		{20, 15, "name", "an indent of most of the terminal", "name an indent of\n    most of the\n    terminal\n"},
		{20, 0, "", "not indented, with no word on the left", "not indented, with\nno word on the left\n"},
		{20, 4, "", "/a/word/that/is/longer/than/the/line", "    /a/word/that/is/longer/than/the/line\n"},
		{20, 4, "name", "", "name\n"},
	} {
		var b strings.Builder
		Columns(&b, tt.columns, tt.indent, tt.left, tt.right)
		if diff := cmp.Diff(tt.want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", fmt.Sprintf("%q %q", tt.left, tt.right), diff)
		}
	}
}
