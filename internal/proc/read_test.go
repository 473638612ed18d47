package proc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSmallReadsALine(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct{ name, text, want string }{
		{"a number", "1\n", "1"},
		{"nothing", "", ""},
		{"what is too long is cut", long, long[:256]},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := ReadSmall(path); got != test.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir + "/none": "open " + dir + "/none: no such file or directory",
		dir:           "read " + dir + ": is a directory",
	} {
		if _, err := ReadSmall(path); err == nil || err.Error() != want {
			t.Errorf("got the error %v, want %s", err, want)
		}
	}
}
