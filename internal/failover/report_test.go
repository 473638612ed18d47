package failover

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReportJSON is the shape that scripts rely on: all keys are always
// there, and lists are never null.
func TestReportJSON(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scene)
		want   string
	}{
		{
			"took over", func(s *scene) { s.primary.powerOff() },
			`{"version":1,"cluster":"web","time":"2000-01-01T00:00:00Z","outcome":"took-over","code":11,"changed":true,"dry_run":false,
			"reason":"172.16.0.2 does not reply, and 172.16.0.1 is not in use; 172.16.0.2 was never seen up from here","error":null,"role":"active","held":["172.16.0.1/32"],
			"interface":"eth0","paused":false,"host":"172.16.0.2","paths":["172.16.0.2"],"address":"172.16.0.2",
			"rounds":[{"round":1,"address":"172.16.0.2","verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null},{"round":2,"address":"172.16.0.2","verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null}],
			"witnesses":[{"address":"172.16.0.254","answers":true,"by":"ping"}],"holders":[],
			"commands":[{"argv":["ip","addr","add","172.16.0.1/32","dev","eth0","label","eth0:1"],"code":0}],"mail_waiting":0,"duration_ms":49300,"arbiter":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null}`,
		},
		{
			"healthy", func(*scene) {},
			`{"version":1,"cluster":"web","time":"2000-01-01T00:00:00Z","outcome":"ok","code":0,"changed":false,"dry_run":false,
			"reason":"172.16.0.2 replies","error":null,"role":"standby","held":[],
			"interface":"eth0","paused":false,"host":"172.16.0.2","paths":["172.16.0.2"],"address":"172.16.0.2",
			"rounds":[{"round":1,"address":"172.16.0.2","verdict":"up","sent":1,"received":1,"rtt_ms":0.4,"error":null}],
			"witnesses":[],"holders":[{"address":"172.16.0.1","mac":""}],"commands":[],"mail_waiting":0,"duration_ms":0,"arbiter":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":true,"config_error":null}`,
		},
		{
			"nothing known", func(s *scene) { s.settings.Host = "primary.example" },
			`{"version":1,"cluster":"web","time":"2000-01-01T00:00:00Z","outcome":"unknown","code":20,"changed":true,"dry_run":false,
			"reason":"resolve \"primary.example\": no such host","error":null,"role":"standby","held":[],
			"interface":"eth0","paused":false,"host":"primary.example","paths":["primary.example"],"address":"",
			"rounds":[],"witnesses":[],"holders":[],"commands":[],"mail_waiting":0,"duration_ms":0,"arbiter":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null}`,
		},
		{
			"would take over, in a dry run", func(s *scene) { s.primary.powerOff(); s.dry = true },
			`{"version":1,"cluster":"web","time":"2000-01-01T00:00:00Z","outcome":"took-over","code":11,"changed":true,"dry_run":true,
			"reason":"172.16.0.2 does not reply, and 172.16.0.1 is not in use; 172.16.0.2 was never seen up from here","error":null,"role":"standby","held":[],
			"interface":"eth0","paused":false,"host":"172.16.0.2","paths":["172.16.0.2"],"address":"172.16.0.2",
			"rounds":[{"round":1,"address":"172.16.0.2","verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null},{"round":2,"address":"172.16.0.2","verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null}],
			"witnesses":[{"address":"172.16.0.254","answers":true,"by":"ping"}],"holders":[],
			"commands":[{"argv":["ip","addr","add","172.16.0.1/32","dev","eth0","label","eth0:1"],"code":null}],"mail_waiting":0,"duration_ms":46000,"arbiter":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.change(s)
				got, err := json.Marshal(s.check())
				must(t, err)
				want := strings.NewReplacer("\n", "", "\t", "").Replace(test.want)
				if diff := cmp.Diff(strings.SplitAfter(want, ","), strings.SplitAfter(string(got), ",")); diff != "" {
					t.Errorf("report (-want +got):\n%s", diff)
				}
			})
		})
	}
}
