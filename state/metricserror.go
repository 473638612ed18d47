package state

import (
	"os"
	"time"
)

// maxMetricsError is more bytes than the error of a file has.
const maxMetricsError = 16 << 10

// MetricsError is why the last run could not write the metrics of NAME, and since
// when; "" where it could.
func (d Dir) MetricsError(name string) (text string, since time.Time) {
	data, info, err := readFile(d.path(name, ".metrics"), maxMetricsError)
	if err != nil || data == nil {
		return "", time.Time{}
	}
	return string(data), info.ModTime()
}

// KeepMetricsError keeps why the metrics could not be written, "" where they could.
// It tells whether the reason has changed and was kept: one that cannot be kept would
// be reported by each run.
func (d Dir) KeepMetricsError(name, text string) (changed bool) {
	if before, _ := d.MetricsError(name); before == text {
		return false
	}
	path := d.path(name, ".metrics")
	if text == "" {
		return os.Remove(path) == nil
	}
	return d.mkdir() == nil && foreignAt(path) == nil && replace(path, []byte(text), 0o644, false) == nil
}
