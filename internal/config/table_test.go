package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheTableIsWhole(t *testing.T) {
	names, shorts := map[string]bool{}, map[string]bool{}
	for _, s := range Settings() {
		if names[s.Name] || s.Short != "" && shorts[s.Short] {
			t.Errorf("%s or -%s is there twice", s.Name, s.Short)
		}
		names[s.Name], shorts[s.Short] = true, true
		if s.Help == "" || s.Range == "" || s.Group == "" || s.Kind != Bool && s.Argument == "" {
			t.Errorf("%s lacks words: %+v", s.Name, s)
		}
		if !s.Required && (s.Default == "") == (s.Derived == "") {
			t.Errorf("%s must have either a default or words for it", s.Name)
		}
	}
	want := map[string]bool{"I": true, "c": true, "i": true, "W": true, "": true} // as ping(8) has them
	if diff := cmp.Diff(want, shorts); diff != "" {
		t.Errorf("short flags: -want +got\n%s", diff)
	}
}
