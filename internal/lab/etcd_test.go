package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// etcd starts a cluster with so many members on a switch of their own.
func etcd(t *testing.T, members int, o EtcdOptions) *Etcd {
	t.Helper()
	Need(t, "etcd", "etcd-server")
	t.Parallel()
	l := ForTest(t)
	var hosts []*Host
	for n := range members {
		h, err := l.Add(fmt.Sprintf("etcd%d", n+1), fmt.Sprintf("10.0.0.%d/24", 11+n))
		ok(t, err)
		hosts = append(hosts, h)
	}
	e, err := l.Etcd(o, hosts...)
	ok(t, err)
	return e
}

func wantKey(t *testing.T, e *Etcd, value string, revision int64) {
	t.Helper()
	got, at, err := e.Get("pingover/web")
	ok(t, err)
	if got != value || at != revision {
		t.Errorf("value %q at revision %d, want %q at %d", got, at, value, revision)
	}
}

func TestEtcdWithTLSAndUsers(t *testing.T) {
	ca, err := NewAuthority()
	ok(t, err)
	e := etcd(t, 3, EtcdOptions{CA: ca, ClientCerts: true})
	if urls := strings.Join(e.URLs(), " "); urls != "https://10.0.0.11:2379 https://10.0.0.12:2379 https://10.0.0.13:2379" {
		t.Errorf("members %s", urls)
	}
	wantKey(t, e, "", 0)
	ok(t, e.Put("pingover/web", "standby"))
	wantKey(t, e, "standby", 2)

	// With the certificate of a member, which has no common name.
	ok(t, e.AddUser("pingover", "secret", "pingover/"))
	wantKey(t, e, "standby", 2)
	var got struct{ Token string }
	ok(t, e.Members[0].post("auth/authenticate", "", map[string]string{"name": "pingover", "password": "secret"}, &got))
	for key, allowed := range map[string]bool{"pingover/web": true, "other": false} {
		if err := e.Members[0].post("kv/range", got.Token, map[string]any{"key": []byte(key)}, nil); (err == nil) != allowed {
			t.Errorf("%s: %v, want it to be allowed: %v", key, err, allowed)
		}
	}
	if err := e.Members[0].post("kv/range", "", map[string]any{"key": []byte("pingover/web")}, nil); err == nil {
		t.Error("it answers without a password")
	}
}

func TestEtcdGoesOnWithoutItsLeader(t *testing.T) {
	e := etcd(t, 3, EtcdOptions{})
	ok(t, e.Put("pingover/web", "standby"))
	leader, err := e.Leader()
	ok(t, err)
	ok(t, leader.Freeze())
	eventually(t, func() bool { return e.Put("pingover/web", "second") == nil })
	ok(t, leader.Thaw())
	ok(t, leader.Host.PowerOff())
	ok(t, leader.Host.PowerOn())
	ok(t, leader.Start())
	ok(t, leader.Await())
	if got, _, err := e.Get("pingover/web"); err != nil || got != "second" { // a write without an answer may have been made too
		t.Errorf("value %q, %v", got, err)
	}

	for _, m := range e.Members[:2] {
		ok(t, m.Freeze())
	}
	// Alone one of three answers no more; the others may take a moment to stop.
	eventually(t, func() bool {
		return e.Members[2].call("kv/range", map[string]any{"key": []byte("pingover/web")}, nil) != nil
	})
}

func TestEtcdRestoredFromABackup(t *testing.T) {
	Need(t, "etcdctl", "etcd-client")
	e := etcd(t, 3, EtcdOptions{})
	ok(t, e.Put("pingover/web", "standby"))
	ok(t, e.Backup())
	ok(t, e.Put("pingover/web", "second"))
	ok(t, e.Delete("pingover/web"))
	wantKey(t, e, "", 0)
	ok(t, e.Restore())
	wantKey(t, e, "standby", 2)
	ok(t, e.Put("pingover/web", "second"))
	wantKey(t, e, "second", 3)
}

func TestEtcdWithoutAGateway(t *testing.T) {
	e := etcd(t, 1, EtcdOptions{NoGateway: true})
	if _, _, err := e.Get("pingover/web"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v, want 404", err)
	}
	if log := e.Members[0].Stop(); log == "" {
		t.Error("it has no log")
	}
}

func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not come true in 20s")
		}
	}
}
