package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/state"
)

// pastTakeover is a change with all that may be seen and done.
func pastTakeover(event string, when time.Time) state.Change {
	return state.Change{
		Event: event, Time: when, Outcome: state.TookOver, Manual: true,
		Reason: "172.16.0.2 does not reply, and 172.16.0.1 is not in use, and so on and so forth",
		Evidence: state.Evidence{
			Address: "172.16.0.2",
			Rounds: []state.Round{
				{Verdict: "down", Sent: 5},
				{Verdict: "unknown", Sent: 2, Error: new("no route to 172.16.0.2")},
				{Verdict: "up", Sent: 1, Received: 1, RTT: new(0.4)},
			},
			Witnesses: []state.Witness{{Address: "172.16.0.254", Answers: true, By: new("arp")}, {Address: "172.16.0.253"}},
			Holders:   []state.Holder{{Address: "172.16.0.5", MAC: "02:00:00:00:00:05"}, {Address: "172.16.0.6"}},
			Commands: []state.Command{
				{Argv: []string{"fence", "web 1"}, Hook: "pre-takeover", Code: new(0), Output: "fenced\n"},
				{Argv: []string{"ip", "addr", "add", "172.16.0.1/32", "dev", "eth0"}, Code: new(2), Output: "a long story\nRTNETLINK answers: File exists\n"},
			},
		},
	}
}

