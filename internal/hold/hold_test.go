package hold

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/vip"
)

// etcd has the key of this machine.
type etcd struct{}

func (etcd) Read(context.Context, string) (arbiter.Entry, error) {
	return arbiter.Entry{Revision: 1, ClusterID: "1"}, nil
}

func (etcd) Swap(_ context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	return true, arbiter.Entry{Value: v, Revision: at + 1, ClusterID: "1"}, nil
}

func (e etcd) Renew(ctx context.Context, cluster string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	return e.Swap(ctx, cluster, at, v)
}

func (etcd) Agree(context.Context, string) error { return nil }

// tool cannot set a lifetime.
type tool struct{ removed bool }

func (*tool) Renew(context.Context, vip.Alias) ([]proc.Result, error) {
	return nil, errors.New("exit code 1")
}

func (t *tool) Lower(context.Context, netip.Addr, ...string) ([]proc.Result, error) {
	t.removed = true
	return nil, nil
}

// An address whose lifetime cannot be set stays only where the one that it has ends in
// time: after the ttl was decreased it may not.
func TestALifetimeThatCannotBeSet(t *testing.T) {
	t.Parallel()
	clock := func() time.Duration { return time.Hour }
	s := arbiter.NewSession(arbiter.Env{Store: etcd{}, Stack: func() (string, error) { return "one", nil }, Boot: clock, Monotonic: clock}, "web", "host", 3*time.Minute)
	s.Begin(nil, false)
	s.Renew(t.Context())
	for shown, stays := range map[time.Duration]bool{time.Second: true, 174 * time.Second: true, 175 * time.Second: false, time.Hour: false, 0: false} {
		tool := new(tool)
		k := Keeper{Arbiter: s, Tool: tool}
		alias := vip.Alias{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Interface: "eth0", Lease: shown, Strict: true}
		_, got, err := k.renew(t.Context(), observe.Local{}, alias, func(context.Context, bool) (func(), error) { return func() {}, nil })
		if got != stays || tool.removed == stays || (err != nil) != stays {
			t.Errorf("it has %s: stays %t, removed %t, %v; want %t", shown, got, tool.removed, err, stays)
		}
	}
}
