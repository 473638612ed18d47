package failover

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/lab"
)

// The model of the whole system: machines, the network between them, and the
// real CheckIn on each standby, in schedules made from seeds.
//
//	go test ./internal/failover -run 'TestModel$' -timeout 0 -v -model.count=1000000
//	go test ./internal/failover -run 'TestModel$' -model.seed=N   # plays one again, and says all
//
// PINGOVER_TEST_SEED is the first seed. A schedule takes about 5 ms of one
// processor, a third of it in the kernel, for the records are files.

var (
	modelTime  = flag.Duration("model.time", 0, "how long schedules of the model are played")
	modelCount = flag.Int("model.count", 0, "how many schedules of the model are played")
	modelAll   = flag.Bool("model.survey", false, "go on after a broken property, and count them")
	modelFasts = flag.Int("model.fast", 10, "in how many percent of the schedules of the model pingover runs as a watch with the fast line")
	modelSeed  = flag.Uint64("model.seed", 0, "the one schedule of the model that is played")
)

// modelSeeds are played first: schedules that once broke a property. They
// mean what they meant only until the plans change.
var modelSeeds = []uint64{
	50013316,  // announcements that came while a run stood still were taken for one frame
	100050228, // a holder that stood still announced before it had asked
	120082795, // an address was assigned that another machine had announced while the ones before it were
	130114877, // a run that stood still asked by a probe although the primary had replied
}

// How long a test plays with -short, without it, and with PINGOVER_TEST_LONG.
const (
	modelShort    = time.Second
	modelDefault  = 3 * time.Second
	modelThorough = time.Minute
)

func TestModel(t *testing.T) {
	t.Parallel()
	playArranged(t, (*plan).anything, modelSeeds)
}

// playArranged plays schedules of one kind, as the flags say; first those of some
// seeds.
func playArranged(t *testing.T, arrange func(*plan), seeds []uint64) {
	if *modelSeed != 0 {
		seeds = []uint64{*modelSeed}
	}
	for _, seed := range seeds {
		if n := replay(t, seed, memoryDir(t), arrange); len(n.broken) > 0 {
			t.Errorf("seed %d: %s", seed, strings.Join(n.broken, "\n"))
		}
	}
	if *modelSeed != 0 {
		return
	}
	start, err := strconv.ParseUint(os.Getenv("PINGOVER_TEST_SEED"), 10, 64)
	if err != nil {
		start = uint64(time.Now().UnixNano())
	}
	length := *modelTime
	if length == 0 {
		switch length = modelDefault; {
		case lab.LongRun():
			length = modelThorough
		case testing.Short():
			length = modelShort
		}
	}
	if !*modelAll {
		playMany(t, start, length, *modelCount, arrange, nil)
		return
	}
	broken := map[string][]uint64{}
	playMany(t, start, length, *modelCount, arrange, func(n *model) {
		for _, b := range n.broken {
			broken[kindOf(b)] = append(broken[kindOf(b)], n.seed)
		}
	})
	for what, s := range broken {
		t.Errorf("%d times, as with the seeds %d: %s", len(s), s[:min(3, len(s))], what)
	}
}

// kindOf is what was broken without the names and the numbers in it.
func kindOf(broken string) string {
	return regexp.MustCompile(`[0-9.]+(m[0-9.]+)?s|20000101T[0-9A-Z-]+|one|two|three|02:.*`).ReplaceAllString(broken, "…")
}