func TestHistoryForPeople(t *testing.T) {
	got := ""
	for _, c := range []pastChange{
		{Cluster: "web", Time: ago(time.Hour), Event: "20260301T100000Z-5HPASG7R", Outcome: state.TookOver, ByHand: true, Reason: pastTakeover("", noon).Reason, Evidence: pastTakeover("", noon).Evidence, Commands: shown(pastTakeover("", noon).Evidence.Commands)},
		{Cluster: "web", Time: ago(time.Hour), Event: "20260301T100000Z-5HPASG7R", Kind: state.HookEntry, What: "post-takeover", Code: 5, Duration: 1200, Reason: "exit code 5"},
		{Cluster: "web", Time: ago(time.Hour), Kind: state.AlertEntry, What: "hook-failed", Reason: "exit code 5"},
		{Cluster: "web", Time: ago(time.Hour), Kind: state.AlertEntry, What: "hook-failed", Resolved: true},
		{Cluster: "db", Time: ago(0), Outcome: state.Released, Reason: "172.16.0.5 is no longer on this machine\x1b[m"},
	} {
		got += c.details(noon.Location(), Output{})
	}
	want := `2026-03-01 11:00:00 +0100  web  took-over, manually
    172.16.0.2 does not reply, and 172.16.0.1 is not in use, and so on and so
    forth
    round 1: down: no reply to 5 pings
    round 2: unknown: no route to 172.16.0.2
    round 3: up
    witness 172.16.0.254 replies (arp)
    witness 172.16.0.253 does not reply
    172.16.0.5 is in use by 02:00:00:00:00:05
    172.16.0.6 is in use
    pre-takeover: fence 'web 1'
    ran: ip addr add 172.16.0.1/32 dev eth0: exit code 2: RTNETLINK answers:
    File exists
    event 20260301T100000Z-5HPASG7R
2026-03-01 11:00:00 +0100  web  hook post-takeover: exit code 5 after 1.2s
    exit code 5
    event 20260301T100000Z-5HPASG7R
2026-03-01 11:00:00 +0100  web  alert hook-failed firing
    exit code 5
2026-03-01 11:00:00 +0100  web  alert hook-failed resolved
2026-03-01 12:00:00 +0100  db  released
    172.16.0.5 is no longer on this machine [m
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestHistoryHasOneLineForEachChange(t *testing.T) {
	changes := []pastChange{
		{Cluster: "web", Time: ago(time.Hour), Kind: state.ChangeEntry, Outcome: state.TookOver, ByHand: true, Reason: pastTakeover("", noon).Reason},
		{Cluster: "web", Time: ago(time.Hour), Kind: state.HookEntry, What: "post-takeover", Code: 5, Duration: 1200, Reason: "exit code 5"},
		{Cluster: "mail", Time: ago(0), Kind: state.AlertEntry, What: "hook-failed", Resolved: true},
	}
	lines := func(reason string) string {
		return "2026-03-01 11:00:00  web   took-over, manually: " + reason + `
2026-03-01 11:00:00  web   hook post-takeover: exit code 5 after 1.2s: exit code 5
2026-03-01 12:00:00  mail  alert hook-failed resolved
`
	}
	if diff := cmp.Diff(lines(changes[0].Reason), historyTable(changes, noon.Location(), Output{})); diff != "" {
		t.Errorf("no terminal (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(lines("172.16.0.2 does not reply, and 172.…"), historyTable(changes, noon.Location(), Output{Columns: 84})); diff != "" {
		t.Errorf("on a terminal (-want +got):\n%s", diff)
	}
	narrow := `2026-03-01 11:00:00  web
    took-over, manually: 172.16.0.2 d…
2026-03-01 11:00:00  web
    hook post-takeover: exit code 5 a…
2026-03-01 12:00:00  mail
    alert hook-failed resolved
`
	if diff := cmp.Diff(narrow, historyTable(changes, noon.Location(), Output{Columns: 38})); diff != "" {
		t.Errorf("where the terminal is too narrow for a line (-want +got):\n%s", diff)
	}
	colored := historyTable(changes, noon.Location(), Output{Columns: 84, Colors: true})
	if want := "\033[33mtook-over\033[0m, manually: 172"; !strings.Contains(colored, want) || strings.Count(colored, "\033") != 2 {
		t.Errorf("colours: %q", colored)
	}
}

func TestSomeOfTheHistory(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UTC().Truncate(time.Second)
	var changes []state.Change
	for _, age := range []time.Duration{72 * time.Hour, 48 * time.Hour, time.Hour} {
		changes = append(changes, state.Change{Event: age.String(), Time: now.Add(-age), Outcome: state.Released, Reason: "r" + age.String()})
	}
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Recent: past(changes...)}})
	for flags, want := range map[string]string{
		"":                     "r72h0m0s r48h0m0s r1h0m0s",
		"--last 1":             "r1h0m0s",
		"--last 9":             "r72h0m0s r48h0m0s r1h0m0s",
		"--since 49h":          "r48h0m0s r1h0m0s",
		"--since 7d --last 2":  "r48h0m0s r1h0m0s",
		"--since 10m --last 2": "",
	} {
		for _, form := range []string{"", "--details", "--json"} {
			args := append([]string{"history", "--state-dir", dir}, strings.Fields(flags+" "+form)...)
			got := faked(nil).run(args...)
			var found []string
			for _, word := range strings.FieldsFunc(got.Stdout, func(r rune) bool { return strings.ContainsRune(" \n\",", r) }) {
				if strings.HasPrefix(word, "r") && strings.HasSuffix(word, "m0s") {
					found = append(found, strings.TrimPrefix(word, "reason:"))
				}
			}
			if got.Code != 0 || strings.Join(found, " ") != want {
				t.Errorf("%v: %q, want %q\n%+v", args, found, want, got)
			}
		}
	}
	for flags, text := range map[string]string{
		"--last x":            "--last \"x\": must be a whole number, 1 to 1000000",
		"--last 1 --last 2":   "--last \"2\": given 2 times, and takes one value",
		"--since 7":           "--since \"7\": a duration needs a unit, such as 7s",
		"--since 1d --last 0": "--last \"0\": must be a whole number, 1 to 1000000",
	} {
		got := faked(nil).run(append([]string{"history", "--state-dir", dir}, strings.Fields(flags)...)...)
		if got.Code != 64 || got.Stdout != "" || !strings.HasPrefix(got.Stderr, "pingover: "+text) {
			t.Errorf("%s: %+v", flags, got)
		}
	}
}

func TestHistoryOfSeveralClustersIsOne(t *testing.T) {
	dir := t.TempDir()
	plain := func(event string, when time.Time) state.Change {
		return state.Change{Event: event, Time: when, Outcome: state.Released, Reason: event}
	}
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Recent: past(plain("1", ago(4*time.Hour)), pastTakeover("4", ago(time.Hour)))}})
	remember(t, dir, &state.Record{Head: state.Head{Name: "db", Recent: past(plain("2", ago(3*time.Hour)), plain("3", ago(2*time.Hour)))}})
	remember(t, dir, &state.Record{Head: state.Head{Name: "new"}})
	clusters := []config.Cluster{{Name: "web", StateDir: dir}, {Name: "db", StateDir: dir}, {Name: "new", StateDir: dir}}
	changes, broken := remembered(Program{}.tasks(config.File{Clusters: clusters}))
	var events string
	for _, c := range changes {
		events += c.Event + c.Cluster + " "
	}
	if diff := cmp.Diff("1web 2db 3db 4web ", events); diff != "" || len(broken) > 0 {
		t.Errorf("%v; -want +got\n%s", broken, diff)
	}

	want(t, faked(nil).run("history", "web", "--json", "--state-dir", dir), printed{Stdout: `{"version":1,"cluster":"web","time":"2026-03-01T07:00:00Z",` +
		`"event":"1","outcome":"released","code":12,"by_hand":false,"reason":"1","address":"","rounds":[],"witnesses":[],"holders":[],"commands":[],"kind":"change","what":"","resolved":false,"duration_ms":0}
{"version":1,"cluster":"web","time":"2026-03-01T10:00:00Z","event":"4","outcome":"took-over","code":11,"by_hand":true,` +
		`"reason":"172.16.0.2 does not reply, and 172.16.0.1 is not in use, and so on and so forth","address":"172.16.0.2",` +
		`"rounds":[{"verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null},{"verdict":"unknown","sent":2,"received":0,"rtt_ms":null,"error":"no route to 172.16.0.2"},` +
		`{"verdict":"up","sent":1,"received":1,"rtt_ms":0.4,"error":null}],` +
		`"witnesses":[{"address":"172.16.0.254","answers":true,"by":"arp"},{"address":"172.16.0.253","answers":false,"by":null}],` +
		`"holders":[{"address":"172.16.0.5","mac":"02:00:00:00:00:05"},{"address":"172.16.0.6","mac":""}],` +
		`"commands":[{"argv":["fence","web 1"],"hook":"pre-takeover","code":0,"output":"fenced\n"},` +
		`{"argv":["ip","addr","add","172.16.0.1/32","dev","eth0"],"hook":"","code":2,"output":"a long story\nRTNETLINK answers: File exists\n"}],"kind":"change","what":"","resolved":false,"duration_ms":0}
`})
	want(t, faked(nil).run("history", "new", "--state-dir", dir), printed{Stdout: "nothing has changed yet\n"})
	want(t, faked(nil).run("history", "new", "--json", "--state-dir", dir), printed{})

	must(t, os.WriteFile(filepath.Join(dir, "web.json"), nil, 0o644))
	got := faked(nil).run("history", "--json", "--state-dir", dir)
	if got.Code != 20 || got.Stderr != "pingover: web: "+dir+"/web.json is corrupt (it is empty), ignored\n" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(2, strings.Count(got.Stdout, "\n")); diff != "" {
		t.Errorf("the others are not shown: %s", got.Stdout)
	}
}

// past are changes as the history has them.
func past(changes ...state.Change) []state.Entry {
	var h state.Head
	for _, c := range changes {
		h.Add(state.Entry{Change: c})
	}
	return h.Recent
}

// Where the clock was set back, the order of the record is the truth.
func TestHistoryWhereTheClockWasSetBack(t *testing.T) {
	dir := t.TempDir()
	changes := func(times ...time.Duration) (all []state.Change) {
		for _, d := range times {
			all = append(all, state.Change{Time: ago(d), Outcome: state.Released})
		}
		return all
	}
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Recent: past(changes(5*time.Hour, 2*time.Hour, 4*time.Hour, time.Hour)...)}})
	remember(t, dir, &state.Record{Head: state.Head{Name: "db", Recent: past(changes(3*time.Hour, 0)...)}})
	got, _ := remembered(Program{}.tasks(config.File{Clusters: []config.Cluster{{Name: "web", StateDir: dir}, {Name: "db", StateDir: dir}}}))
	var order []string
	for _, c := range got {
		order = append(order, c.Cluster+" "+c.Time.In(noon.Location()).Format("15"))
	}
	if diff := cmp.Diff([]string{"web 07", "db 09", "web 10", "web 08", "web 11", "db 12"}, order); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestHistoryStaysWhenThePrimaryGetsAnotherAddress(t *testing.T) {
	dir := t.TempDir()
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Recent: past(pastTakeover("1", ago(0)))}})
	got := faked(nil).configuredBy(fileOf(t, "web")).run("history", "--state-dir", dir)
	if got.Code != 0 || !strings.Contains(got.Stdout, "  web  took-over, manually: 172.16.0.2 does") || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
}

