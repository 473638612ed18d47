package vip

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
)

var (
	ours6 = netip.MustParseAddr("2001:db8::3")
	vip6  = netip.MustParseAddr("2001:db8::1")
)

const goldenNDSolicitation = `
	3333ff000001 02000000000a 86dd
	60000000 0020 3a ff                          // IPv6, 32 bytes, ICMPv6, hop limit 255
	20010db8000000000000000000000003             // from us
	ff0200000000000000000001ff000001             // to the solicited-node group
	87 00 1c1e 00000000                          // neighbour solicitation
	20010db8000000000000000000000001             // who has 2001:db8::1?
	01 01 02000000000a                           // source link-layer address: ours
`

const goldenNDProbe = `
	3333ff000001 02000000000a 86dd
	60000000 0018 3a ff
	00000000000000000000000000000000             // from ::
	ff0200000000000000000001ff000001
	87 00 4ced 00000000
	20010db8000000000000000000000001
`

const goldenNDAnnouncement = `
	333300000001 02000000000a 86dd
	60000000 0020 3a ff
	20010db8000000000000000000000001             // from the address itself
	ff020000000000000000000000000001             // to all nodes
	88 00 f921 20000000                          // neighbour advertisement: override
	20010db8000000000000000000000001
	02 01 02000000000a                           // target link-layer address: here
`

const goldenNDProxy = `
	333300000001 02000000000a 86dd               // the frame is ours
	60000000 0020 3a ff
	fe80000000000000000000fffe00000a             // and so is the source
	ff020000000000000000000000000001
	88 00 2950 20000000
	20010db8000000000000000000000001
	02 01 02000000000b                           // its content is another machine's
`

