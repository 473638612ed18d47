package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOutcomes holds the words and the codes: scripts know them.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	type meaning struct {
		Code           int
		Switched, Good bool
	}
	want := map[Outcome]meaning{
		"ok":              {0, false, true},
		"holding":         {10, false, true},
		"took-over":       {11, true, false},
		"released":        {12, true, false},
		"elsewhere":       {13, false, false},
		"down":            {14, false, false},
		"unserved":        {15, false, false},
		"unknown":         {20, false, false},
		"blocked":         {21, false, false},
		"takeover-failed": {30, false, false},
		"release-failed":  {31, false, false},
		"state-failed":    {32, true, false},
		"reduced":         {10, false, true},
		"removed":         {11, true, false},
		"restored":        {12, true, false},
		"update-failed":   {30, false, false},
		"":                {70, false, false},
		"OK":              {70, false, false},
		"busy":            {70, false, false},
	}
	got := map[Outcome]meaning{}
	for _, o := range []Outcome{
		OK, Holding, TookOver, Released, Elsewhere, Down, Unserved, Unknown, Blocked, TakeoverFailed, ReleaseFailed, StateFailed, Reduced, Removed, Restored, UpdateFailed,
		"", "OK", "busy",
	} {
		got[o] = meaning{o.Code(), o.Switched(), o.Good()}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
