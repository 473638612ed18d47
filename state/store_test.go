package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// Where the test binary runs again as another process, partVar says as what,
// and dirVar in which directory.
const (
	partVar = "PINGOVER_STATE_TEST_PART"
	dirVar  = "PINGOVER_STATE_TEST_DIR"
)

func TestMain(m *testing.M) {
	dir := Dir(os.Getenv(dirVar))
	var err error
	switch part := os.Getenv(partVar); part {
	case "", partMounts:
		flag.Set("test.parallel", "8") // these tests mostly wait for the disk; a flag of the command line overrides it
		os.Exit(m.Run())
	case partHold:
		err = keepLock(dir.Lock("web"))
	case partHoldWithChild:
		err = lockWithChild(dir)
	case partHoldFile:
		err = holdFile(string(dir))
	case partHoldActs:
		err = keepLock(dir.LockSwitch(context.Background()))
	case partSave:
		err = saveWithoutEnd(dir)
	case partUmask:
		err = writeWithUmasks(dir)
	default:
		err = fmt.Errorf("no part %q", part)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// again is this test binary as another process, which plays a part.
func again(t *testing.T, part, dir string, arg ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(program, arg...)
	cmd.Env = append(os.Environ(), partVar+"="+part, dirVar+"="+dir, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// start starts again's process and reads the first line that it prints. It
// ends with the test: by its standard input, should this process be killed.
func start(t *testing.T, part, dir string) (cmd *exec.Cmd, said string) {
	t.Helper()
	cmd = again(t, part, dir)
	return cmd, firstLine(t, cmd)
}

func firstLine(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	_, err := cmd.StdinPipe()
	ok(t, err)
	stdout, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	said, err := bufio.NewReader(stdout).ReadString('\n')
	ok(t, err)
	return strings.TrimSuffix(said, "\n")
}

// kill ends a process as a power cut or an impatient operator does.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if got := fmt.Sprint(err); got != want {
		t.Errorf("error\n%s\nwant\n%s", got, want)
	}
}

// same compares what the record holds: times as instants.
func same(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
}

func wantRecord(t *testing.T, d Dir, want *Record) {
	t.Helper()
	got, err := d.Load(want.Name, false)
	ok(t, err)
	if diff := same(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// wantFiles says which files there are in the directory, and nothing else.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in %s (-want +got):\n%s", dir, diff)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	ok(t, os.WriteFile(path, []byte(text), 0o600))
}

// freshRecord is what a machine knows that never ran before.
func freshRecord() *Record {
	return &Record{Head: Head{Version: 1, Name: "web"}, Role: Standby}
}

// smallRecord is the least that is written.
func smallRecord() *Record {
	r := freshRecord()
	r.Host = "172.16.0.2"
	return r
}

// fullRecord has something in every field.
func fullRecord() *Record {
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 3, minute, 5, 0, time.UTC) }
	rtt, noRoute, ping, refused, done := 0.25, "no route to 172.16.0.2", "ping", "smtp: connection refused", 2
	change := Change{
		Event: "20260301T030405Z-ABCDEFGH", Time: at(4), Began: at(3), Outcome: TakeoverFailed, Manual: true,
		Reason: "172.16.0.2 does not reply, and 172.16.0.1 is not in use",
		Evidence: Evidence{
			Address:   "172.16.0.2",
			Rounds:    []Round{{Number: 1, Address: "172.16.0.2", Verdict: "up", Sent: 5, Received: 1, RTT: &rtt, Error: &noRoute}},
			Witnesses: []Witness{{Address: "172.16.0.254", Answers: true, By: &ping}},
			Holders:   []Holder{{Address: "172.16.0.1", MAC: otherMAC}},
			Commands: []Command{{
				Argv: []string{"ip", "addr", "add", "172.16.0.1/32", "dev", "eth0", "label", "eth0:1"},
				Hook: "pre-takeover", Code: &done, Output: "RTNETLINK answers: <File exists> & \u2028é",
			}},
			Answers: []ServiceAnswer{{Service: "tcp:80", Address: "172.16.0.1", Health: "bad", Reason: "connection refused"}},
		},
	}
	return &Record{
		Head: Head{
			Version: 1, Name: "web", Event: "20260301T030405Z-ABCDEFGH", Pending: &change,
			Last: &Check{
				Time: at(4), Outcome: Blocked, Code: 21, Rule: 11, Reason: "172.16.0.2 does not reply, but no witness replies either",
				Primary: "down", Sent: 5, Received: 1, Witness: new(true), RTT: &rtt, Duration: 46120,
			},
			Gap: 60000, Streaks: Streaks{Good: 1, Up: 2, Unknown: 3, Unserved: 4, Silent: 5, Isolated: 6, Connected: 7, Fit: 10, Served: 11, NotReady: 8, Ready: 9}, Rehearsed: at(4),
			Gateways:        []Gateway{{Interface: "eth0", Address: netip.MustParseAddr("172.16.0.254")}},
			WitnessReported: true,
			Alerts:          []Alert{{Kind: "blocked", Rule: 11, Since: at(2), Mailed: at(3), MessageID: "<1.blocked@standby>", Reason: "no witness replies"}},
			Damping: Damping{
				Mailed: []MailedKind{{Kind: "took-over", Time: at(3), Again: true}}, Changes: []time.Time{at(3)}, Since: at(3), Next: at(19),
				Suppressed: []Suppressed{{Time: at(4), Kind: "released", Event: change.Event, Reason: change.Reason}},
			},
			Outbox: []Message{{
				MessageID: "<2.blocked@standby>", InReplyTo: "<1.blocked@standby>", Time: at(4),
				To: []string{"root@standby", "ops@example.org"}, Subject: "172.16.0.2 is down!", Body: "Nothing was changed.\n",
				Cluster: "www", Outcome: "down", Kind: "blocked", Event: "{}\n", Dropped: 2, DroppedSince: at(-59),
			}},
			MailError: &refused, Thread: "<1.took-over@standby>",
			Recent: []Entry{{
				ID: "20260301T030405Z.takeover-failed.20260301T030405Z-ABCDEFGH", Kind: ChangeEntry, Change: change,
				What: "post-takeover", Code: &done, Duration: 1500, Resolved: true, Rule: 11, Moved: true,
			}},
			Counts: map[Outcome]int{TakeoverFailed: 3},
			Days:   []Day{{Date: "2026-03-01", First: at(0), Checks: 7, Up: 1, Unknown: 2, Down: 4, Gaps: 1, RTT: RTT{Replies: 1, Min: 0.25, Mean: 0.25, Max: 0.25}}},
		},
		Arbiter: &Key{
			State: ArbiterOurs, Fault: "no answer within 1.5s", Holder: "standby", TTL: 180, Revision: 7, ClusterID: "14841639068965178418", Agreed: "14841639068965178418", Stack: "0b5a0d22-8a3b-4c1f-9f0e-3b1f0d8a2c11/4026531840",
			Seen: 90 * time.Minute, Asked: 91 * time.Minute, Renewed: 92 * time.Minute, End: 95 * time.Minute, RenewedAt: at(4), Until: at(7),
		},
		Origin: "/etc/pingover.yaml",
		Host:   "172.16.0.2", Address: netip.MustParseAddr("fe80::2%eth0"),
		Earlier:   []Primary{{Host: "172.16.0.7", Address: netip.MustParseAddr("172.16.0.7"), Neighbour: "02:00:00:00:00:07", SeenUp: at(0), Left: at(0)}},
		Neighbour: "02:00:00:00:00:02", Interface: "eth0",
		VIPs: []Alias{{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Interface: "eth0", Label: "eth0:1", Raised: true, Until: at(9), LeftOver: true}},
		Role: Taking, Since: at(1), Before: Active, Offered: []netip.Addr{netip.MustParseAddr("172.16.0.1")},
		Releasing:     []netip.Addr{netip.MustParseAddr("172.16.0.1")},
		NotAsked:      []netip.Addr{netip.MustParseAddr("2001:db8::1")},
		Unreached:     []netip.Addr{netip.MustParseAddr("172.16.0.1")},
		BootID:        "0b5a0d22-8a3b-4c1f-9f0e-3b1f0d8a2c11",
		ManualRelease: true, ManualTakeover: true, NobodyTook: true,
		PendingHook:  &PendingHook{Hook: PostTakeover, Event: change.Event, Time: at(4), Reason: change.Reason},
		BackReported: true, Noted: []string{"several primary"}, SeenUp: at(0),
		Paths:    []Path{{Host: "primary", Address: netip.MustParseAddr("10.9.9.2"), Interface: "eth1", Replied: true}},
		Services: []Service{{Name: "tcp:80", Mark: "0a1b", Bad: 3, Proven: true}},
		Answers:  []ServiceAnswer{{Service: "tcp:80", Address: "172.16.0.1", Health: "bad", Reason: "connection refused"}},
	}
}

// TestFullRecordIsFull keeps fullRecord, and with it the golden file, up to
// date with the record.
func TestFullRecordIsFull(t *testing.T) {
	t.Parallel()
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if v.IsZero() {
			t.Errorf("%s is zero", path)
			return
		}
		switch v.Kind() {
		case reflect.Pointer:
			walk(path, v.Elem())
		case reflect.Slice:
			walk(path+"[0]", v.Index(0))
		case reflect.Struct:
			for i := range v.NumField() {
				if t := v.Type().Field(i).Type; t == reflect.TypeFor[Kind]() || t == reflect.TypeFor[*Update]() { // zero of a cluster
					continue
				}
				if f := v.Type().Field(i); f.IsExported() && f.Name != "Settings" { // of the first edition
					walk(path+"."+f.Name, v.Field(i))
				}
			}
		}
	}
	walk("Record", reflect.ValueOf(fullRecord()))
}

