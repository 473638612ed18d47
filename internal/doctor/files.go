package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pingover/internal/proc"
	"pingover/internal/run"
)

// leastRoom is what a record and the next one beside it may need, in bytes.
const leastRoom = 1 << 20

func (x *subject) stateDir() {
	const another = "fix that, or choose another state-dir"
	if err := x.dir.Foreign(x.name); err != nil {
		x.add(refusal(run.Foreign(err)))
	}
	dir := string(x.dir)
	there := nearest(dir)
	if info, err := os.Stat(there); err == nil && !info.IsDir() {
		x.fail(another, "state directory %s: not a directory", there)
		return
	}
	var disk unix.Statfs_t
	err := accessible(there, unix.W_OK|unix.X_OK)
	if err == nil {
		err = unix.Statfs(there, &disk)
	}
	if err != nil {
		x.fail(another, "state directory %s: %v", there, err)
		return
	}
	if text := shortOf(disk); text != "" {
		x.fail("make room, or choose another state-dir", "state directory %s: %s", there, text)
		return
	}
	if there != dir {
		x.good("state directory %s: will be made by the first check", dir)
		return
	}
	before := len(x.found)
	x.stateFile(dir, true)
	for _, name := range []string{x.name + ".json", x.name + ".lock", x.name + ".pause", "act.lock"} {
		x.stateFile(filepath.Join(dir, name), false)
	}
	if len(x.found) == before {
		x.good("state directory %s", dir)
	}
}

// stateFile is what is wrong with the state directory, or with a file in it.
func (x *subject) stateFile(path string, dir bool) {
	info, err := os.Lstat(path)
	switch {
	case err != nil, !dir && !info.Mode().IsRegular() && !info.IsDir():
		return // not made yet, or foreign
	case !dir && info.IsDir():
		x.fail("remove it, or choose another state-dir", "%s: a directory, so nothing can be written there", path)
		return
	}
	if exposed := proc.FileWritableByOthers(path, info); len(exposed) > 0 {
		x.warn(exposed[0].Fix, "%s; it names commands to run", exposed[0])
	}
	if err := accessible(path, unix.R_OK|unix.W_OK); err != nil {
		x.fail("run pingover always as the same user", "%s: %v", path, err)
	}
}

// metrics tells whether the metrics can be replaced, which depends on their
// directory, and whether they will be read.
func (x *subject) metrics() {
	file := x.metricsFile
	if file == "" {
		return
	}
	dir := filepath.Dir(file)
	err := accessible(dir+"/", unix.W_OK|unix.X_OK)
	info, _ := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.fail("mkdir -p "+dir+", or change metrics-file", "metrics-file %s: there is no directory %s", file, dir)
	case err != nil:
		x.fail("let pingover write there, or change metrics-file", "metrics-file %s: %s: %v", file, dir, err)
	case info != nil && info.IsDir():
		x.fail("change metrics-file", "metrics-file %s: a directory", file)
	case filepath.Ext(file) != ".prom":
		x.warn("let its name end in .prom", "metrics-file %s: node_exporter reads only files whose names end in .prom", file)
	default:
		x.good("metrics-file %s", file)
	}
}

// nearest is the directory, or the nearest existing one above it.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// accessible asks the kernel by the rights that files are opened with.
func accessible(path string, mode uint32) error {
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
}

// shortOf is what a disk has too little of, "" for nothing.
func shortOf(disk unix.Statfs_t) string {
	free := disk.Bavail
	if os.Geteuid() == 0 {
		free = disk.Bfree // what is reserved is root's
	}
	switch left := free * uint64(disk.Bsize); {
	case left < leastRoom:
		return fmt.Sprintf("only %d KiB are free", left>>10)
	case disk.Files > 0 && disk.Ffree == 0:
		return "no file can be made: all inodes are in use"
	}
	return ""
}
