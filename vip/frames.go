package vip

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// frameReader reads frames with the time at which the kernel received them: a
// process that stood still, or that got no CPU, would take all that came meanwhile
// for one moment's.
type frameReader struct {
	raw     syscall.RawConn
	frame   []byte
	control []byte
	empty   time.Time // when nothing was left to be read
}

func newFrameReader(conn *packet.Conn) (*frameReader, error) {
	raw, err := conn.SyscallConn()
	return &frameReader{raw: raw, frame: make([]byte, maxFrame), control: make([]byte, 64), empty: time.Now()}, err
}

// next waits for a frame, which is valid until the next call.
func (r *frameReader) next() (frame []byte, at time.Time, err error) {
	var n, controls int
	closed := r.raw.Read(func(fd uintptr) (done bool) {
		for {
			n, controls, _, _, err = unix.Recvmsg(int(fd), r.frame, r.control, 0)
			switch err {
			case unix.EINTR:
			case unix.EAGAIN:
				r.empty = time.Now()
				return false
			default:
				return true
			}
		}
	})
	if closed != nil {
		return nil, time.Time{}, closed
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	return r.frame[:n], arrival(time.Now(), r.empty, r.control[:controls]), nil
}

// arrival is when a frame was received that is read now, by the kernel's stamp of
// the wall clock. It is neither after now nor before the socket was last empty,
// whatever the wall clock did meanwhile. Without a stamp it is now.
func arrival(now, empty time.Time, control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return now
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		var stamp time.Time
		switch len(m.Data) { // struct timespec
		case 16:
			stamp = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case 8:
			stamp = time.Unix(int64(binary.NativeEndian.Uint32(m.Data)), int64(binary.NativeEndian.Uint32(m.Data[4:])))
		default:
			continue
		}
		at := now.Add(-max(0, now.Round(0).Sub(stamp)))
		if at.Before(empty) {
			return empty
		}
		return at
	}
	return now
}

// parse reads one frame as it was received; the address is as in the packet.
func parse(frame []byte) (r Reply, ok bool) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame); err != nil || f.VLAN != nil {
		return Reply{}, false
	}
	switch f.EtherType {
	case ethernet.EtherTypeARP:
		r, ok = parseARP(f.Payload)
	case ethernet.EtherTypeIPv6:
		r, ok = parseND(f.Payload, f.Source)
	}
	r.Source = f.Source
	if f.Destination[0]&1 == 1 { // multicast or broadcast
		r.Direct, r.To = false, netip.Addr{}
	}
	return r, ok
}