// TestGoldenRecord holds the names of the keys: records of older versions of
// this program, and other people's scripts, have them.
func TestGoldenRecord(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/record.json")
	ok(t, err)
	first, err := os.ReadFile("testdata/first-edition.json")
	ok(t, err)
	old := fullRecord()
	old.Pending.Began, old.Recent[0].Began = time.Time{}, time.Time{}
	old.Recent, old.Days = entries(old.Recent[0].Change), nil
	old.VIPs[0].LeftOver, old.Origin, old.Earlier, old.Releasing, old.Unreached, old.NotAsked, old.Paths, old.Noted = false, "", nil, nil, nil, nil, nil, nil
	for _, e := range []*Evidence{&old.Pending.Evidence, &old.Recent[0].Evidence} {
		e.Rounds = slices.Clone(e.Rounds)
		e.Rounds[0].Number, e.Rounds[0].Address, e.Answers = 0, "", nil
	}
	old.Services, old.Answers, old.Last.Witness, old.Arbiter = nil, nil, nil, nil
	old.Settings = map[string][]string{"host": {"172.16.0.2"}, "vip": {"172.16.0.1"}}
	old.Streaks = Streaks{Good: 1, Up: 2, Unknown: 3, Unserved: 4, Silent: 5} // new since then: the others, and these
	old.Rehearsed, old.SeenUp, old.Alerts[0].Reason = time.Time{}, time.Time{}, ""
	old.Damping.Mailed[0].Again, old.Damping.Changes, old.Damping.Next = false, nil, time.Time{}
	m := &old.Outbox[0]
	m.Cluster, m.Outcome, m.Kind, m.Event, m.Dropped, m.DroppedSince = "", "", "", "", 0, time.Time{} // new since then
	for name, c := range map[string]struct {
		text []byte
		want *Record
	}{"golden record": {golden, fullRecord()}, "record of the first edition": {first, old}} {
		got, err := Parse(c.text)
		ok(t, err)
		if diff := same(c.want, got); diff != "" {
			t.Errorf("the %s as read (-want +got):\n%s", name, diff)
		}
	}

	d := Dir(t.TempDir())
	ok(t, d.Save(fullRecord(), false))
	saved, err := os.ReadFile(d.path("web", ".json"))
	ok(t, err)
	var indented bytes.Buffer
	ok(t, json.Indent(&indented, saved, "", "\t"))
	if diff := cmp.Diff(string(golden), indented.String()); diff != "" {
		t.Errorf("the record as written (-golden +got):\n%s", diff)
	}
}

