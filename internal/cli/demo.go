package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"pingover/internal/demo"
	"pingover/internal/exit"
)

// demo is the command.
func (p Program) demo(c *cli.Context) (int, error) {
	if c.Args().Present() {
		return 0, usageError{"demo takes no names: it has a cluster of its own", ""}
	}
	err := p.Demo(c.Context)
	if lost, ok := errors.AsType[*fs.PathError](err); ok { // this program itself
		err = &demo.Error{Code: exit.Unavailable, Text: fmt.Sprintf("cannot run here: %v: /proc must be mounted", lost)}
	}
	if failed, ok := errors.AsType[*demo.Error](err); ok {
		if failed.Text != "" { // else printed by the process that ran it in namespaces
			errorf(p.Stderr, "demo: %s", failed.Text)
		}
		return failed.Code, nil
	}
	if err != nil && errors.Is(err, context.Cause(c.Context)) {
		return exit.Interrupted, nil
	}
	return 0, err
}
