package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"pingover/internal/demo"
)

const aboutDemo = `Four machines on a switch of their own, made of network namespaces: a takeover,
the letter about it and the way back, each step verified. It takes about 15
seconds, touches nothing of this machine, and leaves nothing behind.

It needs root, or a kernel that lets users make namespaces, and the tools ip
(Debian package iproute2), nsenter (util-linux), mount and hostname.
`

// demo is the command.
func (p Program) demo(c *cli.Context) (int, error) {
	if c.Args().Present() {
		return 0, usageError{"the demo is of a cluster of its own: no name belongs here", ""}
	}
	err := p.Demo(c.Context)
	if lost, ok := errors.AsType[*fs.PathError](err); ok { // this program, which it is to show
		err = &demo.Error{Code: demo.CodeCannot, Text: fmt.Sprintf("cannot run here: %v: /proc must be mounted", lost)}
	}
	if failed, ok := errors.AsType[*demo.Error](err); ok {
		if failed.Text != "" { // else told by the process that ran in our stead
			complain(p.Stderr, "demo: "+failed.Text)
		}
		return failed.Code, nil
	}
	if err != nil && errors.Is(err, context.Cause(c.Context)) {
		return Interrupted, nil
	}
	return 0, err
}
