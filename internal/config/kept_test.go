package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A hook that was removed, and a password file that is not mounted, end no
// protection.
func TestKeptSettingsWhoseFilesAreGone(t *testing.T) {
	dir := t.TempDir()
	hook, password := filepath.Join(dir, "fence"), filepath.Join(dir, "password")
	for _, path := range []string{hook, password} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Appendf(nil, "clusters:\n  web:\n    host: 172.16.0.2\n    vip: 172.16.0.1\n    pre-takeover: %s\n    mail-user: ops\n    mail-password-file: %s\n    mail-via: smtps://mail\n", hook, password)
	env := rootOn("standby")
	if _, err := clustersIn("p.yaml", text, nil, env); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{hook, password} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := clustersIn("p.yaml", text, nil, env); err == nil {
		t.Error("the file itself is valid without them")
	}
	env.Kept = true
	clusters, err := clustersIn("p.yaml", text, nil, env)
	if err != nil || clusters[0].Hooks.PreTakeover[0] != hook || clusters[0].Mail.User != "ops" {
		t.Errorf("%v, %+v", err, clusters)
	}
	if _, err := clustersIn("p.yaml", []byte("clusters: {web: {host: 172.16.0.2, count: 0}}"), nil, env); err == nil {
		t.Error("an error of the text itself is ignored")
	}
}
