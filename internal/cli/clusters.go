package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/run"
	"pingover/state"
)

// configVariable names the configuration file without --file.
const configVariable = "PINGOVER_CONFIG"

// configured are the tasks that this command line and the configuration
// file define: the one of --host, or else those of the file, or none.
func (p Program) configured(c *cli.Context, env config.Env) ([]Task, source, error) {
	return p.configuredWith(c, settings(c), env)
}

func (p Program) configuredWith(c *cli.Context, flags map[string][]string, env config.Env) ([]Task, source, error) {
	files := c.StringSlice("file")
	var none source
	switch {
	case len(files) > 1:
		return nil, none, givenTwice("file", files)
	case len(files) == 1 && files[0] == "":
		return nil, none, usageError{"--file: a value is missing", ""}
	case c.IsSet("host") && len(files) > 0:
		return nil, none, usageError{"--host and --file exclude each other: --host defines a cluster, --file names the file that does", ""}
	case c.IsSet("host"):
		cluster, err := config.FromFlags(flags, env)
		return []Task{p.task(cluster)}, none, err
	}
	path, named := p.File, false
	if variable := p.Env.Getenv(configVariable); variable != "" {
		path, named = variable, true
	}
	if len(files) > 0 {
		path, named = files[0], true
	}
	if path == "" {
		return nil, none, nil
	}
	src := source{path: absolute(path)}
	data, err := config.ReadFile(path, p.Env.Root)
	absent := errors.Is(err, fs.ErrNotExist) || err == nil && config.Empty(data) // as the packages install it
	switch {
	case absent && !named && !p.isKept(c, src):
		return nil, none, nil
	case err != nil:
		return nil, src, err
	}
	src.text = data
	file, err := config.FromFile(path, data, flags, env, namesIn(c)...)
	return p.tasks(file), src, err
}

// isKept reports whether the file was valid once, and now is missing or empty: a
// copy of it is kept, or a cluster of it holds something.
func (p Program) isKept(c *cli.Context, src source) bool {
	dir, err := config.StateDir(settings(c), p.Env)
	if err != nil {
		return false
	}
	kept, _ := state.Dir(dir).ValidConfig(src.path)
	recorded, _ := recordedOnly(dir, nil)
	return kept.Text != "" || slices.ContainsFunc(recorded, func(t Task) bool {
		rec, err := t.record()
		return t.Kind == state.OfCluster && err == nil && rec.Origin == src.path && rec.Role != state.Standby
	})
}

// namesIn are the clusters and pools that a command line names; after that of the
// pool, drain and undrain take members.
func namesIn(c *cli.Context) []string {
	names := c.Args().Slice()
	if c.Command.Name == drainCommand || c.Command.Name == undrainCommand {
		names = names[:min(1, len(names))]
	}
	return names
}

// pick are the tasks of these names, in the order of all; without names all.
func pick(all []Task, names []string) ([]Task, error) {
	if err := areKnown(names, namesOf(all)...); err != nil || len(names) == 0 {
		return all, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(t Task) bool { return !slices.Contains(names, t.Name) }), nil
}

func namesOf(tasks []Task) []string {
	names := make([]string, len(tasks))
	for i, t := range tasks {
		names[i] = t.Name
	}
	return names
}

// areKnown checks that all names are among the known ones.
func areKnown(names []string, known ...string) error {
	for _, name := range names {
		if !slices.Contains(known, name) {
			return usageError{fmt.Sprintf("%q: no such cluster; %s", name, listed(known)), meant("", name, known, "")}
		}
	}
	return nil
}

// listed are the names of the known clusters, at least one.
func listed(known []string) string {
	const most = 10
	if len(known) > most {
		return fmt.Sprintf("known: %s and %d more", strings.Join(known[:most], ", "), len(known)-most)
	}
	return "known: " + strings.Join(known, ", ")
}

// recall makes a task from the state directory and the flags.
type recall func(t Task, flags map[string][]string) (Task, error)

// named is a task of which only the name is needed, so that it works with a
// corrupt record too.
func named(t Task, _ map[string][]string) (Task, error) { return t, nil }

// chosen are the tasks that a manual operation is for: those that are named,
// or all, of the configured ones or else of those that have a record. A file
// that cannot be used is reported, and the records are enough.
func (p Program) chosen(c *cli.Context, all bool, recall recall) ([]Task, error) {
	names := namesIn(c)
	if c.Bool("all") && (c.IsSet("host") || len(names) > 0) {
		return nil, usageError{"--all excludes names and --host", ""}
	}
	if !c.IsSet("host") && c.IsSet("name") { // as for the check that flags define
		names = slices.Concat(c.StringSlice("name"), names)
	}
	flags := settings(c)
	if !c.IsSet("host") {
		delete(flags, "name")
	}
	dir, err := config.StateDir(flags, p.Env)
	if err != nil {
		return nil, err
	}
	if c.IsSet("host") && !c.IsSet("vip") {
		if name, err := p.recordedFor(c, dir); name != "" || err != nil {
			if err != nil {
				return nil, err
			}
			if err := areKnown(names, name); err != nil {
				return nil, err
			}
			t, err := recall(recordedTask(dir, name, state.OfCluster), flags)
			return []Task{t}, err
		}
	}
	configured, src, err := p.configuredWith(c, flags, p.Env)
	broken := err
	if p.unusable(c, &src, err) {
		configured, err = nil, nil
		if src.dir != "" {
			dir = string(src.dir)
		}
	}
	if err != nil {
		return nil, err
	}
	known := configured
	if !c.IsSet("host") {
		// Beside those of the file there may be crontab lines with flags.
		recorded, err := recordedOnly(dir, configured)
		if err != nil && len(configured) == 0 {
			return nil, err
		}
		if len(configured) == 0 || len(names) > 0 {
			known = slices.Concat(known, recorded)
		}
	}
	switch {
	case len(known) == 0 && broken != nil:
		return nil, broken
	case len(known) == 0:
		return nil, noCluster(dir)
	case len(names) == 0 && !all && len(known) > 1:
		return nil, usageError{"a name or --all is missing; " + listed(namesOf(known)), ""}
	}
	tasks, err := pick(known, names)
	if err == nil && !src.usable() {
		for _, text := range src.texts() {
			errorf(p.Stderr, "%s", text)
		}
		errorf(p.Stderr, "%s cannot be used; going on with the settings of the last check", src.path)
	}
	for i, t := range tasks {
		if t.Given || err != nil {
			continue
		}
		tasks[i], err = recall(t, flags)
	}
	return tasks, err
}

