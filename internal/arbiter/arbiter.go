// Package arbiter asks etcd which machine may hold a cluster's virtual IPs: one
// key for each cluster, read and changed only by compare-and-swap.
//
// etcd's own leases are not used: after an election they were revoked right after
// a successful renewal, which leaves two holders. Instead the holder's addresses
// have a lifetime in the kernel that ends before any other machine may take the
// key, and the others measure by their own clock that the key does not change.
package arbiter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// RequestTimeout is how long one member may take to answer. A new leader is
	// elected within 1 to 1.8 s; a member without quorum answers after 7 s.
	RequestTimeout = 1500 * time.Millisecond

	// MinTTL and MaxTTL are the range of the setting arbiter-ttl.
	MinTTL = 6 * time.Second
	MaxTTL = time.Hour

	keyPrefix = "pingover/"
	version   = 1 // of a value

	maxHostname = 64 // bytes, as in the kernel; of another machine nothing longer is shown
)

// Settings are where the key is, and how it is asked for. Without members there is
// no arbiter.
type Settings struct {
	Members []string // URLs of etcd's members: https://10.0.0.11:2379
	TTL     time.Duration
	// PEM files. CA: the roots of the members' certificates, "" for this machine's;
	// Cert and CertKey: this machine's certificate, "" for none.
	CA, Cert, CertKey string
	User              string // of etcd's RBAC; "" for none
	PasswordFile      string
}

// Set tells whether there is an arbiter.
func (s Settings) Set() bool { return len(s.Members) > 0 }

// Key is the key of a cluster in etcd.
func Key(cluster string) string { return keyPrefix + cluster }

// Value is what the key says.
type Value struct {
	Holder string        // host name of the holder; "": nobody
	Stack  string        // its network stack, see Stack
	TTL    time.Duration // how long it keeps others out without a renewal, whole seconds
}

// Entry is the key at the moment of a read.
type Entry struct {
	Value
	Absent    bool   // there is no key; Revision is 0
	Unknown   string // why the value cannot be used, in words: the holder is unknown; "" for nothing
	Revision  int64  // of the key's last change
	ClusterID string // of etcd's cluster
	Member    string // URL of the member that answered
}

// Store is what holds the keys: etcd, by a Client.
type Store interface {
	// Read is a linearizable read of the cluster's key. The error is an *Error, or the
	// context's.
	Read(ctx context.Context, cluster string) (Entry, error)
	// Swap changes the key if its revision is still at, which is 0 for an absent key. ok
	// is false where it is another; else now is the key as it was written. After an
	// error the change may have been made, or may still be.
	Swap(ctx context.Context, cluster string, at int64, v Value) (ok bool, now Entry, err error)
	// Renew is Swap for a key that was not read before: it has to have that value too,
	// for after a restored backup the same revision may be another machine's.
	Renew(ctx context.Context, cluster string, at int64, v Value) (ok bool, now Entry, err error)
	// Agree returns an error where members that answer belong to another cluster of etcd
	// than this one, so that two machines could hold by two keys: of kind Different; of
	// kind TooFew where those that do not answer may.
	Agree(ctx context.Context, clusterID string) error
}

// Env is what the arbiter's part of a check uses of the world.
type Env struct {
	Store // nil: no arbiter
	// Stack is the function Stack; Boot and Monotonic are clocks, of which only
	// differences within one boot mean anything.
	Stack           func() (string, error)
	Boot, Monotonic func() time.Duration
}

// Close closes the store's connections.
func (e Env) Close() {
	if c, ok := e.Store.(*Client); ok {
		c.Close()
	}
}

// Real is the environment as it is, with that store.
func Real(s Store) Env {
	clock := func(id int32) func() time.Duration {
		return func() time.Duration {
			var t unix.Timespec
			_ = unix.ClockGettime(id, &t) // fails for unknown clocks only
			return time.Duration(t.Nano())
		}
	}
	return Env{
		Store: s, Stack: Stack,
		// The end of a hold is measured by the clock that goes on while this machine
		// sleeps, and the wait of a standby by the one that does not: both err on the
		// safe side. The kernel's lifetimes follow the latter.
		Boot: clock(unix.CLOCK_BOOTTIME), Monotonic: clock(unix.CLOCK_MONOTONIC),
	}
}

type jsonValue struct {
	Version int    `json:"version"`
	Holder  string `json:"holder"`
	Stack   string `json:"stack"`
	TTL     int64  `json:"ttl_s"`
}

func (v Value) encode() []byte {
	text, _ := json.Marshal(jsonValue{Version: version, Holder: v.Holder, Stack: v.Stack, TTL: int64(v.TTL / time.Second)})
	return text
}

// decode reads a value. One that is not as this version writes it keeps everybody
// out like that of an unknown holder.
func decode(text []byte) (v Value, unknown string) {
	var j jsonValue
	err := json.Unmarshal(text, &j)
	if len(j.Holder) > maxHostname {
		j.Holder = strings.ToValidUTF8(j.Holder[:maxHostname], "") + "…"
	}
	v = Value{Holder: j.Holder, Stack: j.Stack, TTL: time.Duration(min(max(j.TTL, 0), int64(MaxTTL/time.Second))) * time.Second}
	switch {
	case err != nil:
		return Value{}, "its value is no JSON object of pingover"
	case j.Version != version:
		return v, fmt.Sprintf("its value has version %d, this program knows %d", j.Version, version)
	case j.Holder != "" && (j.Stack == "" || j.TTL < 1):
		return v, "its value lacks the stack or the ttl of its holder"
	}
	return v, ""
}

// Stack tells this network stack from all others: the boot, and the network
// namespace, for all namespaces of a machine share its boot.
func Stack() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("the boot id: %w", err)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil {
		return "", fmt.Errorf("the network namespace: %w", err)
	}
	return fmt.Sprintf("%s/%d", strings.TrimSpace(string(boot)), ns.Ino), nil
}