// The summary is made from the history and from the counts of each day, which the
// record and NAME.days have.
func TestSummaryOfTheHistory(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "history --summary --file "+w.file, "")
	w.expect(0, "check www", "")
	w.silent["10.2.2.11"] = true
	w.expect(11, "check www", "")
	w.expect(0, "history www --summary", "www: served by members", "availability", "outages", "!<html")
	w.expect(0, "history www --summary --json", `{"version":1,"cluster":"www","pool":true,"primary":"host1.zone.com",`, `"checks":2`, `"periods":[{"name":"day"`)
	w.expect(0, "history www --html", "<!doctype html>", "<h2>www</h2>", "as standby saw it")
	w.expect(64, "history --summary --last 3", "--last is for the list of changes, not for --summary or --html")
	w.expect(64, "history --html --json", "--html and --json exclude each other")
}

// A damaged line takes nothing else from a summary, and a page never says that
// nothing is configured, or was checked, where it could not be read.
func TestSummaryOfADamagedHistory(t *testing.T) {
	w := newWWW(t)
	w.expect(0, "check www", "")
	damage := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(w.dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	damage("www.history", "\x1b[31m\n")
	damage("www.days", "null\n")
	const incomplete = "incomplete, for a part of what was recorded cannot be read"
	w.expect(20, "history www --summary", "www.history: line 1: ", "www.days: line 1: ", "www: "+incomplete, "www: served by members", "!\x1b")
	w.expect(20, "history www --summary --json", `"checks":1`, `"incomplete":true`)
	w.expect(20, "history www --html", "<h2>www</h2>", "<b>Incomplete</b>: a part of what was recorded cannot be read", "<b>Members serve</b>", "!Nothing is configured")
	damage("www.json", "{")
	w.expect(20, "history www --summary", "www: "+incomplete, "!no check was made")
	w.expect(20, "history www --html", "<h2>www</h2>", "<b>Incomplete</b>", "!No check was made", "!Nothing is configured")
}
