package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// forget is the command.
func (p Program) forget(c *cli.Context) (int, error) {
	names := c.Args().Slice()
	if len(names) == 0 {
		return 0, usageError{"the name of a cluster is missing", "see pingover status for the clusters that are known"}
	}
	configured, src, err := p.configured(c, p.Env)
	if p.unusable(c, &src, err) {
		broken := err
		if configured, err = p.fromCopy(c, src); err == nil && len(configured) == 0 && !errors.Is(broken, fs.ErrNotExist) {
			err = hinted{broken, "fix the file first: without a valid copy it is unknown which clusters it has"}
		}
	}
	if err != nil {
		return 0, err
	}
	for _, t := range configured {
		for _, name := range names {
			if t.Name == name {
				return 0, usageError{fmt.Sprintf("%q is configured in %s", name, src.path), "remove it there first"}
			}
		}
	}
	return p.each(c, false, func(out printer, t Task) ([]string, error) {
		waiting, text := 0, "deleted"
		err := failover.Forget(c.Context, t.cluster, failover.Options{OnEvent: out.event}, func() error {
			if pool, err := t.poolRecord(); t.Kind == state.OfPool && err == nil {
				waiting = len(pool.Outbox)
				if published := recordsOf(pool); len(published) > 0 {
					text += fmt.Sprintf("; %s keeps %s in DNS", strings.TrimSuffix(pool.DNSName, "."), addresses(published))
				}
				return nil
			}
			rec, err := t.record()
			if err != nil {
				return nil // it says nothing of what is held
			}
			kernel, err := vip.TakeSnapshot()
			if err != nil {
				return &run.Error{Code: state.Unknown.Code(), Text: fmt.Sprintf("the kernel cannot be asked for its addresses: %v", err)}
			}
			if held := (plan{all: configured}).heldOnly(rec, kernel); len(held) > 0 {
				return &run.Error{
					Code: state.Blocked.Code(), Text: fmt.Sprintf("not deleted: it holds %s", prefixes(held)),
					Hint: "pingover release " + t.Name + " first",
				}
			}
			waiting = len(rec.Outbox)
			return nil
		})
		if waiting > 0 {
			text += fmt.Sprintf(", with %s that had not been sent", count(waiting, "email"))
		}
		if err != nil {
			return nil, err
		}
		return []string{text}, nil
	})
}
