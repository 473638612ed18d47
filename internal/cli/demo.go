package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pingover/internal/demo"
	"pingover/internal/exit"
)

// demoPools is the operand that asks for the demo of a pool.
const demoPools = "pools"

// demo is the command.
func (p Program) demo(c *cli.Context) (int, error) {
	args := c.Args().Slice()
	pools := slices.Equal(args, []string{demoPools})
	if len(args) > 0 && !pools {
		return 0, usageError{fmt.Sprintf("demo %q: must be %s or nothing", strings.Join(args, " "), demoPools), "the demo has a cluster of its own; see pingover help demo"}
	}
	err := p.Demo(c.Context, demo.Options{Pools: pools, Step: c.Bool("step")})
	if lost, ok := errors.AsType[*fs.PathError](err); ok { // this program itself
		err = &demo.Error{Code: exit.Unavailable, Text: fmt.Sprintf("cannot run here: %v: /proc must be mounted", lost)}
	}
	if failed, ok := errors.AsType[*demo.Error](err); ok {
		if failed.Text != "" { // else printed by the process that ran it in namespaces
			errorf(p.Stderr, "demo: %s", failed.Text)
			hintf(p.Stderr, failed.Hint)
		}
		return failed.Code, nil
	}
	if err != nil && errors.Is(err, context.Cause(c.Context)) {
		return exit.Interrupted, nil
	}
	return 0, err
}
