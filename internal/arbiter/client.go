package arbiter

import (
	"context"
)

// Client asks etcd's members by its JSON gateway, one after the other. The zero
// Client has none; it connects at its first request.
type Client struct {
	Settings
	read func(path string) ([]byte, error)
}

// NewClient is a Client for the settings; read reads their files. Nothing is read or
// connected yet.
func NewClient(s Settings, read func(path string) ([]byte, error)) *Client {
	return &Client{Settings: s, read: read}
}

// Read implements Store.
func (c *Client) Read(ctx context.Context, cluster string) (Entry, error) { return Entry{}, nil }

// Swap implements Store.
func (c *Client) Swap(ctx context.Context, cluster string, at int64, v Value) (ok bool, revision int64, err error) {
	return false, 0, nil
}

// Agree implements Store.
func (c *Client) Agree(ctx context.Context, clusterID string) error { return nil }

// Version is the version that a member says it has: "3.4.23".
func (c *Client) Version(ctx context.Context, member string) (string, error) { return "", nil }

// Only is a client for one of the members.
func (c *Client) Only(member string) *Client {
	only := c.Settings
	only.Members = []string{member}
	return NewClient(only, c.read)
}
