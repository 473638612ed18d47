package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/demo"
)

func TestHowADemoEnds(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want printed
	}{
		"as told":    {nil, printed{}},
		"cannot run": {&demo.Error{Code: 69, Text: "cannot run here: ip is missing"}, printed{Code: 69, Stderr: "pingover: demo: cannot run here: ip is missing\n"}},
		"no terminal": {
			&demo.Error{Code: 64, Text: "--step: input and output must be a terminal", Hint: "omit --step"},
			printed{Code: 64, Stderr: "pingover: demo: --step: input and output must be a terminal\nhint: omit --step\n"},
		},
		"told inside": {&demo.Error{Code: 70}, printed{Code: 70}},
		"without /proc": {
			&fs.PathError{Op: "readlink", Path: "/proc/self/exe", Err: syscall.ENOENT},
			printed{Code: 69, Stderr: "pingover: demo: cannot run here: readlink /proc/self/exe: no such file or directory: /proc must be mounted\n"},
		},
		"a bug": {errors.New("lost"), printed{Code: 70, Stderr: "pingover: internal error: lost\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := faked(nil)
			p.Demo = func(context.Context, demo.Options) error { return test.err }
			want(t, p.run("demo"), test.want)
		})
	}
}

func TestWhichDemo(t *testing.T) {
	for line, test := range map[string]struct {
		want   printed
		chosen *demo.Options
	}{
		"demo":              {chosen: &demo.Options{}},
		"demo --step":       {chosen: &demo.Options{Step: true}},
		"demo pools":        {chosen: &demo.Options{Pools: true}},
		"demo pools --step": {chosen: &demo.Options{Pools: true, Step: true}},
		"demo web": {want: printed{Code: 64, Stderr: `pingover: demo "web": must be pools or nothing` + "\n" +
			"hint: the demo has a cluster of its own; see pingover help demo\n"}},
		"demo pools pools": {want: printed{Code: 64, Stderr: `pingover: demo "pools pools": must be pools or nothing` + "\n" +
			"hint: the demo has a cluster of its own; see pingover help demo\n"}},
	} {
		t.Run(line, func(t *testing.T) {
			var chosen *demo.Options
			p := faked(nil)
			p.Demo = func(_ context.Context, o demo.Options) error {
				chosen = &o
				return nil
			}
			want(t, p.run(strings.Fields(line)...), test.want)
			if diff := cmp.Diff(test.chosen, chosen); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
