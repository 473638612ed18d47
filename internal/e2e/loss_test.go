package e2e

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// What silence proves on a link that loses frames, by arithmetic and by
// measurement. Only what arrives at the primary is lost, so each ping and each
// question is lost or not by one throw of the dice.

// In a check with the default settings.
const (
	defaultPings     = 5  // in each of two rounds, and as many for the virtual IP beside the second
	defaultQuestions = 27 // by ARP beside the second round, for the primary and for the virtual IP each
)

// Half is lost. A round is silent once in 2^5 = 32 times, both once in 1,024;
// then 27 questions for the primary, 27 and 5 pings for the virtual IP would
// have to be lost as well: once in 2^69 checks the address is taken.
func TestHalfOfWhatReachesThePrimaryIsLost(t *testing.T) {
	checkLoss(t, 50, 200)
}

// Nine tenths are lost. A round is silent in 0.9^5 = 59 % of the cases, both
// in 35 %, and that all of 27 + 27 + 5 questions are lost then happens in 0.2 %
// of these: 0.07 % of the checks take the address, of a hundred hardly one.
func TestNineTenthsOfWhatReachesThePrimaryAreLost(t *testing.T) {
	checkLoss(t, 90, 100)
}

// checkLoss makes checks of a primary at which so many percent of what
// arrives are lost, and compares how they end with the arithmetic.
func checkLoss(t *testing.T, percent, checks int) {
	t.Helper()
	lab.Long(t)
	s := newScene(t)
	lost := float64(percent) / 100
	silent := math.Pow(lost, defaultPings)        // a round
	unasked := math.Pow(lost, 2*defaultQuestions) // no question is answered
	want := map[ending]float64{
		{state.OK, 1}:        1 - silent,
		{state.OK, 2}:        silent * (1 - silent),
		{state.Blocked, 2}:   silent * silent * (1 - unasked),
		{state.Elsewhere, 2}: silent * silent * unasked * (1 - silent), // only a ping of the virtual IP
		{state.TookOver, 2}:  silent * silent * unasked * silent,
	}

	// Side by side, all of them would hear the answer to the question of one:
	// so each has a primary and a virtual IP of its own, all on one machine.
	all := s.manyPrimaries(checks)
	sniffed := s.sniff(s.Gateway)
	args := func(i int) []string {
		// The defaults, but for the wait between the rounds.
		return []string{"--name", fmt.Sprint("p", i), "--host", all[i].host.String(), "--vip", all[i].vip.String(), "--retry-wait", "0"}
	}
	sideBySide(checks, 16, func(i int) {
		if e := s.check(s.Standby, args(i)...); e.Outcome != state.OK {
			t.Errorf("before anything is lost: %s", e.stdout)
		}
	})
	before := len(sniffed.all())
	s.must(s.Primary.Lose(percent))
	ends := make([]ended, checks)
	sideBySide(checks, 100, func(i int) { ends[i] = s.check(s.Standby, args(i)...) })
	s.must(s.Primary.Lose(0))

	questions := map[netip.Addr]int{}
	for _, f := range sniffed.all()[before:] {
		if f.what == "request" && f.source == s.Standby.MAC().String() {
			questions[f.target]++
		}
	}
	got := map[ending]int{}
	fewest := math.MaxInt
	for i, e := range ends {
		end := ending{e.Outcome, len(e.Rounds)}
		if _, ok := want[end]; !ok {
			t.Errorf("outcome %q after %d rounds: %s%s", e.Outcome, len(e.Rounds), e.stdout, e.stderr)
		}
		got[end]++
		if e.Outcome == state.Blocked {
			fewest = min(fewest, questions[all[i].host], questions[all[i].vip])
		}
	}
	for end, p := range want {
		least, most := bounds(checks, p)
		t.Logf("%d %% lost, %s after round %d: %d times of %d, expected %.2f, possible %d to %d", percent, end.outcome, end.rounds, got[end], checks, p*float64(checks), least, most)
		if n := got[end]; n < least || n > most {
			t.Errorf("%s after round %d: %d times, want %d to %d", end.outcome, end.rounds, n, least, most)
		}
	}
	if fewest < math.MaxInt {
		t.Logf("%d questions at the fewest", fewest)
	}
	if fewest < defaultQuestions*2/3 { // a busy machine is late
		t.Errorf("a check asked only %d times; the arithmetic is of %d", fewest, defaultQuestions)
	}
}

