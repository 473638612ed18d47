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

// TestALookIsNeverOlderThanTheQuestion: whoever asks while a look is under way
// gets the next one, and all who do share it.
func TestALookIsNeverOlderThanTheQuestion(t *testing.T) {
	var l looks
	var mu sync.Mutex
	var begun []time.Time
	take := func() (*Snapshot, error) {
		mu.Lock()
		begun = append(begun, time.Now())
		n := len(begun)
		mu.Unlock()
		time.Sleep(2 * time.Millisecond)
		return &Snapshot{Links: []Link{{Index: n}}}, nil
	}
	began := time.Now()
	var asking sync.WaitGroup
	for i := range 1000 {
		asking.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Microsecond)
			asked := time.Now()
			k, err := l.take(take)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || begun[k.Links[0].Index-1].Before(asked) {
				t.Errorf("asked at %v, and the look began at %v: %v", asked, begun[k.Links[0].Index-1], err)
			}
		})
	}
	asking.Wait()
	if most := int(time.Since(began)/(2*time.Millisecond)) + 1; len(begun) > most {
		t.Errorf("%d looks in the time of %d", len(begun), most)
	}
}

// TestLabelsChosenSideBySide: a label that a look does not show yet is nobody
// else's, and is free again when it has gone.
func TestLabelsChosenSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l labels
		k := &Snapshot{Links: []Link{{Name: "eth0"}}}
		choose := func(looked time.Time) (string, func()) {
			label, done, err := l.choose(looked, func(taken []string) (string, error) {
				label, _ := FreeLabel(k, "eth0", taken...)
				return label, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return label, done
		}
		looked := time.Now()
		first, done := choose(looked)
		second, _ := choose(looked)
		time.Sleep(time.Second)
		done()
		third, _ := choose(looked) // it has not looked since
		time.Sleep(time.Second)
		fourth, _ := choose(time.Now())
		if got, want := fmt.Sprintln(first, second, third, fourth), "eth0:1 eth0:2 eth0:3 eth0:1\n"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestRaisedSideBySide: many who raise at the same time, in one process, all
// get what they want, each under a label of its own.
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
					t.Errorf("%s under %q, which %v has: %v", addr, label, other, err)
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
				t.Errorf("%s stands at %v", addr, k.Assignments(addr))
			}
		}
	})
}

// TestManyListenAtOneSocket: wires of one process share the packet socket of
// their link, each hears what it named, and the last to leave closes it.
func TestManyListenAtOneSocket(t *testing.T) {
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
		wires := make([]*Listener, 20)
		for i := range wires {
			if wires[i], err = process.Open(link, k.OwnMAC, witness, netip.AddrFrom4([4]byte{172, 16, 1, byte(i)})); err != nil {
				t.Fatal(err)
			}
		}
		if got := openTaps(t); got != 1 {
			t.Errorf("%d packet sockets for %d wires", got, len(wires))
		}
		asked := time.Now()
		for _, w := range wires {
			if err := w.Ask(witness, netip.MustParseAddr("172.16.0.3")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(500 * time.Millisecond)
		for i, w := range wires {
			// One reply to the first, one to all who asked a moment later.
			if heard := w.Replies(asked); len(heard) < 1 || len(heard) > 3 {
				t.Errorf("wire %d heard %v", i, heard)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if want := min(1, len(wires)-1-i); openTaps(t) != want {
				t.Errorf("%d packet sockets after %d wires are closed, want %d", openTaps(t), i+1, want)
			}
		}
	})
}

// openTaps counts the packet sockets of this network namespace.
func openTaps(t *testing.T) int {
	data, err := os.ReadFile("/proc/thread-self/net/packet")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n") - 1 // without the heading
}

// TestAQuestionThatWaitedAndCouldNotBeSent: who was told that its question will
// be sent learns that it was not, so that silence does not count.
func TestAQuestionThatWaitedAndCouldNotBeSent(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		k, err := TakeSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		link, _ := k.Link("eth0")
		var process Process
		open := func(addrs ...netip.Addr) *Listener {
			w, err := process.Open(link, k.OwnMAC, addrs...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = w.Close() })
			return w
		}
		other := netip.MustParseAddr("172.16.0.7")
		first, second, third := open(vip4), open(vip4, other), open(other)

		// From here on the link's queue takes nothing, as when it is full.
		if out, err := exec.Command("tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo", "limit", "0").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		frame, err := second.question(vip4, ours4)
		if err != nil {
			t.Fatal(err)
		}
		second.arp.mu.Lock()
		second.arp.asked[string(frame)] = question{time.Now(), first}
		second.arp.mu.Unlock()
		news := second.Changed()
		if err := second.Ask(vip4, ours4); err != nil {
			t.Fatalf("a question that is to wait: %v", err)
		}
		select {
		case <-news:
		case <-time.After(5 * time.Second):
			t.Fatal("no word of a question that could not be sent")
		}
		want := "eth0: asking for 172.16.0.1: no buffer space available"
		for i, w := range []*Listener{first, second} {
			if err := w.Err(); err == nil || err.Error() != want {
				t.Errorf("wire %d: got %v, want %q", i, err, want)
			}
		}
		if err := third.Err(); err != nil {
			t.Errorf("a wire that asks for another address: %v", err)
		}
		if err := third.Ask(other, ours4); err == nil {
			t.Error("a question that cannot be sent at once: no error")
		}
	})
}