func TestSavedRecordIsLoaded(t *testing.T) {
	t.Parallel()
	history := fullRecord()
	history.Recent, history.Outbox = nil, nil
	for i := range MaxRecent {
		c, l := fullRecord().Recent[0], fullRecord().Outbox[0]
		c.ID = fmt.Sprint(i)
		c.Evidence.Commands[0].Output = strings.Repeat("é", 2048) // 4 KiB of each command's output are kept
		l.Body = strings.Repeat("a line of a message\n", 200)
		history.Recent, history.Outbox = append(history.Recent, c), append(history.Outbox, l)
	}
	empty := smallRecord()
	empty.VIPs, empty.Outbox, empty.Recent = []Alias{}, []Message{}, []Entry{}
	for _, test := range []struct {
		name string
		rec  *Record
	}{
		{"with everything in it", fullRecord()},
		{"with the least", smallRecord()},
		{"with empty lists", empty},
		{"with a full history and a full outbox", history},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, durable := range []bool{false, true} {
				d := Dir(filepath.Join(t.TempDir(), "not", "yet"))
				for range 2 {
					ok(t, d.Save(test.rec, durable)) // changes the record's times
					wantRecord(t, d, test.rec)
					wantFiles(t, string(d), "web.json")
				}
			}
		})
	}
}

// TestTimesAreWrittenInUTC and whole seconds, wherever they come from.
func TestTimesAreWrittenInUTC(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	zone := time.FixedZone("here", 2*60*60)
	want := fullRecord()
	rec := fullRecord()
	eachTime(reflect.ValueOf(rec).Elem(), func(t *time.Time) { *t = t.In(zone).Add(999 * time.Millisecond) })
	if rec.Since.Equal(want.Since) || rec.Last.Time.Equal(want.Last.Time) || rec.Recent[0].Time.Equal(want.Recent[0].Time) {
		t.Fatal("not all times are visited")
	}
	ok(t, d.Save(rec, false))
	wantRecord(t, d, want)
	saved, err := os.ReadFile(d.path("web", ".json"))
	ok(t, err)
	if strings.Contains(string(saved), "+02:00") || strings.Contains(string(saved), ".999") {
		t.Errorf("the record has local times or parts of seconds: %s", saved)
	}
}

