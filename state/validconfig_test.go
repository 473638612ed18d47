package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestACopyIsKeptForEachConfigurationFile(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one := ValidConfig{Path: "/etc/pingover.yaml", Text: "clusters: {}\n", Valid: noon}
	other := ValidConfig{Path: "/root/other.yaml", Text: "other", Valid: noon, Unusable: noon, Errors: []string{"line 1"}, Outbox: []Message{{MessageID: "<1@standby>", To: []string{"root"}}}}
	for _, v := range []ValidConfig{one, other} {
		if err := d.SaveValidConfig(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []ValidConfig{one, other, {Path: "/etc/none.yaml"}} {
		got, err := d.ValidConfig(want.Path)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", want.Path, err, diff)
		}
	}
	info, err := os.Stat(filepath.Join(string(d), "config.valid"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	if names, err := d.Clusters(); len(names) != 0 || err != nil {
		t.Errorf("clusters %v, %v", names, err)
	}
}

func TestCopiesOfTheFilesThatWereValidLastStay(t *testing.T) {
	d := Dir(t.TempDir())
	for i := range mostCopies + 2 {
		if err := d.SaveValidConfig(ValidConfig{Path: fmt.Sprint(i), Text: "text", Valid: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	for path, kept := range map[string]bool{"0": false, "1": false, "2": true, fmt.Sprint(mostCopies + 1): true} {
		if v, err := d.ValidConfig(path); err != nil || (v.Text != "") != kept {
			t.Errorf("%s: %q, %v", path, v.Text, err)
		}
	}
}

func TestACopyThatOthersCouldHaveWrittenIsIgnored(t *testing.T) {
	d := Dir(t.TempDir())
	v := ValidConfig{Path: "/etc/pingover.yaml", Text: "text"}
	if err := d.SaveValidConfig(v); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(string(d), "config.valid")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := d.ValidConfig(v.Path)
	if got.Text != "" || !errors.As(err, new(*UntrustedError)) {
		t.Errorf("%q, %v", got.Text, err)
	}
	if err := d.SaveValidConfig(v); err != nil {
		t.Fatal(err)
	}
	if got, err := d.ValidConfig(v.Path); got.Text != "text" || err != nil {
		t.Errorf("written again: %q, %v", got.Text, err)
	}
	for _, text := range []string{"{", `{"version":2}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ValidConfig(v.Path); got.Text != "" || !errors.As(err, new(*CorruptError)) {
			t.Errorf("%s: %q, %v", text, got.Text, err)
		}
	}
}

func TestTwoRunsDoNotWriteTheCopyAtOnce(t *testing.T) {
	d := Dir(t.TempDir())
	f, err := lock(filepath.Join(string(d), "config.valid.tmp"))
	if err != nil {
		t.Fatal(err)
	}
	v := ValidConfig{Path: "/etc/pingover.yaml", Text: "text"}
	if err := d.SaveValidConfig(v); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	release(f)
	if err := d.SaveValidConfig(v); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(string(d)); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