// playMany plays schedules on all processors, until so much time has passed
// or, when count is not 0, so many were played. The first that breaks a
// property ends it. Each is shown to see when it is not nil.
func playMany(t *testing.T, start uint64, length time.Duration, count int, arrange func(*plan), see func(*model)) int {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is little to keep
	base := memoryDir(t)
	began := time.Now()
	var played, failed atomic.Int64
	var workers sync.WaitGroup
	var mu sync.Mutex
	for w := range 2 * runtime.GOMAXPROCS(0) {
		dir := filepath.Join(base, fmt.Sprint(w))
		workers.Go(func() {
			for failed.Load() == 0 {
				i := int(played.Add(1)) - 1
				if count > 0 && i >= count || count == 0 && time.Since(began) > length {
					played.Add(-1)
					return
				}
				n := &model{seed: start + uint64(i)}
				playOne(t, n, dir, arrange)
				if see != nil {
					mu.Lock()
					see(n)
					mu.Unlock()
				} else if len(n.broken) > 0 {
					failed.Add(1)
					mu.Lock()
					failSeed(t, n.seed, arrange)
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	t.Logf("seeds %d to %d: %d schedules in %v, %.0f a second", start, start+uint64(played.Load())-1, played.Load(), took.Round(time.Millisecond), float64(played.Load())/took.Seconds())
	return int(played.Load())
}

// playOne plays one schedule.
func playOne(t *testing.T, n *model, dir string, arrange func(*plan)) {
	_ = os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		playModel(t.Context(), n, dir, arrange)
		time.Sleep(time.Hour) // a run that stalled may have been abandoned, and stalls yet
	})
}

// replay plays a schedule and logs what happens.
func replay(t *testing.T, seed uint64, dir string, arrange func(*plan)) *model {
	t.Helper()
	n := &model{seed: seed}
	n.log = func(line string) { t.Log(line) }
	playOne(t, n, filepath.Join(dir, "replay"), arrange)
	return n
}

func failSeed(t *testing.T, seed uint64, arrange func(*plan)) {
	t.Helper()
	n := replay(t, seed, memoryDir(t), arrange)
	t.Errorf("seed %d: %s", seed, strings.Join(n.broken, "\n"))
}

// memoryDir is a directory in memory where there is one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pingover-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// The limit of what can be known, in schedules of one kind: the primary and
// one or both standbys stop hearing each other for a while, both live, and
// the clients hear all of them. The witness is on the standbys' side, or on
// that of the primary and the clients.

// torn arranges such a schedule. The same seed makes the same one, wherever
// the witness is.
func torn(witnessFar, fence bool) func(*plan) {
	return func(p *plan) {
		p.build(false)
		n := p.n
		for range 1 + p.IntN(2) {
			side, from := 1+p.IntN(3), p.moment()
			ways := func(to path) func() {
				return func() {
					for i, s := range p.standbys() {
						if (1+i)&side == 0 {
							continue
						}
						n.paths[s.i][n.primary.i], n.paths[n.primary.i][s.i] = to, to
						if witnessFar {
							n.paths[s.i][n.witness.i], n.paths[n.witness.i][s.i] = to, to
						}
					}
				}
			}
			p.at(from, fmt.Sprintf("standbys %02b do not hear the primary, nor it them", side), ways(path{cut: true}))
			p.at(from+time.Duration(p.Int64N(int64(2*modelEvery))), fmt.Sprintf("standbys %02b and the primary hear each other", side), ways(path{}))
		}
		if p.percent(50) {
			k := kill{act: 1 + p.IntN(6), after: p.percent(50)}
			u := p.pick(p.standbys())
			p.at(p.moment(), fmt.Sprintf("the next run of %s is to be killed: %+v", u.name, k), func() { u.next = &k })
		}
		if p.percent(40) {
			p.at(p.moment(), "the primary loses power", n.primary.crash)
		}
		if fence {
			n.raising = func(*modelRun) { n.primary.crash() }
		}
	}
}

// TestTheLimit: what no witness beside the standby can know, it does not
// know; then two machines have the address at once. A witness on the far
// side, or fencing, takes that away.
func TestTheLimit(t *testing.T) {
	t.Parallel()
	schedules := 300
	if testing.Short() {
		schedules = 50
	}
	for _, test := range []struct {
		name              string
		witnessFar, fence bool
		want              bool
	}{
		{"the witness hears the standby only", false, false, true},
		{"the witness hears the primary as the clients do", true, false, false},
		{"the primary is fenced", false, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			split, took := 0, 0
			played := playMany(t, 1, 0, schedules, torn(test.witnessFar, test.fence), func(n *model) {
				split += min(1, n.split)
				took += min(1, n.took)
			})
			t.Logf("of %d schedules, %d had a takeover, and %d had the address on the primary and on a standby at once", played, took, split)
			if split > 0 != test.want {
				t.Errorf("%d of %d schedules had the address on two machines, want any: %t", split, played, test.want)
			}
		})
	}
}
