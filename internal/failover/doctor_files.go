package failover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pingover/internal/proc"
)

// leastRoom is what a record and the next one beside it may need, in bytes.
const leastRoom = 1 << 20

func (e *examination) examineStateDir() {
	const another = "mend that, or choose another state-dir"
	if err := e.dir.Foreign(e.set.Name); err != nil {
		e.refuse(refused(err))
	}
	dir := string(e.dir)
	there := nearest(dir)
	if info, err := os.Stat(there); err == nil && !info.IsDir() {
		e.fail(another, "state directory %s: not a directory", there)
		return
	}
	if err := accessible(there, unix.W_OK|unix.X_OK); err != nil {
		e.fail(another, "state directory %s: %v", there, err)
		return
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(there, &disk); err != nil {
		e.fail(another, "state directory %s: %v", there, err)
		return
	}
	if text := shortOf(disk); text != "" {
		e.fail("make room, or choose another state-dir", "state directory %s: %s", there, text)
		return
	}
	if there != dir {
		e.good("state directory %s: will be made by the first check", dir)
		return
	}
	trouble := false
	for _, path := range append([]string{dir}, e.dir.Files(e.set.Name)...) {
		info, err := os.Lstat(path)
		switch {
		case err != nil, path != dir && !info.Mode().IsRegular() && !info.IsDir():
			continue // not made yet, or said above
		case path != dir && info.IsDir():
			e.fail("remove it, or choose another state-dir", "%s: a directory, so nothing can be written there", path)
			trouble = true
			continue
		}
		if open := proc.FileWritableByOthers(path, info); len(open) > 0 {
			e.warn(open[0].Fix, "%s; it names commands to run", open[0])
			trouble = true
		}
		if err := accessible(path, unix.R_OK|unix.W_OK); err != nil {
			e.fail("run pingover always as the same user", "%s: %v", path, err)
			trouble = true
		}
	}
	if !trouble {
		e.good("state directory %s", dir)
	}
}

// examineMetrics sees that the metrics can be replaced, which is up to their
// directory, and that they will be read.
func (e *examination) examineMetrics() {
	file := e.set.MetricsFile
	if file == "" {
		return
	}
	dir := filepath.Dir(file)
	err := accessible(dir+"/", unix.W_OK|unix.X_OK)
	info, _ := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.fail("mkdir -p "+dir+", or change metrics-file", "metrics-file %s: there is no directory %s", file, dir)
	case err != nil:
		e.fail("let pingover write there, or change metrics-file", "metrics-file %s: %s: %v", file, dir, err)
	case info != nil && info.IsDir():
		e.fail("change metrics-file", "metrics-file %s: a directory", file)
	case filepath.Ext(file) != ".prom":
		e.warn("let its name end in .prom", "metrics-file %s: node_exporter reads only files whose names end in .prom", file)
	default:
		e.good("metrics-file %s", file)
	}
}

// nearest is the directory, or the nearest one above that is there.
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

// shortOf says what a disk has too little of, "" for nothing.
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