func TestNDQuestion(t *testing.T) {
	for _, tt := range []struct {
		name string
		from netip.Addr
		want string
	}{
		{"ordinary solicitation", ours6, goldenNDSolicitation},
		{"probe", netip.Addr{}, goldenNDProbe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ndSolicit(us, vip6, tt.from)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(frame(t, tt.want), got); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNDAnnouncement(t *testing.T) {
	for _, tt := range []struct {
		name string
		mac  net.HardwareAddr
		from netip.Addr
		want string
	}{
		{"of ours", us, vip6, goldenNDAnnouncement},
		{"for another machine", them, netip.MustParseAddr("fe80::ff:fe00:a"), goldenNDProxy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ndAnnouncement(us, tt.mac, vip6, tt.from, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(frame(t, tt.want), got); diff != "" {
				t.Errorf("frame (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProxySource(t *testing.T) {
	address := func(prefix string) Address { return Address{Prefix: netip.MustParsePrefix(prefix)} }
	tentative, failed := address("fe80::1/64"), address("fe80::2/64")
	tentative.Tentative, failed.DADFailed = true, true

	for _, tt := range []struct {
		name      string
		addresses []Address
		want      string
	}{
		{"link-local before global", []Address{address("172.16.0.3/16"), address("2001:db8::3/64"), address("fe80::3/64")}, "fe80::3"},
		{"global where link-local cannot be used", []Address{tentative, failed, address("2001:db8::3/64"), address("2001:db8::4/64")}, "2001:db8::3"},
		{"never the address itself", []Address{address("2001:db8::1/128"), address("2001:db8::3/64")}, "2001:db8::3"},
		{"the address itself where there is no other", []Address{address("172.16.0.3/16")}, "2001:db8::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := proxySource(Link{Addresses: tt.addresses}, vip6); got.String() != tt.want {
				t.Errorf("from %s, want %s", got, tt.want)
			}
		})
	}
}

const (
	vip6hex        = "20010db8000000000000000000000001"
	ours6hex       = "20010db8000000000000000000000003"
	linkLocalHex   = "fe80000000000000000000fffe00000b"
	unspecifiedHex = "00000000000000000000000000000000"
	allNodesHex    = "ff020000000000000000000000000001"
	groupHex       = "ff0200000000000000000001ff000001"
	solicitation   = "8700 0000 00000000" + vip6hex
	advertisement  = "8800 0000 20000000" + vip6hex
	sourceOption   = "0101 02000000000c"
	targetOption   = "0201 02000000000c"
)

// ndPacket completes a message from them with its headers and its checksum.
func ndPacket(t testing.TB, from, to, message string) []byte {
	t.Helper()
	m := frame(t, message)
	b := frame(t, "02000000000a 02000000000b 86dd 60000000 0000 3aff"+from+to)
	binary.BigEndian.PutUint16(b[14+4:], uint16(len(m)))
	if len(m) >= 4 {
		sum := checksum(netip.AddrFrom16([16]byte(b[22:])), netip.AddrFrom16([16]byte(b[38:])), m)
		binary.BigEndian.PutUint16(m[2:], sum)
	}
	return append(b, m...)
}

type ndCase struct {
	name              string
	from, to, message string
	want              Reply
}

var ndCases = []ndCase{
	{"an advertisement to us", vip6hex, ours6hex, "8800 0000 60000000" + vip6hex + targetOption, Reply{Address: vip6, MAC: someone, Direct: true, To: ours6}},
	{"an advertisement to all", vip6hex, allNodesHex, advertisement + targetOption, Reply{Address: vip6, MAC: someone}},
	{"an advertisement from another address of the holder", linkLocalHex, allNodesHex, advertisement + targetOption, Reply{Address: vip6, MAC: someone}},
	{"an advertisement by a router, not overriding", vip6hex, ours6hex, "8800 0000 c0000000" + vip6hex + targetOption, Reply{Address: vip6, MAC: someone, Direct: true, To: ours6, Router: true}},
	{"an advertisement without a MAC: the frame's", vip6hex, ours6hex, advertisement, Reply{Address: vip6, MAC: them}},
	{"an advertisement with only a source option: the frame's", vip6hex, ours6hex, advertisement + sourceOption, Reply{Address: vip6, MAC: them}},
	{"an advertisement with options unknown before its MAC", vip6hex, ours6hex, advertisement + "fe02 0000000000000000000000000000" + targetOption, Reply{Address: vip6, MAC: someone}},
	{"an advertisement with an option that does not belong there and is wrong", vip6hex, ours6hex, advertisement + "0502 0000000005dc0000000000000000" + targetOption, Reply{Address: vip6, MAC: someone}},
	{"an advertisement with a MAC option of another size: the frame's", vip6hex, ours6hex, advertisement + "0202 0000000000000000000000000000", Reply{Address: vip6, MAC: them}},
	{"an advertisement with two MACs: the first", vip6hex, ours6hex, advertisement + targetOption + "0201 02000000000d", Reply{Address: vip6, MAC: someone}},
	{"the holder solicits another address", vip6hex, allNodesHex, "8700 0000 00000000" + ours6hex + sourceOption, Reply{Address: vip6, MAC: someone}},
	{"the holder solicits without its MAC: the frame's", vip6hex, ours6hex, "8700 0000 00000000" + ours6hex, Reply{Address: vip6, MAC: them}},
	{"a solicitation of it: says only where the sender is", ours6hex, groupHex, solicitation + sourceOption, Reply{Address: ours6, MAC: someone}},
	{"a probe", unspecifiedHex, groupHex, solicitation, Reply{Address: vip6, MAC: them, Probe: true}},
	{"a probe with a nonce, as Linux sends", unspecifiedHex, groupHex, solicitation + "0e01 010203040506", Reply{Address: vip6, MAC: them, Probe: true}},

	{"a probe with a MAC", unspecifiedHex, groupHex, solicitation + sourceOption, Reply{}},
	{"a probe to another group than solicited nodes", unspecifiedHex, allNodesHex, solicitation, Reply{}},
	{"an advertisement solicited, yet to all", vip6hex, allNodesHex, "8800 0000 60000000" + vip6hex + targetOption, Reply{}},
	{"a multicast target", vip6hex, ours6hex, "8800 0000 20000000" + allNodesHex + targetOption, Reply{}},
	{"a code that is not 0", vip6hex, ours6hex, "8801 0000 20000000" + vip6hex + targetOption, Reply{}},
	{"another ICMPv6 message", vip6hex, ours6hex, "8600 0000 20000000" + vip6hex + targetOption, Reply{}},
	{"shorter than a target", vip6hex, ours6hex, "8800 0000 20000000 20010db800000000000000000000", Reply{}},
	{"no message", vip6hex, ours6hex, "", Reply{}},
	{"an option of length zero", vip6hex, ours6hex, advertisement + "0200 02000000000c", Reply{}},
	{"an option beyond the end", vip6hex, ours6hex, advertisement + "02ff 02000000000c", Reply{}},
	{"half an option", vip6hex, ours6hex, advertisement + "0201", Reply{}},
	{"one byte of an option", vip6hex, ours6hex, advertisement + "02", Reply{}},
}

func TestParseND(t *testing.T) {
	for _, c := range ndCases {
		t.Run(c.name, func(t *testing.T) {
			got, ok := parse(ndPacket(t, c.from, c.to, c.message))
			if want := c.want.Address.IsValid(); ok != want {
				t.Fatalf("got %v, %+v; want %v, %+v", ok, got, want, c.want)
			}
			if !ok {
				return
			}
			c.want.Source = them
			if diff := cmp.Diff(c.want, got, compareAddrs); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

// A valid message is ignored when one of its headers is wrong.
func TestParseNDChecksHeaders(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func([]byte) []byte
		valid bool
	}{
		{"unchanged", func(b []byte) []byte { return b }, true},
		{"padded", func(b []byte) []byte { return append(b, 1, 2, 3) }, true},
		{"hop limit 254: through a router", func(b []byte) []byte { b[14+7]--; return b }, false},
		{"wrong checksum", func(b []byte) []byte { b[54+2]++; return b }, false},
		{"a flipped bit in the target", func(b []byte) []byte { b[54+ndTarget+15] ^= 1; return b }, false},
		{"a flipped bit in the source", func(b []byte) []byte { b[14+8] ^= 1; return b }, false},
		{"another next header", func(b []byte) []byte { b[14+6] = 17; return b }, false},
		{"IPv4's version", func(b []byte) []byte { b[14] = 0x45; return b }, false},
		{"a payload length beyond the end", func(b []byte) []byte { b[14+5]++; return b }, false},
		{"a payload length too short", func(b []byte) []byte { b[14+5] = 8; return b }, false},
		{"cut off in the message", func(b []byte) []byte { return b[:len(b)-1] }, false},
		{"cut off in the IPv6 header", func(b []byte) []byte { return b[:14+39] }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.spoil(ndPacket(t, vip6hex, ours6hex, advertisement+targetOption))
			if r, ok := parse(b); ok != tt.valid {
				t.Errorf("got %v, %+v; want %v", ok, r, tt.valid)
			}
		})
	}
}

// Messages of the ndp package are read whatever their checksum is.
func TestParseNDChecksumAgreesWithNDP(t *testing.T) {
	for i := range 1 << 16 {
		target := vip6.As16()
		binary.BigEndian.PutUint16(target[8:], uint16(i))
		b, err := ndAnnouncement(us, them, netip.AddrFrom16(target), ours6, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := parse(b); !ok {
			t.Fatalf("announcement of %s ignored: % x", netip.AddrFrom16(target), b)
		}
	}
}

func FuzzParseND(f *testing.F) {
	for _, c := range ndCases {
		f.Add(ndPacket(f, c.from, c.to, c.message))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 14+40+4 { // nearly all mutations break the checksum: fix it, to get past it
			ip, message := b[14:], b[14+40:]
			message = message[:min(len(message), max(4, int(binary.BigEndian.Uint16(ip[4:]))))]
			message[2], message[3] = 0, 0
			sum := checksum(netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), message)
			binary.BigEndian.PutUint16(message[2:], sum)
		}
		h, ok := parseAny(t, b)
		if !ok || h.Address.Is4() {
			return
		}
		// Where the ndp package reads it too, it agrees.
		switch m, _ := ndp.ParseMessage(b[14+40:]); m := m.(type) {
		case *ndp.NeighborAdvertisement:
			if m.TargetAddress != h.Address || h.Probe {
				t.Errorf("reply %+v of %+v", h, m)
			}
		case *ndp.NeighborSolicitation:
			if h.Probe && m.TargetAddress != h.Address {
				t.Errorf("reply %+v of %+v", h, m)
			}
		}
	})
}
