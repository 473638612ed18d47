package config

import "path/filepath"

// StateDir is the state directory of these flags, as for FromFlags, or else the
// default; no cluster has to be given. The error is nil or Problems.
func StateDir(values map[string][]string, env Env) (string, error) {
	d := newDraft(env, Settings(), fromFlags(values))
	for _, s := range d.table {
		if s.Name == "state-dir" {
			d.parse(s)
		}
	}
	d.completeStateDir()
	return d.StateDir, d.err()
}

// completeStateDir is the default directory; for users other than root by the XDG
// Base Directory Specification, which ignores relative paths.
func (d *draft) completeStateDir() {
	if len(d.given["state-dir"]) > 0 {
		return
	}
	if d.env.Root {
		d.StateDir = "/var/lib/pingover"
		return
	}
	if dir := d.env.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		d.StateDir = filepath.Join(dir, "pingover")
		return
	}
	if home := d.env.Getenv("HOME"); filepath.IsAbs(home) {
		d.StateDir = filepath.Join(home, ".local/state/pingover")
		return
	}
	d.wrong("state-dir", 0, "missing, and HOME is not set")
}