// TestRecordNeverGrowsPastWhatCanBeReadBack: evidence is cut, the oldest first.
func TestRecordNeverGrowsPastWhatCanBeReadBack(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	rec := smallRecord()
	for i := range 3 {
		c := Change{Event: fmt.Sprint(i), Outcome: TookOver}
		c.Evidence.Commands = []Command{{Argv: []string{"hook"}, Output: strings.Repeat("x", maxRecord/2-1000)}}
		rec.Add(Entry{Change: c})
	}
	ok(t, d.Save(rec, false))
	got, err := d.Load("web", true)
	ok(t, err)
	var kept []int
	for _, e := range got.Recent {
		kept = append(kept, len(e.Evidence.Commands))
	}
	if diff := same([]int{0, 1, 1}, kept); diff != "" {
		t.Errorf("commands kept of each change (-want +got):\n%s", diff)
	}
	rec.Thread = strings.Repeat("x", maxRecord)
	wantError(t, d.Save(rec, false), "the record has 16 MiB, more than could be read back")
}

func TestClustersHaveTheirOwnRecords(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	web, db := smallRecord(), smallRecord()
	db.Name, db.Host = "db", "172.16.0.3"
	ok(t, d.Save(web, false))
	ok(t, d.Save(db, false))
	wantRecord(t, d, web)
	wantRecord(t, d, db)
}

func TestMachineThatNeverRanStandsBy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []Dir{Dir(dir), Dir(dir + "/missing/state")} {
		wantRecord(t, d, freshRecord())
	}
	wantFiles(t, dir)
}