// ending is how a check ended, and after how many rounds.
type ending struct {
	outcome state.Outcome
	rounds  int
}

// How often a machine that has the address stays unheard, by the number of
// questions: the numbers in internal/failover/guards.go rest on this.
func TestHolderWhoseRepliesAreAllLost(t *testing.T) {
	const addresses, batches = 100, 5
	lab.Long(t)
	s := newScene(t)
	all := s.manyPrimaries(addresses)
	var asked []netip.Addr
	for _, p := range all {
		asked = append(asked, p.vip)
	}
	w := s.wire(s.Standby, asked...)
	s.must(s.Primary.Lose(50))
	for _, way := range []struct {
		name    string
		lossy   func() error
		answers float64 // of the questions
	}{
		{"one way", func() error { return s.Standby.Lose(0) }, 0.5},
		{"each way", func() error { return s.Standby.Lose(50) }, 0.25},
	} {
		s.must(way.lossy())
		for _, questions := range []int{3, 6, 9, 27} {
			unheard := 0
			for range batches {
				since := time.Now()
				for range questions {
					for i, a := range asked {
						s.must(w.Ask(a, s.Standby.Addr4()))
						if i%20 == 0 {
							time.Sleep(time.Millisecond) // or a queue overflows
						}
					}
				}
				time.Sleep(100 * time.Millisecond)
				heard := map[netip.Addr]bool{}
				for _, h := range w.Replies(since) {
					heard[h.Address] = true
				}
				unheard += len(asked) - len(heard)
			}
			s.must(w.Err())
			p := math.Pow(1-way.answers, float64(questions))
			least, most := bounds(addresses*batches, p)
			t.Logf("half lost %s, %d questions: unheard %d times of %d, %.3g %%; by arithmetic %.3g %%", way.name, questions, unheard, addresses*batches,
				100*float64(unheard)/(addresses*batches), 100*p)
			if unheard < least || unheard > most {
				t.Errorf("half lost %s, %d questions: unheard %d times, want %d to %d", way.name, questions, unheard, least, most)
			}
		}
	}
}

// primary is an address to ping, and the virtual IP that belongs to it.
type primary struct{ host, vip netip.Addr }

// manyPrimaries gives the Primary so many further addresses, at most 250 of
// each kind. The neighbour tables are filled manually: the kernel asks but
// three times, a second apart, and without a reply it lets all pings of a
// round wait for one answer; they would be lost together instead of one by one.
func (s *scene) manyPrimaries(n int) []primary {
	s.t.Helper()
	var all []primary
	there, here := new(strings.Builder), new(strings.Builder)
	for i := range n {
		p := primary{netip.AddrFrom4([4]byte{172, 16, 10, byte(i + 1)}), netip.AddrFrom4([4]byte{172, 16, 20, byte(i + 1)})}
		for _, a := range []netip.Addr{p.host, p.vip} {
			fmt.Fprintf(there, "addr add %s/32 dev eth0\n", a)
			fmt.Fprintf(here, "neigh replace %s lladdr %s nud permanent dev eth0\n", a, s.Primary.MAC())
		}
		all = append(all, p)
	}
	fmt.Fprintf(there, "neigh replace %s lladdr %s nud permanent dev eth0\n", s.Standby.Addr4(), s.Standby.MAC())
	for h, lines := range map[*lab.Host]*strings.Builder{s.Primary: there, s.Standby: here} {
		s.run(h, "sh", "-c", "echo '"+lines.String()+"' | ip -batch -")
	}
	return all
}

// sideBySide does it n times, so many at a time.
func sideBySide(n, atATime int, do func(int)) {
	var all sync.WaitGroup
	turn := make(chan struct{}, atATime)
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			do(i)
		})
	}
	all.Wait()
}

// bounds are the least and the most times that something of that probability
// happens in n tries; that it happens less or more often has a probability of
// 1e-7 each.
func bounds(n int, p float64) (least, most int) {
	const doubt = 1e-7
	chance := func(k int) float64 { // of exactly k times
		lgamma := func(x int) float64 { l, _ := math.Lgamma(float64(x + 1)); return l }
		return math.Exp(lgamma(n) - lgamma(k) - lgamma(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	most = n
	for sum := chance(least); sum < doubt; sum += chance(least) {
		least++
	}
	for sum := chance(most); sum < doubt; sum += chance(most) {
		most--
	}
	return least, most
}
