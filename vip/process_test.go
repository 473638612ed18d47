package vip

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/lab"
	"pingover/internal/proc"
)

// TestSnapshotIsNeverOlderThanTheCall: calls while a snapshot is taken share
// the next one.
func TestSnapshotIsNeverOlderThanTheCall(t *testing.T) {
	var s snapshots
	var mu sync.Mutex
	var begins []time.Time
	take := func() (*Snapshot, error) {
		mu.Lock()
		begins = append(begins, time.Now())
		n := len(begins)
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		return &Snapshot{Links: []Link{{Index: n}}}, nil
	}
	began := time.Now()
	var callers sync.WaitGroup
	for i := range 1000 {
		callers.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Microsecond)
			called := time.Now()
			k, err := s.take(take)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || begins[k.Links[0].Index-1].Before(called) {
				t.Errorf("called at %v, the snapshot began at %v: %v", called, begins[k.Links[0].Index-1], err)
			}
		})
	}
	callers.Wait()
	if most := int(time.Since(began)/(2*time.Millisecond)) + 1; len(begins) > most {
		t.Errorf("%d snapshots in the time of %d", len(begins), most)
	}
}

// TestLabelsChosenSideBySide: a label that a snapshot does not show yet is
// reserved, and free again when a later one does not show it.
func TestLabelsChosenSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l labels
		k := &Snapshot{Links: []Link{{Name: "eth0"}}}
		choose := func(snapshot time.Time) (string, func()) {
			label, done, err := l.choose(snapshot, func(taken []string) (string, error) {
				label, _ := FreeLabel(k, "eth0", taken...)
				return label, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return label, done
		}
		snapshot := time.Now()
		first, done := choose(snapshot)
		second, _ := choose(snapshot)
		time.Sleep(time.Second)
		done()
		third, _ := choose(snapshot) // from before
		time.Sleep(time.Second)
		fourth, _ := choose(time.Now())
		if got, want := fmt.Sprintln(first, second, third, fourth), "eth0:1 eth0:2 eth0:3 eth0:1\n"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestRaisedSideBySide: many clusters of one process that add at the same time
// all succeed, each with a label of its own.
func TestRaisedSideBySide(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		path, err := proc.Find("ip")
		if err != nil {
			t.Fatal(err)
		}
		tool := Tool{Name: "ip", Path: path, Process: new(Process)}
		const n = 50
		var labels sync.Map
		var raising sync.WaitGroup
		for i := range n {
			raising.Go(func() {
				addr := netip.AddrFrom4([4]byte{172, 16, 1, byte(i)})
				label, _, err := tool.Raise(t.Context(), Alias{Prefix: netip.PrefixFrom(addr, 32), Interface: "eth0"})
				if other, taken := labels.LoadOrStore(label, addr); err != nil || taken {
					t.Errorf("%s with label %q, which %v has: %v", addr, label, other, err)
				}
			})
		}
		raising.Wait()
		k, err := TakeSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if addr := netip.AddrFrom4([4]byte{172, 16, 1, byte(i)}); len(k.Assignments(addr)) != 1 {
				t.Errorf("%s: assignments %v", addr, k.Assignments(addr))
			}
		}
	})
}

// TestListenersShareOneSocket: listeners of one process share the packet socket
// of their link, each gets the replies for its addresses, and the last closes
// it.
func TestListenersShareOneSocket(t *testing.T) {
	onHost(t, func(t *testing.T, l *lab.Lab) *lab.Host {
		h := standby()(t, l)
		if _, err := l.Add("gateway", "172.16.0.254/24"); err != nil {
			t.Fatal(err)
		}
		return h
	}, func(t *testing.T) {
		k, err := TakeSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		link, _ := k.Link("eth0")
		witness := netip.MustParseAddr("172.16.0.254")
		var process Process
		listeners := make([]*Listener, 20)
		for i := range listeners {
			if listeners[i], err = process.Open(link, k.OwnReply, witness, netip.AddrFrom4([4]byte{172, 16, 1, byte(i)})); err != nil {
				t.Fatal(err)
			}
		}
		if got := openSockets(t); got != 1 {
			t.Errorf("%d packet sockets for %d listeners", got, len(listeners))
		}
		asked := time.Now()
		for _, w := range listeners {
			if err := w.Ask(witness, netip.MustParseAddr("172.16.0.3")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		for i, w := range listeners {
			if replies := w.Replies(asked); len(replies) != 1 {
				t.Errorf("listener %d: replies %v", i, replies)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if want := min(1, len(listeners)-1-i); openSockets(t) != want {
				t.Errorf("%d packet sockets after %d listeners are closed, want %d", openSockets(t), i+1, want)
			}
		}
	})
}

// openSockets counts the packet sockets of this network namespace.
func openSockets(t *testing.T) int {
	data, err := os.ReadFile("/proc/thread-self/net/packet")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n") - 1 // without the heading
}

// TestSharedQuestionCannotBeSent: a listener whose question was to be sent
// later gets an error, so that silence does not count.
func TestSharedQuestionCannotBeSent(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		k, err := TakeSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		link, _ := k.Link("eth0")
		var process Process
		open := func(addrs ...netip.Addr) *Listener {
			w, err := process.Open(link, k.OwnReply, addrs...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = w.Close() })
			return w
		}
		other := netip.MustParseAddr("172.16.0.7")
		first, second, third := open(vip4), open(vip4, other), open(other)

		// From now on the link's queue accepts nothing, as when it is full.
		if out, err := exec.Command("tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo", "limit", "0").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		frame, err := second.request(vip4, ours4)
		if err != nil {
			t.Fatal(err)
		}
		second.arp.mu.Lock()
		second.arp.requests[string(frame)] = request{by: first, at: time.Now()}
		second.arp.mu.Unlock()
		changed := second.Changed()
		if err := second.Ask(vip4, ours4); err != nil {
			t.Fatalf("a question to be sent later: %v", err)
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Second):
			t.Fatal("no error for a question that could not be sent")
		}
		want := "eth0: asking for 172.16.0.1: no buffer space available"
		for i, w := range []*Listener{first, second} {
			if err := w.Err(); err == nil || err.Error() != want {
				t.Errorf("listener %d: got %v, want %q", i, err, want)
			}
		}
		if err := third.Err(); err != nil {
			t.Errorf("a listener for another address: %v", err)
		}
		if err := third.Ask(other, ours4); err == nil {
			t.Error("a question that cannot be sent at once: no error")
		}
	})
}
