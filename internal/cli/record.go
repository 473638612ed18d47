package cli

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
)

// recalled is a cluster as it was last checked, but for what flags say.
func (p Program) recalled(dir, name string, flags map[string][]string) (config.Cluster, error) {
	values, err := lastSettings(dir, name)
	if err != nil {
		return config.Cluster{}, err
	}
	values = maps.Clone(values)
	maps.Copy(values, flags)
	values["name"], values["state-dir"] = []string{name}, []string{dir}
	cluster, err := config.FromFlags(values, p.Env)
	if err != nil {
		err = hinted{err, fmt.Sprintf("what is not given here is as the last check of %s had it", name)}
	}
	return cluster, err
}

// recordOf is the record of a cluster. That of another host is none.
func recordOf(c config.Cluster) (*state.Record, error) {
	rec, err := state.Dir(c.StateDir).Load(c.Name, false)
	if err == nil && c.Host != "" && rec.Host != "" && rec.Host != c.Host {
		err = fmt.Errorf("the record is of host %q", rec.Host)
	}
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// setIn are the virtual IPs that were configured at the last check. What is left
// behind of earlier ones stands in the record beside them.
func setIn(rec *state.Record) []netip.Prefix {
	set := []netip.Prefix{}
	for _, a := range rec.VIPs {
		if rec.Settings == nil || slices.ContainsFunc(rec.Settings["vip"], func(text string) bool {
			text, _, _ = strings.Cut(text, "@")
			text, _, _ = strings.Cut(text, "/")
			addr, err := netip.ParseAddr(text)
			return err == nil && addr == a.Prefix.Addr()
		}) {
			set = append(set, a.Prefix)
		}
	}
	return set
}

// lastSettings are the settings in the record of a cluster. They name commands
// to run: a record that somebody else could have written is refused.
func lastSettings(dir, name string) (map[string][]string, error) {
	refused := func(hint, format string, args ...any) error {
		return &failover.Error{Code: codeSettings, Text: name + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	const anew = "give --host and the other flags of its check, or wait for that: it writes the record anew"

	if err := state.Dir(dir).Foreign(name); err != nil {
		return nil, refused("remove it, or choose another --state-dir", "%v", err)
	}
	path := filepath.Join(dir, name+".json")
	// What is looked at is what is read, whoever puts another file there
	// meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, refused(anew, "the record cannot be read: %v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, refused(anew, "the record cannot be read: %v", err)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case owner != 0 && owner != os.Geteuid():
		return nil, refused(
			fmt.Sprintf("when you know what is in it: chown %d %s", os.Geteuid(), path),
			"%s belongs to user %d; it names commands to run, and is not believed", path, owner)
	case info.Mode().Perm()&0o022 != 0:
		return nil, refused(
			"when you know what is in it: chmod go-w "+path,
			"%s can be written to by others; it names commands to run, and is not believed", path)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, refused(anew, "the record cannot be read: %v", err)
	}
	rec, err := state.Parse(data)
	switch {
	case err != nil:
		return nil, refused(anew, "%s is broken (%v)", path, err)
	case rec.Name != name:
		return nil, refused(anew, "%s is broken (it is the record of %q)", path, rec.Name)
	case len(rec.Settings) == 0:
		return nil, refused(anew, "%s has no settings in it", path)
	}
	return rec.Settings, nil
}
