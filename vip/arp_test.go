package vip

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	us      = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0a}
	them    = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0b}
	someone = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x0c}

	ours4 = netip.MustParseAddr("172.16.0.3")
	vip4  = netip.MustParseAddr("172.16.0.1")
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// frame reads a frame written out in hexadecimal, with blanks and // comments.
func frame(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const arpPadding = "000000000000000000000000000000000000" // to 60 bytes

const goldenARPRequest = `
	ffffffffffff 02000000000a 0806   // to all, from us
	0001 0800 06 04 0001             // Ethernet, IPv4, request
	02000000000a ac100003            // our MAC and address
	000000000000 ac100001            // who has 172.16.0.1?
` + arpPadding

const goldenARPProbe = `
	ffffffffffff 02000000000a 0806
	0001 0800 06 04 0001
	02000000000a 00000000            // no address of ours
	000000000000 ac100001
` + arpPadding

const goldenARPAnnouncement = `
	ffffffffffff 02000000000a 0806
	0001 0800 06 04 0001             // request
	02000000000a ac100001            // it is here
	000000000000 ac100001
` + arpPadding

const goldenARPAnnouncementReply = `
	ffffffffffff 02000000000a 0806
	0001 0800 06 04 0002             // reply
	02000000000a ac100001
	02000000000a ac100001            // the same again
` + arpPadding

const goldenARPProxy = `
	ffffffffffff 02000000000a 0806   // the frame is ours
	0001 0800 06 04 0001
	02000000000b ac100001            // its content is another machine's
	000000000000 ac100001
` + arpPadding

const goldenARPProxyReply = `
	ffffffffffff 02000000000a 0806
	0001 0800 06 04 0002
	02000000000b ac100001
	02000000000b ac100001
` + arpPadding

func TestARPQuestion(t *testing.T) {
	for _, tt := range []struct {
		name string
		from netip.Addr
		want string
	}{
		{"ordinary request", ours4, goldenARPRequest},
		{"probe", netip.Addr{}, goldenARPProbe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := arpRequest(us, vip4, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(frame(t, tt.want), got); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARPAnnouncement(t *testing.T) {
	for _, tt := range []struct {
		name           string
		mac            net.HardwareAddr
		request, reply string
	}{
		{"of ours", us, goldenARPAnnouncement, goldenARPAnnouncementReply},
		{"for another machine", them, goldenARPProxy, goldenARPProxyReply},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := arpAnnouncement(us, tt.mac, vip4)
			if err != nil {
				t.Fatal(err)
			}
			want := [][]byte{frame(t, tt.request), frame(t, tt.reply)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
}

// parseCase is a frame and the reply in it; none where want is zero.
type parseCase struct {
	name  string
	frame string
	want  Reply
}

func testParse(t *testing.T, cases []parseCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parse(frame(t, tt.frame))
			if ok != tt.want.Address.IsValid() {
				t.Fatalf("got %v, %+v; want %+v", ok, got, tt.want)
			}
			if !ok {
				return
			}
			tt.want.Source = them
			if diff := cmp.Diff(tt.want, got, compareAddrs); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

const (
	arpToUs  = "02000000000a 02000000000b 0806 "
	arpToAll = "ffffffffffff 02000000000b 0806 "
)

var arpCases = []parseCase{
	{"a reply to us", arpToUs + "0001 0800 06 04 0002 02000000000b ac100001 02000000000a ac100003", Reply{Address: vip4, MAC: them, Direct: true, To: ours4}},
	{"a reply to a probe", arpToUs + "0001 0800 06 04 0002 02000000000b ac100001 02000000000a 00000000", Reply{Address: vip4, MAC: them, Direct: true, To: netip.IPv4Unspecified()}},
	{"a reply with padding", arpToUs + "0001 0800 06 04 0002 02000000000b ac100001 02000000000a ac100003" + arpPadding, Reply{Address: vip4, MAC: them, Direct: true, To: ours4}},
	{"a reply to us that is broadcast", arpToAll + "0001 0800 06 04 0002 02000000000b ac100001 02000000000a ac100003", Reply{Address: vip4, MAC: them}},
	{"a unicast request from the holder, as the kernel sends to confirm a neighbour", arpToUs + "0001 0800 06 04 0001 02000000000b ac100001 000000000000 ac100003", Reply{Address: vip4, MAC: them}},
	{"a gratuitous request", arpToAll + "0001 0800 06 04 0001 02000000000b ac100001 000000000000 ac100001", Reply{Address: vip4, MAC: them}},
	{"a gratuitous reply", arpToAll + "0001 0800 06 04 0002 02000000000b ac100001 ffffffffffff ac100001", Reply{Address: vip4, MAC: them}},
	{"the holder asks for another address", arpToAll + "0001 0800 06 04 0001 02000000000b ac100001 000000000000 ac1000fe", Reply{Address: vip4, MAC: them}},
	{"a proxy announcement", arpToAll + "0001 0800 06 04 0001 02000000000c ac100001 000000000000 ac100001", Reply{Address: vip4, MAC: someone}},
	{"a probe", arpToAll + "0001 0800 06 04 0001 02000000000b 00000000 000000000000 ac100001", Reply{Address: vip4, MAC: them, Probe: true}},
	{"a request for it: says only where the sender is", arpToAll + "0001 0800 06 04 0001 02000000000b ac100003 000000000000 ac100001", Reply{Address: ours4, MAC: them}},

	{"a reply from 0.0.0.0", arpToUs + "0001 0800 06 04 0002 02000000000b 00000000 02000000000a ac100001", Reply{}},
	{"an operation that is neither", arpToUs + "0001 0800 06 04 0003 02000000000b ac100001 02000000000a ac100003", Reply{}},
	{"hardware other than Ethernet", arpToUs + "0006 0800 06 04 0002 02000000000b ac100001 02000000000a ac100003", Reply{}},
	{"a protocol other than IPv4", arpToUs + "0001 0806 06 04 0002 02000000000b ac100001 02000000000a ac100003", Reply{}},
	{"IPv6 addresses", arpToUs + "0001 0800 06 10 0002 02000000000b 20010db8000000000000000000000001 02000000000a 20010db8000000000000000000000003", Reply{}},
	{"MACs of 8 bytes", arpToUs + "0001 0800 08 04 0002 02000000000b0000 ac100001 02000000000a0000 ac100003", Reply{}},
	{"MACs of no bytes", arpToUs + "0001 0800 00 04 0002 ac100001 ac100003", Reply{}},
	{"lengths beyond the end", arpToUs + "0001 0800 ff ff 0002 02000000000b ac100001 02000000000a ac100003", Reply{}},
	{"cut off in the target", arpToUs + "0001 0800 06 04 0002 02000000000b ac100001 02000000000a ac10", Reply{}},
	{"cut off in the header", arpToUs + "0001 0800 06", Reply{}},
	{"no payload", arpToUs, Reply{}},
	{"cut off in the Ethernet header", "02000000000a 02000000", Reply{}},
	{"empty", "", Reply{}},
	{"of another VLAN, tag not taken off", "02000000000a 02000000000b 8100 0005 0806 0001 0800 06 04 0002 02000000000b ac100001 02000000000a ac100003", Reply{}},
	{"a VLAN tag cut off", "02000000000a 02000000000b 8100 00", Reply{}},
	{"a service VLAN tag without a second one", "02000000000a 02000000000b 88a8 0005 0806 0001 0800 06 04", Reply{}},
	{"another protocol", "02000000000a 02000000000b 0800 45000000", Reply{}},
}

func TestParseARP(t *testing.T) { testParse(t, arpCases) }

func FuzzParseARP(f *testing.F) {
	for _, c := range arpCases {
		f.Add(frame(f, c.frame))
	}
	f.Fuzz(func(t *testing.T, b []byte) { parseAny(t, b) })
}

// parseAny checks what must be true of every reply.
func parseAny(t *testing.T, b []byte) (Reply, bool) {
	r, ok := parse(b)
	if ok && (!r.Address.IsValid() || len(r.MAC) != 6 || !slices.Equal(r.Source, b[6:12])) {
		t.Errorf("reply %+v", r)
	}
	return r, ok
}
