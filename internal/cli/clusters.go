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

// configured are the clusters that this command line and the configuration
// file define: the one of --host, or else those of the file, or none.
func (p Program) configured(c *cli.Context, env config.Env) ([]config.Cluster, source, error) {
	return p.configuredWith(c, settings(c), env)
}

func (p Program) configuredWith(c *cli.Context, flags map[string][]string, env config.Env) ([]config.Cluster, source, error) {
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
		return []config.Cluster{cluster}, none, err
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
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named && !p.isKept(c, src):
		return nil, none, nil
	case err != nil:
		return nil, src, err
	}
	src.text = data
	file, err := config.FromFile(path, data, flags, env, c.Args().Slice()...)
	clusters := file.Clusters
	return clusters, src, err
}

// isKept reports whether a copy of the file is kept: it was there, and is
// missing.
func (p Program) isKept(c *cli.Context, src source) bool {
	dir, err := config.StateDir(settings(c), p.Env)
	if err != nil {
		return false
	}
	kept, _ := state.Dir(dir).ValidConfig(src.path)
	return kept.Text != ""
}

// pick are the clusters of these names, in the order of all; without names all.
func pick(all []config.Cluster, names []string) ([]config.Cluster, error) {
	if err := areKnown(names, namesOf(all)...); err != nil || len(names) == 0 {
		return all, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(c config.Cluster) bool { return !slices.Contains(names, c.Name) }), nil
}

func namesOf(clusters []config.Cluster) []string {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
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
	switch {
	case len(known) == 1:
		return "known is " + known[0]
	case len(known) > most:
		return fmt.Sprintf("known are %s and %d more", strings.Join(known[:most], ", "), len(known)-most)
	}
	return "known are " + strings.Join(known, ", ")
}

// recall makes a cluster from the state directory and the flags.
type recall func(dir, name string, flags map[string][]string) (config.Cluster, error)

// named is a cluster of which only the name is needed, so that it works with a
// corrupt record too.
func named(dir, name string, _ map[string][]string) (config.Cluster, error) {
	return config.Cluster{Name: name, StateDir: dir}, nil
}

// chosen are the clusters that a manual operation is for: those that are named,
// or all, of the configured ones or else of those that have a record. A file
// that cannot be used is reported, and the records are enough.
func (p Program) chosen(c *cli.Context, all bool, recall recall) ([]config.Cluster, error) {
	names := c.Args().Slice()
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
			cluster, err := recall(dir, name, flags)
			return []config.Cluster{cluster}, err
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
	clusters, err := pick(known, names)
	if err == nil && !src.usable() {
		for _, text := range src.texts() {
			errorf(p.Stderr, "%s", text)
		}
		errorf(p.Stderr, "%s cannot be used; going on with the settings of the last check", src.path)
	}
	for i, cluster := range clusters {
		if cluster.Host != "" || err != nil {
			continue
		}
		clusters[i], err = recall(cluster.StateDir, cluster.Name, flags)
	}
	return clusters, err
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
	for _, name := range known {
		rec, err := state.Dir(dir).Load(name, false)
		switch {
		case err != nil || len(setIn(rec)) == 0:
		case name == defined.Name:
			return name, nil
		case rec.Host == defined.Host && rec.Role != state.Standby && !c.IsSet("name"):
			same = append(same, name)
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

// observed are the clusters that a command which only reads is for, and, if some
// are configured, all that have a record and are not. A user without records
// sees those of root; what cannot be read for lack of permission is left out. So
// is a file that cannot be used: its last valid copy, or else the records, are
// enough.
func (p Program) observed(c *cli.Context) (clusters, unset []config.Cluster, src source, err error) {
	env := p.Env
	dir, err := config.StateDir(settings(c), env)
	if !c.IsSet("state-dir") && !env.Root {
		if known, e := state.Dir(dir).Clusters(); err != nil || e == nil && len(known) == 0 {
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
	clusters, err = pick(slices.Concat(configured, recorded), c.Args().Slice())
	return clusters, unset, src, err
}

// recordedOnly are the clusters that are not configured and have a record in dir
// or in the state directory of a configured one: a name and that directory. The
// error tells why not all directories could be read.
func recordedOnly(dir string, configured []config.Cluster) (clusters []config.Cluster, err error) {
	dirs := []string{dir}
	known := map[string]bool{}
	for _, c := range configured {
		known[c.Name] = true
		if !slices.Contains(dirs, c.StateDir) {
			dirs = append(dirs, c.StateDir)
		}
	}
	for _, dir := range dirs {
		names, unread := recordedIn(dir)
		err = cmp.Or(err, unread)
		for _, name := range names {
			if !known[name] {
				known[name] = true
				clusters = append(clusters, config.Cluster{Name: name, StateDir: dir})
			}
		}
	}
	return clusters, err
}

// recordedIn are the clusters that have a record in a directory.
func recordedIn(dir string) ([]string, error) {
	known, err := state.Dir(dir).Clusters()
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
		"a cluster is known after its first check; before that, give --host and the other flags of its check",
	}
}
