package failover

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/state"
)

// key is a register that always answers.
type key struct {
	mu       sync.Mutex
	value    arbiter.Value
	revision int64
}

func (k *key) Read(context.Context, string) (arbiter.Entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return arbiter.Entry{Value: k.value, Revision: k.revision, ClusterID: "1"}, nil
}

func (k *key) Swap(_ context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.swap(at, v)
}

func (k *key) swap(at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	if at != k.revision {
		return false, arbiter.Entry{}, nil
	}
	k.value, k.revision = v, k.revision+1
	return true, arbiter.Entry{Value: v, Revision: k.revision, ClusterID: "1"}, nil
}

func (k *key) Renew(_ context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v != k.value {
		return false, arbiter.Entry{}, nil
	}
	return k.swap(at, v)
}

func (*key) Agree(context.Context, string) error { return nil }

// A machine that was stopped as a whole in the middle of a check goes on with it, and
// finds that another one has the key: what it held is removed at once, and told.
func TestWhatIsLostInTheMiddleOfACheckIsTold(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.set("eth0", "172.16.0.1/32")
		k := &key{revision: 7}
		clock := func() time.Duration { return time.Hour + time.Since(s.began) }
		s.settings.Arbiter = arbiter.Settings{Members: []string{"etcd"}, TTL: 20 * time.Second}
		s.settings.StateDir = s.standby.dir
		time.AfterFunc(time.Second, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.value, k.revision = arbiter.Value{Holder: "two", Stack: "two", TTL: 20 * time.Second}, 9
		})
		env := s.standby.env()
		env.Arbiter = arbiter.Env{Store: k, Stack: func() (string, error) { return "one", nil }, Boot: clock, Monotonic: clock}
		report, err := CheckIn(t.Context(), env, s.settings, Options{})
		s.quiet()
		if err != nil {
			t.Fatal(err)
		}
		s.want(report, state.Released, "two holds the arbiter's key: 172.16.0.1 is removed here")
		if s.standby.holds(vipAddr) || !slices.ContainsFunc(s.subjects(), func(subject string) bool { return strings.Contains(subject, "released 172.16.0.1") }) {
			t.Errorf("here: %t, mail %q", s.standby.holds(vipAddr), s.subjects())
		}
	})
}

func TestATTLThatIsTooShortForTheCrontab(t *testing.T) {
	c := config.Cluster{Arbiter: arbiter.Settings{Members: []string{"etcd"}, TTL: 3 * time.Minute}}
	for gap, want := range map[time.Duration]string{
		time.Minute:      "",
		61 * time.Second: "arbiter-ttl 3m is shorter than three times the time between the last two checks, 1m1s: a late check loses the alias",
	} {
		if got := ShortLease(c, gap); got != want {
			t.Errorf("after %s: %q, not %q", gap, got, want)
		}
	}
}
