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
func (p Program) configured(c *cli.Context, env config.Env) ([]config.Cluster, error) {
	flags, files := settings(c), c.StringSlice("file")
	switch {
	case len(files) > 1:
		return nil, givenTwice("file", files)
	case len(files) == 1 && files[0] == "":
		return nil, usageError{"--file: a value is missing", ""}
	case c.IsSet("host") && len(files) > 0:
		return nil, usageError{"--host and --file exclude each other: --host defines a cluster, --file names the file that does", ""}
	case c.IsSet("host"):
		cluster, err := config.FromFlags(flags, env)
		return []config.Cluster{cluster}, err
	}
	path, named := p.File, false
	if variable := p.Env.Getenv(configVariable); variable != "" {
		path, named = variable, true
	}
	if len(files) > 0 {
		path, named = files[0], true
	}
	if path == "" {
		return nil, nil
	}
	data, err := config.ReadFile(path, p.Env.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return config.FromFile(path, data, flags, env, c.Args().Slice()...)
}

// checked are the clusters that a check is for, and all that are configured.
func (p Program) checked(c *cli.Context) (chosen, all []config.Cluster, err error) {
	all, err = p.configured(c, p.Env)
	if err != nil {
		return nil, nil, err
	}
	if len(all) == 0 && c.Args().Present() {
		return nil, nil, usageError{
			fmt.Sprintf("%q: no such cluster: there is no %s, and no --host", c.Args().First(), p.File),
			"define the cluster by --host and other flags, or write " + p.File,
		}
	}
	if len(all) == 0 {
		_, err := config.FromFlags(settings(c), p.Env) // says what is missing
		return nil, nil, hinted{err, "such as pingover " + c.Command.Name + " --host 172.16.0.2 --vip 172.16.0.1, or write " + p.File}
	}
	chosen, err = pick(all, c.Args().Slice())
	return chosen, all, err
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
// or all, of the configured ones or else of those that have a record.
func (p Program) chosen(c *cli.Context, all bool, recall recall) ([]config.Cluster, error) {
	names := c.Args().Slice()
	switch {
	case c.Bool("all") && (c.IsSet("host") || len(names) > 0):
		return nil, usageError{"--all excludes names and --host", ""}
	case !c.IsSet("host") && c.IsSet("name"):
		return nil, usageError{
			"--name: only together with --host",
			fmt.Sprintf("name the cluster: pingover %s %s", c.Command.Name, c.StringSlice("name")[0]),
		}
	}
	configured, err := p.configured(c, p.Env)
	if err != nil {
		return nil, err
	}
	flags := settings(c)
	dir, err := config.StateDir(flags, p.Env)
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
	if len(known) == 0 {
		return nil, noCluster(dir)
	}
	if len(names) == 0 && !all && len(known) > 1 {
		return nil, usageError{"a name or --all is missing; " + listed(namesOf(known)), ""}
	}
	clusters, err := pick(known, names)
	for i, cluster := range clusters {
		if cluster.Host != "" || err != nil {
			continue
		}
		clusters[i], err = recall(cluster.StateDir, cluster.Name, flags)
	}
	return clusters, err
}

// observed are the clusters that a command which only reads is for, and, if some
// are configured, all that have a record and are not. A user without records
// sees those of root; what cannot be read for lack of permission is left out.
func (p Program) observed(c *cli.Context) (clusters, unset []config.Cluster, err error) {
	env := p.Env
	dir, err := config.StateDir(settings(c), env)
	if !c.IsSet("state-dir") && !env.Root {
		if known, e := state.Dir(dir).Clusters(); err != nil || e == nil && len(known) == 0 {
			env.Root = true
			dir, err = config.StateDir(nil, env)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	configured, forbidden := p.configured(c, env)
	if forbidden != nil && !errors.Is(forbidden, fs.ErrPermission) {
		return nil, nil, forbidden
	}
	recorded, err := recordedOnly(dir, configured)
	switch {
	case len(configured) > 0 && !c.Args().Present():
		return configured, recorded, nil
	case len(configured) > 0:
		unset = recorded
	case err != nil:
		return nil, nil, err
	case len(recorded) == 0 && forbidden != nil:
		return nil, nil, forbidden
	case len(recorded) == 0:
		return nil, nil, noCluster(dir)
	}
	clusters, err = pick(slices.Concat(configured, recorded), c.Args().Slice())
	return clusters, unset, err
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
