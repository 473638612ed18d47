package cli

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"pingover/internal/demo"
)

func TestHowADemoEnds(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want printed
	}{
		"as told":     {nil, printed{}},
		"cannot run":  {&demo.Error{Code: 69, Text: "cannot run here: ip is missing"}, printed{Code: 69, Stderr: "pingover: demo: cannot run here: ip is missing\n"}},
		"told inside": {&demo.Error{Code: 70}, printed{Code: 70}},
		"without /proc": {
			&fs.PathError{Op: "readlink", Path: "/proc/self/exe", Err: syscall.ENOENT},
			printed{Code: 69, Stderr: "pingover: demo: cannot run here: readlink /proc/self/exe: no such file or directory: /proc must be mounted\n"},
		},
		"a bug": {errors.New("lost"), printed{Code: 70, Stderr: "pingover: internal error: lost\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := faked(nil)
			p.Demo = func(context.Context) error { return test.err }
			want(t, p.run("demo"), test.want)
		})
	}
}
