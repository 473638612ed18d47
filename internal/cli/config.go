package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/term"
)

// config is the command: it validates the file, and shows what is in effect. It
// asks nobody, and writes nothing.
func (p Program) config(c *cli.Context) (int, error) {
	if c.Bool("quiet") && c.Bool("json") {
		return 0, usageError{"--quiet and --json exclude each other", ""}
	}
	all, src, err := p.configured(c, p.Env)
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, p.undefined(c)
	}
	tasks, err := pick(all, namesIn(c))
	switch {
	case err != nil:
		return 0, err
	case c.Bool("quiet"):
		return 0, nil
	case c.Bool("json"):
		for _, t := range tasks {
			p.printRaw(jsonLine(effectiveSettings(t)))
		}
		return 0, nil
	}
	if src.path != "" {
		p.print(fmt.Sprintf("%s: valid, %s\n", src.path, tally(all)))
	}
	for _, t := range tasks {
		p.print("\n" + settingsText(t))
	}
	return 0, nil
}

// effective is a line of config --json. All keys are always there.
type effective struct {
	Version  int                         `json:"version"` // of this object: 1
	Cluster  string                      `json:"cluster"`
	Kind     string                      `json:"kind"` // cluster or pool
	Settings map[string]effectiveSetting `json:"settings"`
}

type effectiveSetting struct {
	Values []string `json:"values"` // in words where the default is no fixed value
	Origin string   `json:"origin"` // --interval, FILE:LINE or default
}

func effectiveSettings(t Task) effective {
	e := effective{Version: 1, Cluster: t.Name, Kind: t.Kind.String(), Settings: map[string]effectiveSetting{}}
	for _, o := range t.Origins() {
		e.Settings[o.Setting] = effectiveSetting{o.Values, o.From}
	}
	return e
}

// settingsText shows first what was set, with its origin, and then the defaults.
func settingsText(t Task) string {
	var b, defaults strings.Builder
	all, width := t.Origins(), 0
	for _, o := range all {
		if o.From != config.DefaultOrigin {
			width = max(width, utf8.RuneCountInString(valueText(o)))
		}
	}
	const most = 34 // longer values do not move the column of the origins
	for _, o := range all {
		if o.From == config.DefaultOrigin {
			term.Columns(&defaults, term.Page, settingIndent, "    "+o.Setting, valueText(o))
		} else {
			fmt.Fprintf(&b, "  %-18s  %-*s  %s\n", o.Setting, min(width, most), valueText(o), o.From)
		}
	}
	return t.Name + "\n" + b.String() + "  defaults\n" + defaults.String()
}

const settingIndent = 24

func valueText(o config.Origin) string { return term.Printable(strings.Join(o.Values, ", ")) }
