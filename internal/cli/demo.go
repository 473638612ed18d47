package cli

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"pingover/internal/demo"
)

// demo is the command.
func (p Program) demo(c *cli.Context) (int, error) {
	if c.Args().Present() {
		return 0, usageError{"the demo is of a cluster of its own: no name belongs here", ""}
	}
	err := p.Demo(c.Context)
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
