package failover

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// TestOwnAddressAsVIP: an address by which this machine is on its network would
// count as held, and be taken away by a conflicting host, a failback or a release.
func TestOwnAddressAsVIP(t *testing.T) {
	last := func(s *scene) *vip.Address {
		has := s.standby.nic("eth0").Addresses
		return &has[len(has)-1]
	}
	for _, test := range []struct {
		name string
		vips []string
		have func(s *scene)
		want string // the own address; "" where it may be an alias
	}{
		{"the only one of the interface", []string{"172.16.0.3/32"}, func(*scene) {}, "172.16.0.3"},
		{"written with its network", []string{"172.16.0.3/16"}, func(*scene) {}, "172.16.0.3"},
		{"one of two virtual IPs", []string{"172.16.0.1/32", "172.16.0.3/32"}, func(*scene) {}, "172.16.0.3"},
		{"it is the host as well", []string{"172.16.0.3/32"}, func(s *scene) { s.settings.Host = "172.16.0.3" }, "172.16.0.3"},
		{"the first of two", []string{"172.16.0.3/32"}, func(s *scene) {
			s.standby.set("eth0", "172.16.0.13/16")
			last(s).Secondary = true
		}, "172.16.0.3"},
		{"beside another virtual IP only", []string{"2001:db8::3/128", "2001:db8::1/128"}, func(s *scene) {
			s.standby.set("eth0", "2001:db8::3/64")
			s.standby.set("eth0", "2001:db8::1/64")
		}, "2001:db8::3"},
		{"the only one of its network", []string{"10.0.0.3/32"}, func(s *scene) { s.standby.set("eth0", "10.0.0.3/24") }, "10.0.0.3"},
		{"by IPv6", []string{"2001:db8::3/128"}, func(s *scene) { s.standby.set("eth0", "2001:db8::3/64") }, "2001:db8::3"},
		{"by IPv6, beside that of the link and an alias", []string{"2001:db8::3/128"}, func(s *scene) {
			s.standby.set("eth0", "fe80::3/64")
			s.standby.set("eth0", "2001:db8::5/64")
			last(s).Deprecated = true
			s.standby.set("eth0", "2001:db8::3/64")
		}, "2001:db8::3"},
		{"the only one, without a network", []string{"172.16.0.3/32"}, func(s *scene) {
			s.standby.nic("eth0").Addresses = nil
			s.standby.set("eth0", "172.16.0.3/32")
		}, "172.16.0.3"},
		{"by IPv6 from DHCP, beside that of the link", []string{"2001:db8::3/128"}, func(s *scene) {
			s.standby.set("eth0", "fe80::3/64")
			s.standby.set("eth0", "2001:db8::3/128")
		}, "2001:db8::3"},
		{"raised before the last boot, and of its own since", []string{"172.16.0.3/32"}, func(s *scene) {
			s.standby.nic("eth0").Addresses = nil
			s.standby.set("eth0", "172.16.0.13/16")
			s.primary.powerOff()
			s.ends(state.TookOver, "")
			s.do(func() { s.standby.powerOff(); s.standby.boot() })
		}, "172.16.0.3"},

		{"an alias of /32", []string{"172.16.0.1/32"}, func(s *scene) { s.standby.set("eth0", "172.16.0.1/32") }, ""},
		{"an alias with a label", []string{"172.16.0.1/32"}, func(s *scene) {
			s.standby.nic("eth0").Addresses = nil
			s.standby.set("eth0", "172.16.0.1/16")
			last(s).Label = "eth0:1"
		}, ""},
		{"an alias in the network of its own", []string{"172.16.0.1/32"}, func(s *scene) {
			s.standby.set("eth0", "172.16.0.1/16")
			last(s).Secondary = true
		}, ""},
		{"an alias with a smaller network than its own", []string{"172.16.0.1/32"}, func(s *scene) { s.standby.set("eth0", "172.16.0.1/24") }, ""},
		{"an alias by IPv6 in the network of its own", []string{"2001:db8::1/128"}, func(s *scene) {
			s.standby.set("eth0", "2001:db8::1/64")
			s.standby.set("eth0", "2001:db8::3/64")
		}, ""},
		{"an alias by IPv6 that is never a source", []string{"2001:db8::1/128"}, func(s *scene) {
			s.standby.set("eth0", "2001:db8::1/64")
			last(s).Deprecated = true
		}, ""},
		{"raised by pingover where there is no other, without a label", []string{"10.0.0.1/24"}, func(s *scene) {
			s.primary.powerOff()
			s.settings.Interface = "eth0"
			s.ends(state.TookOver, "")
			last(s).Label = "eth0"
		}, ""},
		{"raised by a run that was killed then", []string{"10.0.0.1/24"}, func(s *scene) {
			s.ends(state.OK, "")
			rec := s.standby.record(s.t, "web")
			rec.Intend(state.Taking, state.Change{Event: "e", Outcome: state.TookOver})
			must(s.t, state.Dir(s.standby.dir).Save(rec, false))
			s.standby.set("eth0", "10.0.0.1/24")
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.vips(test.vips...)
				test.have(s)
				s.forget()
				if test.want == "" {
					s.check()
					return
				}
				before := s.standby.snapshot()
				want := &run.Error{Code: 78, Text: "vip " + test.want + " is this machine's own address, on eth0", Hint: "set vip to an address that only follows the primary"}
				for name, act := range map[string]func() error{
					"check":    func() error { _, err := s.try(); return err },
					"dry run":  func() error { s.dry = true; _, err := s.try(); s.dry = false; return err },
					"release":  func() error { _, err := s.typed(ReleaseIn, Options{Force: true}); return err },
					"takeover": func() error { _, err := s.typed(TakeOverIn, Options{Force: true}); return err },
				} {
					if diff := cmp.Diff(error(want), act()); diff != "" {
						t.Errorf("%s (-want +got):\n%s", name, diff)
					}
				}
				if got := s.calls("ping 1", "ask", "raise 1", "lower", "announce"); got != nil {
					t.Errorf("it did all the same: %v", got)
				}
				if diff := cmp.Diff(before, s.standby.snapshot(), byValue); diff != "" {
					t.Errorf("the addresses are others (-before +after):\n%s", diff)
				}
			})
		})
	}
}