// TestCorruptRecordIsIgnored: nothing of it is used. It is
// kept for a look at it, and the next record is written in its place.
func TestCorruptRecordIsIgnored(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/record.json")
	ok(t, err)
	with := func(old, new string) string {
		t.Helper()
		if strings.Count(string(golden), old) != 1 {
			t.Fatalf("%s is not in the golden record once", old)
		}
		return strings.Replace(string(golden), old, new, 1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "it is empty"},
		{"blank", "\n", "unexpected end of JSON input"},
		{"truncated", string(golden[:len(golden)/2]), "unexpected end of JSON input"},
		{"binary", "\x7fELF\x02\x01\x01\x00", `invalid character '\x7f' looking for beginning of value`},
		{"zeros, as after a power cut", strings.Repeat("\x00", 4096), `invalid character '\x00' looking for beginning of value`},
		{"huge", strings.Repeat(" ", maxRecord) + string(golden), "it is larger than 16 MiB"},
		{"no object", "[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"},
		{"null", "null", "its version is 0, this program knows 1"},
		{"twice", string(golden) + string(golden), "invalid character '{' after top-level value"},
		{"of a later version", with(`"version": 1`, `"version": 2`), "its version is 2, this program knows 1"},
		{"of no version", with(`"version": 1,`, ``), "its version is 0, this program knows 1"},
		{"of another cluster", with(`"cluster": "web"`, `"cluster": "db"`), `it is the record of "db"`},
		{"of no cluster", with(`"cluster": "web"`, `"cluster": ""`), "it names no cluster or no host"},
		{"of no host", with(`"host": "172.16.0.2"`, `"host": ""`), "it names no cluster or no host"},
		{"unknown role", with(`"role": "taking"`, `"role": "master"`), `its role is "master"`},
		{"no role", with(`"role": "taking",`, ``), `its role is ""`},
		{"virtual IP that is no address", with(`"prefix": "172.16.0.1/32"`, `"prefix": ""`), "a virtual IP of it is not an address"},
		{"virtual IP without a prefix", with(`"prefix": "172.16.0.1/32"`, `"prefix": "172.16.0.1"`), `netip.ParsePrefix("172.16.0.1"): no '/'`},
		{"address that is none", with(`"fe80::2%eth0"`, `"nonsense"`), `ParseAddr("nonsense"): unable to parse IP`},
		{"message without a recipient", with(`"root@standby",
				"ops@example.org"`, ``), "a message in its outbox has no recipient or no Message-ID"},
		{"message without a Message-ID", with(`"\u003c2.blocked@standby\u003e"`, `""`), "a message in its outbox has no recipient or no Message-ID"},
		{"good checks below zero", with(`"good": 1`, `"good": -1`), "a count is below zero"},
		{"up checks below zero", with(`"up": 2`, `"up": -1`), "a count is below zero"},
		{"unknown checks below zero", with(`"unknown": 3`, `"unknown": -1`), "a count is below zero"},
		{"unserved checks below zero", with(`"unserved": 4`, `"unserved": -1`), "a count is below zero"},
		{"bad service checks below zero", with(`"bad": 3`, `"bad": -1`), "a count is below zero"},
		{"changes below zero", with(`"takeover-failed": 3`, `"takeover-failed": -3`), "a count is below zero"},
		{"gap below zero", with(`"gap_ms": 60000`, `"gap_ms": -1`), "a count is below zero"},
		{"last check with an unknown outcome", with(`"outcome": "blocked"`, `"outcome": "mastered"`), `its last check has the outcome "mastered"`},
		{"change with an unknown outcome", with(`"kind": "change",
			"event": "20260301T030405Z-ABCDEFGH",
			"time": "2026-03-01T03:04:05Z",
			"began": "2026-03-01T03:03:05Z",
			"outcome": "takeover-failed"`, `"kind": "change", "outcome": "mastered"`), `an entry of its history: outcome "mastered"`},
		{"change after the year 9999 in UTC", with(`"kind": "change",
			"event": "20260301T030405Z-ABCDEFGH",
			"time": "2026-03-01T03:04:05Z"`, `"kind": "change", "time": "9999-12-31T23:59:59-01:00"`), "an entry of its history: time 9999-12-31 23:59:59 -0100 -0100 is out of range"},
		{"time before the year 1 in UTC", with(`"2026-03-01T03:01:05Z"`, `"0000-01-01T00:00:00+01:00"`), "time 0000-01-01 00:00:00 +0100 +0100 is out of range"},
		{"day that is none", with(`"day": "2026-03-01"`, `"day": "Sunday"`), `day "Sunday", must be like 2026-03-01`},
		{"time that is none", with(`"2026-03-01T03:01:05Z"`, `"yesterday"`), `parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(t.TempDir())
			path := d.path("web", ".json")
			write(t, path, test.text)
			write(t, path+".bad", "an older one")

			got, err := d.Load("web", false)
			wantCorrupt(t, err, path, "", test.want)
			wantError(t, err, fmt.Sprintf("%s is corrupt (%s), ignored", path, test.want))
			if diff := same(freshRecord(), got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			wantText(t, path, test.text)
			wantText(t, path+".bad", "an older one")

			got, err = d.Load("web", true)
			wantCorrupt(t, err, path, path+".bad", test.want)
			wantError(t, err, fmt.Sprintf("%s is corrupt (%s), ignored; kept as %[1]s.bad", path, test.want))
			if diff := same(freshRecord(), got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			wantFiles(t, string(d), "web.json.bad")
			wantText(t, path+".bad", test.text)

			wantRecord(t, d, freshRecord())
			ok(t, d.Save(smallRecord(), true))
			wantRecord(t, d, smallRecord())
		})
	}
}

func wantCorrupt(t *testing.T, err error, path, kept, why string) {
	t.Helper()
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("error %v, want a *CorruptError", err)
	}
	got := []string{corrupt.Path, corrupt.Kept, corrupt.Err.Error()}
	if diff := cmp.Diff([]string{path, kept, why}, got); diff != "" {
		t.Errorf("corrupt (-want +got):\n%s", diff)
	}
}

func wantText(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	ok(t, err)
	if string(got) != want {
		t.Errorf("%s holds %.80q, want %.80q", path, got, want)
	}
}

func TestCorruptRecordThatCannotBeMovedIsIgnored(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := d.path("web", ".json")
	write(t, path, "{}")
	ok(t, os.Mkdir(path+".bad", 0o700))
	_, err := d.Load("web", true)
	wantCorrupt(t, err, path, "", "its version is 0, this program knows 1")
	wantText(t, path, "{}")
}

// TestRecordsOfOtherTimesAreRead: keys that came later are missing in an old
// record, and keys that this program does not know may be in a new one.
func TestRecordsOfOtherTimesAreRead(t *testing.T) {
	t.Parallel()
	got, err := Parse([]byte(`{"version":1,"cluster":"web","host":"172.16.0.2","role":"standby","favourite_colour":["blue"]}`))
	ok(t, err)
	if diff := same(smallRecord(), got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// TestNothingIsRememberedWhereAFileIsInTheDirectorysPlace: there is no record
// there and no pause, and a takeover is not held back by that.
func TestNothingIsRememberedWhereAFileIsInTheDirectorysPlace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	got, err := Dir(file).Load("web", true)
	ok(t, err)
	if diff := same(freshRecord(), got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	until, err := Dir(file).PausedUntil("web")
	ok(t, err)
	if !until.IsZero() {
		t.Errorf("paused until %s", until)
	}
}

func TestUnreadableRecordIsNotCalledBroken(t *testing.T) {
	t.Parallel()
	unreadable := t.TempDir()
	write(t, filepath.Join(unreadable, "web.json"), "whatever it is")
	ok(t, os.Chmod(filepath.Join(unreadable, "web.json"), 0))
	directory := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(directory, "web.json"), 0o755))
	for _, test := range []struct{ name, dir, want string }{
		{"no permission", unreadable, "open %s: permission denied"},
		{"a directory in its place", directory, "read %s: is a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(test.dir)
			var got *Record
			var err error
			ok(t, asOwnerOnly(func() { got, err = d.Load("web", true) }))
			wantError(t, err, fmt.Sprintf(test.want, d.path("web", ".json")))
			if errors.As(err, new(*CorruptError)) {
				t.Error("it is called broken, which nobody can know")
			}
			if diff := same(freshRecord(), got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			if _, err := os.Lstat(d.path("web", ".json.bad")); err == nil {
				t.Error("it was moved")
			}
		})
	}
}

// asOwnerOnly runs f on a thread to which the modes of files mean something
// although it is root's.
func asOwnerOnly(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		err := unix.Capget(&header, &sets[0])
		if err == nil {
			sets[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
			err = unix.Capset(&header, &sets[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// TestSymbolicLinkIsRefused: a user who can put a link into the directory must
// not choose what pingover, as root, overwrites.
func TestSymbolicLinkIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, link string
		do         func(Dir) error
	}{
		{"loading the record", "web.json", func(d Dir) error {
			rec, err := d.Load("web", true)
			if rec != nil {
				return errors.New("a record was made up")
			}
			return err
		}},
		{"saving the record", "web.json", func(d Dir) error { return d.Save(smallRecord(), true) }},
		{"saving by the temporary file", "web.json.tmp", func(d Dir) error { return d.Save(smallRecord(), true) }},
		{"locking", "web.lock", func(d Dir) error { _, err := d.Lock("web"); return err }},
		{"locking all clusters", "act.lock", func(d Dir) error { _, err := d.LockSwitch(context.Background()); return err }},
		{"asking for a pause", "web.pause", func(d Dir) error { _, err := d.PausedUntil("web"); return err }},
	} {
		for _, exists := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, target exists %t", test.name, exists), func(t *testing.T) {
				t.Parallel()
				dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
				if exists {
					write(t, target, "untouched")
				}
				link := filepath.Join(dir, test.link)
				ok(t, os.Symlink(target, link))
				err := test.do(Dir(dir))
				wantError(t, err, link+" is a symbolic link, and pingover's own files never are")
				if !errors.As(err, new(*ForeignError)) {
					t.Errorf("it is a %T", err)
				}
				wantFiles(t, dir, test.link)
				if got, err := os.Readlink(link); err != nil || got != target {
					t.Errorf("the link leads to %q now, error %v", got, err)
				}
				if exists {
					wantText(t, target, "untouched")
				} else if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the target was made: %v", err)
				}
			})
		}
	}
}

func TestCorruptRecordIsNotKeptThroughALink(t *testing.T) {
	t.Parallel()
	d, target := Dir(t.TempDir()), filepath.Join(t.TempDir(), "target")
	write(t, target, "untouched")
	path := d.path("web", ".json")
	ok(t, os.Symlink(target, path+".bad"))
	write(t, path, "{}")
	_, err := d.Load("web", true)
	wantCorrupt(t, err, path, path+".bad", "its version is 0, this program knows 1")
	wantText(t, target, "untouched")
	wantText(t, path+".bad", "{}")
}

// TestDirectoryMayBeALink: that is how an operator moves it to another disk.
func TestDirectoryMayBeALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := Dir(filepath.Join(t.TempDir(), "link"))
	ok(t, os.Symlink(dir, string(d)))
	unlock, err := d.Lock("web")
	ok(t, err)
	defer unlock()
	ok(t, d.Save(smallRecord(), true))
	wantRecord(t, d, smallRecord())
	wantFiles(t, dir, "web.json", "web.lock")
}

// TestWhatIsNoFileIsRefusedAtOnce: a pipe would be waited at, a device read,
// without end, and a hard link leads elsewhere.
func TestWhatIsNoFileIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for what, make := range map[string]func(path string) error{
		"a named pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a hard link":  linkElsewhere,
		"a device": func(path string) error {
			err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) // zero, which has no end
			if errors.Is(err, unix.EPERM) {
				lab.Skip(t, err)
			}
			return err
		},
		"a socket": func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		},
	} {
		for file, do := range map[string]func(Dir) error{
			"web.json":     func(d Dir) error { _, err := d.Load("web", true); return err },
			"web.json.tmp": func(d Dir) error { return d.Save(smallRecord(), false) },
			"web.lock":     func(d Dir) error { _, err := d.Lock("web"); return err },
			"act.lock":     func(d Dir) error { _, err := d.LockSwitch(t.Context()); return err },
			"web.pause":    func(d Dir) error { _, err := d.PausedUntil("web"); return err },
			"web.settings": func(d Dir) error { _, err := d.Settings("web"); return err },
			"web.history":  func(d Dir) error { _, err := d.History("web", nil); return err },
			"web.days":     func(d Dir) error { _, err := d.Days("web", nil); return err },
		} {
			t.Run(file+" is "+what, func(t *testing.T) {
				t.Parallel()
				d := Dir(t.TempDir())
				path := filepath.Join(string(d), file)
				ok(t, make(path))
				want := path + " is " + what + ", and pingover's own files never are"
				wantError(t, do(d), want)
				if file != "web.json.tmp" {
					wantError(t, d.Foreign("web"), want)
				}
				wantFiles(t, string(d), file)
			})
		}
	}
}

// linkElsewhere makes a file that has another name outside of the directory.
func linkElsewhere(path string) error {
	elsewhere := filepath.Dir(path) + "-elsewhere"
	if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
		return err
	}
	return os.Link(elsewhere, path)
}

// TestModesWhateverTheUmask: every user can read status, and only the owner
// can hold the lock.
func TestModesWhateverTheUmask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := again(t, partUmask, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, umask := range umasks {
		d := fmt.Sprintf("%s/%04o", dir, umask)
		for _, test := range []struct {
			path string
			want fs.FileMode
		}{
			{"made", fs.ModeDir | 0o755},
			{"made/web.json", 0o644},
			{"made/web.lock", 0o600},
			{"made/act.lock", 0o600},
			{"made/web.pause", 0o644},
			{"locked", fs.ModeDir | 0o755},
			{"there", fs.ModeDir | 0o711},
			{"there/web.json", 0o644},
		} {
			info, err := os.Stat(filepath.Join(d, test.path))
			ok(t, err)
			if info.Mode() != test.want {
				t.Errorf("umask %04o: %s has mode %s, want %s", umask, test.path, info.Mode(), test.want)
			}
		}
	}
}

const partUmask = "write files with each umask"

var umasks = []int{0, 0o022, 0o027, 0o077}

// writeWithUmasks has a process of its own, for all of it has one umask.
func writeWithUmasks(dir Dir) error {
	for _, umask := range umasks {
		below := Dir(fmt.Sprintf("%s/%04o", dir, umask))
		if err := errors.Join(os.Mkdir(string(below), 0o700), os.Mkdir(string(below)+"/there", 0o711)); err != nil {
			return err
		}
		unix.Umask(umask)
		_, err1 := (below + "/locked").Lock("web")
		err2 := (below + "/made").Save(smallRecord(), false)
		_, err3 := (below + "/made").Lock("web")
		_, err4 := (below + "/made").LockSwitch(context.Background())
		err6 := (below + "/made").Pause("web", time.Now())
		err5 := (below + "/there").Save(smallRecord(), false)
		unix.Umask(0)
		if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
			return err
		}
	}
	return nil
}

// alternating are two records that are long and short by turns.
func alternating(i int) *Record {
	r := smallRecord()
	r.Event = "short"
	if i%2 == 0 {
		r.Event, r.BootID = "long", strings.Repeat("x", 30<<10)
	}
	return r
}

// whole says what is wrong with a record that was read while, or after,
// alternating ones were written.
func whole(rec *Record, err error) error {
	switch {
	case err != nil:
		return err
	case rec.Event == "short" && rec.BootID == "":
	case rec.Event == "long" && rec.BootID == strings.Repeat("x", 30<<10):
	default:
		return fmt.Errorf("half a record: event %q, boot id of %d bytes", rec.Event, len(rec.BootID))
	}
	return nil
}

func TestReaderNeverSeesHalfARecord(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ok(t, d.Save(alternating(1), false))
	var written atomic.Bool
	failed := make(chan error, 1)
	go func() {
		defer written.Store(true)
		for i := range 200 {
			if err := d.Save(alternating(i), i%50 == 0); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	reads := 0
	for ; !written.Load(); reads++ {
		if err := whole(d.Load("web", true)); err != nil {
			t.Error(err)
			break
		}
	}
	ok(t, <-failed)
	t.Logf("read %d times", reads)
	wantFiles(t, string(d), "web.json")
}

const partSave = "save without end"

func saveWithoutEnd(d Dir) error {
	for i := 0; ; i++ {
		if err := d.Save(alternating(i), false); err != nil {
			return err
		}
		if i == 1 {
			fmt.Println("saving")
		}
	}
}

// TestKilledRunLeavesTheOldOrTheNewRecord, and a temporary file that is used
// again.
func TestKilledRunLeavesTheOldOrTheNewRecord(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	for range 10 {
		cmd, _ := start(t, partSave, string(d))
		time.Sleep(rand.N(3 * time.Millisecond))
		kill(cmd)
		if err := whole(d.Load("web", true)); err != nil {
			t.Error(err)
		}
	}
	ok(t, d.Save(smallRecord(), true))
	wantRecord(t, d, smallRecord())
	wantFiles(t, string(d), "web.json")
}

// A process that has open what a killed run left, or another name of it, gets nothing of
// what is written now.
func TestTemporaryFileOfAKilledRunIsReplaced(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ok(t, d.Save(smallRecord(), true))
	temp := d.path("web", ".json.tmp")
	write(t, temp, strings.Repeat("half a record ", 10000))
	wantRecord(t, d, smallRecord()) // it is never read

	left, err := os.Open(temp)
	ok(t, err)
	defer left.Close()
	ok(t, d.Save(fullRecord(), true))
	wantRecord(t, d, fullRecord())
	wantFiles(t, string(d), "web.json")
	used, err := os.Stat(d.path("web", ".json"))
	ok(t, err)
	if got, err := io.ReadAll(left); err != nil || string(got) != strings.Repeat("half a record ", 10000) {
		t.Errorf("what was left has become %d bytes, %v", len(got), err)
	}
	if used.Mode() != 0o644 {
		t.Errorf("its mode is %s, want 0644", used.Mode())
	}
}

func TestRecordThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	inTheWay := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(inTheWay, "web.json", "full"), 0o755))
	forbidden := t.TempDir()
	ok(t, Dir(forbidden).Save(fullRecord(), true))
	ok(t, os.Chmod(forbidden, 0o555))
	t.Cleanup(func() { _ = os.Chmod(forbidden, 0o755) })
	for _, test := range []struct{ name, dir, want string }{
		{"the directory is a file", file, "open " + file + "/web.json.tmp: not a directory"},
		{"the directory is below a file", file + "/state", "mkdir " + file + ": not a directory"},
		{"a directory is in the way", inTheWay, fmt.Sprintf("rename %s/web.json.tmp %[1]s/web.json: file exists", inTheWay)},
		{"no permission", forbidden, "open " + forbidden + "/web.json.tmp: permission denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var err error
			ok(t, asOwnerOnly(func() { err = Dir(test.dir).Save(smallRecord(), true) }))
			wantError(t, err, test.want)
			if _, err := os.Lstat(test.dir + "/web.json.tmp"); err == nil {
				t.Error("the temporary file is still there")
			}
		})
	}
	t.Run("and the old one stays", func(t *testing.T) { wantRecord(t, Dir(forbidden), fullRecord()) })
}

func TestPausedUntil(t *testing.T) {
	t.Parallel()
	written := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	hour := written.Add(time.Hour)
	for _, test := range []struct {
		name, text string
		want       time.Time
	}{
		{"a time", "2026-03-01T04:30:00Z\n", time.Date(2026, 3, 1, 4, 30, 0, 0, time.UTC)},
		{"no newline", "2026-03-01T04:30:00Z", time.Date(2026, 3, 1, 4, 30, 0, 0, time.UTC)},
		{"another zone", "2026-03-01T04:30:00+02:00\n", time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)},
		{"a time that has passed", "2020-01-01T00:00:00Z\n", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"nonsense: an hour from when it was written", "until lunch\n", hour},
		{"nothing in it, as on a full disk: an hour", "", hour},
		{"half a time: an hour", "2026-03-01T04:", hour},
		{"more than a time: an hour", "2026-03-01T04:30:00Z 2026-03-01T05:30:00Z\n", hour},
		{"binary: an hour", strings.Repeat("\x00", 1<<20), hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(t.TempDir())
			path := d.path("web", ".pause")
			write(t, path, test.text)
			ok(t, os.Chtimes(path, time.Time{}, written))
			got, err := d.PausedUntil("web")
			ok(t, err)
			if !got.Equal(test.want) {
				t.Errorf("paused until %s, want %s", got, test.want)
			}
			wantText(t, path, test.text)
		})
	}
	for _, d := range []Dir{Dir(t.TempDir()), Dir(t.TempDir() + "/missing/state")} {
		if got, err := d.PausedUntil("web"); err != nil || !got.IsZero() {
			t.Errorf("no pause: paused until %s, error %v", got, err)
		}
	}
	t.Run("a file that cannot be read", func(t *testing.T) {
		d := Dir(t.TempDir())
		write(t, d.path("web", ".pause"), "2026-03-01T04:30:00Z\n")
		ok(t, os.Chmod(d.path("web", ".pause"), 0))
		var err error
		ok(t, asOwnerOnly(func() { _, err = d.PausedUntil("web") }))
		wantError(t, err, "open "+d.path("web", ".pause")+": permission denied")
	})
}

// TestLocksOfOneProcess: where no lock file can be made, the clusters of one
// process share the directory, and another process is kept out until the last of
// them has ended.
func TestLocksOfOneProcess(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "file", "state"))
	if err := os.WriteFile(filepath.Dir(string(d)), nil, 0o600); err != nil { // in place of a directory
		t.Fatal(err)
	}
	var ours, others Locks
	first, err := ours.Lock(d, "web")
	if err != nil {
		t.Fatal(err)
	}
	second, err := ours.Lock(d, "db")
	if err != nil {
		t.Fatalf("another cluster of this process: %v", err)
	}
	first()
	if _, err := others.Lock(d, "mail"); !errors.Is(err, ErrBusy) {
		t.Errorf("another process: %v", err)
	}
	second()
	third, err := others.Lock(d, "mail")
	if err != nil {
		t.Fatalf("another process, afterwards: %v", err)
	}
	third()
}

// A run that no longer waits for its disk must not replace what a later one wrote.
func TestSaveThatIsNoLongerWaitedForReplacesNothing(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ok(t, d.Save(smallRecord(), true))
	ctx, end := context.WithCancelCause(t.Context())
	end(errors.New("the disk hangs"))
	wantError(t, d.SaveUntil(ctx, fullRecord(), true), "the disk hangs")
	wantRecord(t, d, smallRecord())
}