// recordedFor is the name of the cluster whose record has the virtual IPs of a
// command line with --host and without --vip: the one of that name, or else the
// one of that host that holds something; "" for none.
func (p Program) recordedFor(c *cli.Context, dir string) (string, error) {
	defined, err := config.FromFlags(settings(c), p.Env)
	if err != nil {
		return "", nil // the error is reported where the cluster is needed
	}
	known, err := recordedIn(dir)
	if err != nil {
		return "", nil
	}
	var same []string
	for _, r := range known {
		rec, err := state.Dir(dir).Load(r.Name, false)
		switch {
		case err != nil || len(setIn(rec)) == 0:
		case r.Name == defined.Name:
			return r.Name, nil
		case rec.Host == defined.Host && rec.Role != state.Standby && !c.IsSet("name"):
			same = append(same, r.Name)
		}
	}
	switch {
	case len(same) == 0:
		return "", nil
	case len(same) > 1:
		return "", usageError{fmt.Sprintf("several clusters have the host %q; %s", defined.Host, listed(same)), "name one of them"}
	}
	return same[0], nil
}

// observed are the tasks that a command which only reads is for, and, if some
// are configured, all that have a record and are not. A user without records
// sees those of root; what cannot be read for lack of permission is left out. So
// is a file that cannot be used: its last valid copy, or else the records, are
// enough.
func (p Program) observed(c *cli.Context) (tasks, unset []Task, src source, err error) {
	env := p.Env
	dir, err := config.StateDir(settings(c), env)
	if !c.IsSet("state-dir") && !env.Root {
		known, unread := state.Dir(dir).Recorded()
		if err != nil || len(known) == 0 && (unread == nil || errors.Is(unread, fs.ErrPermission)) { // as under su, which keeps root's HOME
			env.Root = true
			dir, err = config.StateDir(nil, env)
		}
	}
	if err != nil {
		return nil, nil, src, err
	}
	configured, src, broken := p.configured(c, env)
	forbidden := errors.Is(broken, fs.ErrPermission)
	if broken != nil && !forbidden {
		if !p.unusable(c, &src, broken) {
			return nil, nil, src, broken
		}
		if src.dir != "" {
			dir = string(src.dir)
		}
		if configured, err = p.fromCopy(c, src); err != nil {
			return nil, nil, src, err
		}
	}
	recorded, err := recordedOnly(dir, configured)
	switch {
	case len(configured) > 0 && !c.Args().Present():
		return configured, recorded, src, nil
	case len(configured) > 0:
		unset = recorded
	case err != nil:
		return nil, nil, src, err
	case len(recorded) == 0 && broken != nil:
		return nil, nil, src, broken
	case len(recorded) == 0:
		return nil, nil, src, noCluster(dir)
	}
	tasks, err = pick(slices.Concat(configured, recorded), namesIn(c))
	return tasks, unset, src, err
}

// recordedOnly are the tasks that are not configured and have a record in dir
// or in the state directory of a configured one: a name and that directory. The
// error tells why not all directories could be read.
func recordedOnly(dir string, configured []Task) (tasks []Task, err error) {
	dirs := []string{dir}
	known := map[string]bool{}
	for _, t := range configured {
		known[t.Name] = true
		if dir := string(t.StateDir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		recorded, unread := recordedIn(dir)
		err = cmp.Or(err, unread)
		for _, r := range recorded {
			if !known[r.Name] {
				known[r.Name] = true
				tasks = append(tasks, recordedTask(dir, r.Name, r.Kind))
			}
		}
	}
	return tasks, err
}

// recordedIn is what has a record in a directory.
func recordedIn(dir string) ([]state.Recorded, error) {
	known, err := state.Dir(dir).Recorded()
	if len(known) == 0 && err == nil {
		if _, e := os.ReadDir(dir); errors.Is(e, syscall.ENOTDIR) {
			err = fmt.Errorf("%s: not a directory", dir)
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &run.Error{Code: exit.Permission, Text: err.Error()}
	case err != nil:
		return nil, &run.Error{Code: exit.Config, Text: err.Error()}
	}
	return known, nil
}

func noCluster(dir string) error {
	return usageError{
		"no cluster is known in " + dir,
		"run a check first, or give --host and the other flags of the check",
	}
}
