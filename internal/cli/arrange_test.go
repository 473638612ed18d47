package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArrange(t *testing.T) {
	tests := []struct{ name, line, want, err, hint string }{
		{name: "nothing", line: "", want: "pingover"},
		{name: "version", line: "--version", want: "pingover --version=true"},
		{name: "help", line: "--help", want: "pingover help"},
		{name: "short help", line: "-h", want: "pingover help"},
		{name: "help of a command", line: "check --help", want: "pingover help check"},
		{name: "short help after other flags", line: "check --host h web -h", want: "pingover help check"},
		{name: "no help after all", line: "check --help=false", want: "pingover check --"},
		{name: "the version and no command", line: "--version check", want: "pingover --version=true"},
		{name: "flags before the names", line: "check --count 5 web", want: "pingover check --count=5 -- web"},
		{name: "flags after the names", line: "check web --count 5 db", want: "pingover check --count=5 -- web db"},
		{name: "after -- all are names", line: "check --count 5 -- web --json -n --", want: "pingover check --count=5 -- web --json -n --"},
		{name: "a dash alone is a name", line: "check -", want: "pingover check -- -"},
		{name: "short flags", line: "check -c 5 -i=2s -W1s -I eth0", want: "pingover check --count=5 --interval=2s --timeout=1s --interface=eth0 --"},
		{name: "short flags together", line: "check -nvc5", want: "pingover check --dry-run=true --verbose=true --count=5 --"},
		{name: "short flags together with a value after it", line: "check -nc 5", want: "pingover check --dry-run=true --count=5 --"},
		{name: "one flag by two names", line: "check -c 5 --count 6", want: "pingover check --count=5 --count=6 --"},
		{name: "a value that looks like a flag", line: "check --count -1", want: "pingover check --count=-1 --"},
		{name: "a value with an equals sign", line: "check --mail-user=a=b", want: "pingover check --mail-user=a=b --"},
		{name: "an empty value", line: "check --label=", want: "pingover check --label= --"},
		{name: "a cluster called help", line: "check help", want: "pingover check -- help"},
		{name: "a cluster called like the command", line: "check check", want: "pingover check -- check"},
		{name: "-v is verbose", line: "check -v", want: "pingover check --verbose=true --"},
		{name: "a bare flag before a name", line: "check --dry-run web", want: "pingover check --dry-run=true -- web"},
		{name: "a bare flag with =false", line: "check --duplicate-check=false web", want: "pingover check --duplicate-check=false -- web"},
		{name: "a bare flag with false after it", line: "check --duplicate-check false web", want: "pingover check --duplicate-check=false -- web"},
		{name: "a short bare flag with false after it", line: "check -n false web", want: "pingover check --dry-run=false -- web"},
		{name: "short bare flags with =false", line: "check -vn=false web", want: "pingover check --verbose=true --dry-run=false -- web"},
		{name: "only the last of short flags takes true", line: "check -vn true", want: "pingover check --verbose=true --dry-run=true --"},

		{name: "an unknown command", line: "fence", err: `unknown command "fence"`, hint: "see pingover help"},
		{name: "a flag without its dashes", line: "version", err: `unknown command "version"`, hint: "did you mean --version?"},
		{name: "a mistyped command", line: "chekc", err: `unknown command "chekc"`, hint: "did you mean check?"},
		{name: "a flag before the command", line: "--host h check", err: `unknown flag "--host"`, hint: "flags of a command come after it"},
		{name: "-v is not the version", line: "-v", err: `unknown flag "-v"`, hint: "flags of a command come after it"},
		{name: "an unknown flag", line: "check --fence", err: `unknown flag "--fence"`, hint: "see pingover help check"},
		{name: "a mistyped flag", line: "check --intervall 3s", err: `unknown flag "--intervall"`, hint: "did you mean --interval?"},
		{name: "a mistyped flag with a value", line: "check --intervall=3s", err: `unknown flag "--intervall"`, hint: "did you mean --interval?"},
		{name: "a flag that is too short", line: "check --duplicate", err: `unknown flag "--duplicate"`, hint: "did you mean --duplicate-check?"},
		{name: "one dash too few", line: "check -interval 3s", err: `unknown flag "-interval"`, hint: "did you mean --interval?"},
		{name: "one dash too few, with a value", line: "check -interval=3s", err: `unknown flag "-interval"`, hint: "did you mean --interval?"},
		{name: "an unknown short flag", line: "check -x", err: `unknown flag "-x"`, hint: "see pingover help check"},
		{name: "an unknown short flag among others", line: "check -nxv", err: `unknown flag "-x"`, hint: "see pingover help check"},
		{name: "a short flag that is not printable", line: "check -n\xff", err: `unknown flag "-\xff"`, hint: "see pingover help check"},
		{name: "a mistyped flag after a name", line: "check web --jsno", err: `unknown flag "--jsno"`, hint: "did you mean --json?"},
		{name: "no value at the end", line: "check --interval", err: "--interval: a value is missing"},
		{name: "no value at the end of short flags", line: "check -nc", err: "--count: a value is missing"},
		{name: "neither true nor false", line: "check --dry-run=maybe", err: `--dry-run "maybe": must be true or false`},
		{name: "neither true nor false, short", line: "check -n=", err: `--dry-run "": must be true or false`},
		{name: "a completion flag of the library", line: "check --generate-bash-completion", err: `unknown flag "--generate-bash-completion"`, hint: "see pingover help check"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := arrange(strings.Fields(test.line), Program{}.commands())
			if test.err != "" {
				if diff := cmp.Diff(error(usageError{test.err, test.hint}), err, cmp.AllowUnexported(usageError{})); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Fields(test.want), got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
