package state

import (
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzParse: nothing in the file stops a check, and a record that is accepted is
// written as it was read.
func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile("testdata/record.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(golden), string(golden[:len(golden)/2]), string(golden[len(golden)/2:]), string(golden) + "{}",
		"", "\n", "null", "[]", "0", `""`, "{", "\x00", "\xff\xfe", strings.Repeat("[", 20000),
		`{"version":1,"cluster":"web","host":"172.16.0.2","role":"standby"}`,
		`{"version":1,"cluster":"../web","host":"\ud800","role":"active","since":"0000-01-01T00:00:00-23:59"}`,
		`{"version":1,"cluster":"web","host":"h","role":"taking","pending":null,"vips":[null],"outbox":[{}],"changes":[null]}`,
		`{"version":1,"cluster":"web","host":"h","role":"releasing","address":"::ffff:1.2.3.4%\u0000","vips":[{"prefix":"::ffff:1.2.3.4/96"}]}`,
		`{"version":1e0,"cluster":"web","host":"h","role":"standby","gap_ms":9223372036854775807,"streaks":{"good":9223372036854775808}}`,
		`{"Version":1,"CLUSTER":"web","host":"h","host":"h2","role":"standby","changes":[{"evidence":{"rounds":[{"rtt_ms":-0.0}]}}]}`,
	} {
		f.Add([]byte(seed))
	}
	d := Dir(f.TempDir())
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := Parse(data)
		if err != nil {
			if rec != nil {
				t.Errorf("a record beside the error %v", err)
			}
			return
		}
		if diff := same(rec, reread(t, rec)); diff != "" {
			t.Errorf("it is not read as it was written (-written +read):\n%s", diff)
		}
		rec.Name, rec.Settings = "web", nil // as it is saved
		ok(t, d.Save(rec, false))
		wantRecord(t, d, rec) // as it was written
	})
}

// FuzzPause: whatever is in the pause file, the time that is read of it is
// written and read as it was, to the second.
func FuzzPause(f *testing.F) {
	for _, seed := range []string{"2026-03-01T04:30:00Z\n", "2026-03-01T04:30:00.5+02:00", "", "until lunch", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		until, err := parsePause(data)
		if err != nil {
			return
		}
		again, err := parsePause(pauseText(until))
		if err != nil || !again.Equal(until.Truncate(time.Second)) {
			t.Errorf("%q is %s, written and read %s, error %v", data, until, again, err)
		}
	})
}
