package arbiter

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxReply is how much of a reply is read. That of a txn has a few hundred bytes.
	maxReply = 64 << 10
	// idle is how long a connection waits for the next request of the run.
	idle = 10 * time.Second
)

// Client asks etcd's members by its JSON gateway, one after the other: the one that
// answered last comes first. It is for one goroutine at a time, but for Agree.
type Client struct {
	Settings
	read func(path string) ([]byte, error)

	http  *http.Client // once it is needed
	token string       // of User
	last  string       // the member that answered last
}

// NewClient is a Client for the settings; read reads their files. Nothing is read or
// connected yet.
func NewClient(s Settings, read func(path string) ([]byte, error)) *Client {
	return &Client{Settings: s, read: read}
}

// Only is a client for one of the members.
func (c *Client) Only(member string) *Client {
	only := c.Settings
	only.Members = []string{member}
	return NewClient(only, c.read)
}

// Close closes connections that are kept for the next request.
func (c *Client) Close() {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// The messages of etcd's API v3 as its gateway writes them: zero values are left out,
// int64 are strings, keys and values base64.
type (
	header struct {
		ClusterID string `json:"cluster_id"`
		Revision  int64  `json:"revision,string"`
	}
	rangeRequest struct {
		Key []byte `json:"key"`
	}
	rangeReply struct {
		Header header `json:"header"`
		KVs    []struct {
			Key         []byte `json:"key"`
			ModRevision int64  `json:"mod_revision,string"`
			Value       []byte `json:"value"`
		} `json:"kvs"`
	}
	compare struct { // with one of the last two
		Key         []byte `json:"key"`
		Target      string `json:"target"`
		Result      string `json:"result"`
		ModRevision *int64 `json:"mod_revision,string,omitempty"`
		Value       []byte `json:"value,omitempty"`
	}
	put struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	}
	operation struct {
		Put put `json:"request_put"`
	}
	txnRequest struct {
		Compare []compare   `json:"compare"`
		Success []operation `json:"success"`
	}
	txnReply struct {
		Header    header `json:"header"`
		Succeeded bool   `json:"succeeded"`
	}
	authRequest struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	authReply struct {
		Token string `json:"token"`
	}
	versionReply struct {
		Server string `json:"etcdserver"`
	}
)

// Read implements Store.
func (c *Client) Read(ctx context.Context, cluster string) (Entry, error) {
	var reply rangeReply
	// Linearizable, which is the default: a serializable read answers without quorum,
	// with old data.
	member, err := c.each(ctx, func(ctx context.Context, member string) error {
		reply = rangeReply{}
		err := c.ask(ctx, member, "/v3/kv/range", rangeRequest{Key: []byte(Key(cluster))}, &reply, &reply.Header)
		if kvs := reply.KVs; err == nil && len(kvs) > 0 && (len(kvs) > 1 || string(kvs[0].Key) != Key(cluster) || kvs[0].ModRevision < 1) {
			err = notEtcd(member)
		}
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	e := Entry{ClusterID: reply.Header.ClusterID, Member: member, Absent: len(reply.KVs) == 0}
	if !e.Absent {
		e.Revision = reply.KVs[0].ModRevision
		e.Value, e.Unknown = decode(reply.KVs[0].Value)
	}
	return e, nil
}

// Swap implements Store.
func (c *Client) Swap(ctx context.Context, cluster string, at int64, v Value) (ok bool, now Entry, err error) {
	return c.change(ctx, cluster, at, v)
}

// Renew implements Store.
func (c *Client) Renew(ctx context.Context, cluster string, at int64, v Value) (ok bool, now Entry, err error) {
	return c.change(ctx, cluster, at, v, compare{Key: []byte(Key(cluster)), Target: "VALUE", Result: "EQUAL", Value: v.encode()})
}

// change writes a value, if the key is at that revision and more holds. A member that
// did not answer may have made the change, or may yet make it: the others are asked all
// the same, for they make it only once.
func (c *Client) change(ctx context.Context, cluster string, at int64, v Value, more ...compare) (ok bool, now Entry, err error) {
	key := []byte(Key(cluster))
	request := txnRequest{
		Compare: append(more, compare{Key: key, Target: "MOD", Result: "EQUAL", ModRevision: &at}),
		Success: []operation{{Put: put{Key: key, Value: v.encode()}}},
	}
	var reply txnReply
	member, err := c.each(ctx, func(ctx context.Context, member string) error {
		reply = txnReply{}
		err := c.ask(ctx, member, "/v3/kv/txn", request, &reply, &reply.Header)
		if err == nil && reply.Succeeded && reply.Header.Revision <= at {
			err = notEtcd(member)
		}
		return err
	})
	if err != nil || !reply.Succeeded {
		return false, Entry{}, err
	}
	return true, Entry{Value: v, Revision: reply.Header.Revision, ClusterID: reply.Header.ClusterID, Member: member}, nil
}

// Agree implements Store. It ends as soon as more than half of the members agree.
func (c *Client) Agree(ctx context.Context, clusterID string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ids := make(chan Entry, len(c.Members))
	var asked sync.WaitGroup
	for _, member := range c.Members {
		asked.Go(func() {
			only := c.Only(member)
			defer only.Close()
			e, _ := only.Read(ctx, "") // no key has this name
			e.Member = member
			ids <- e
		})
	}
	go func() { asked.Wait(); close(ids) }()
	agreed, all := 0, len(c.Members)
	for e := range ids {
		switch e.ClusterID {
		case "": // it did not answer
		case clusterID:
			agreed++
		default:
			return &Error{Kind: Different, Member: e.Member, Text: "belongs to another cluster of etcd than the other members"}
		}
		if 2*agreed > all {
			return nil
		}
	}
	return &Error{Kind: TooFew, Text: fmt.Sprintf("%d of %d members answer, and have never been seen to belong to one cluster of etcd with the others", agreed, all)}
}

// Version is the version that the member has: "3.4.23".
func (c *Client) Version(ctx context.Context, member string) (string, error) {
	if err := c.open(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	var reply versionReply
	err := c.send(ctx, http.MethodGet, member, "/version", nil, &reply)
	if err == nil && reply.Server == "" {
		err = notEtcd(member)
	}
	return reply.Server, err
}

// each asks the members in turn until one answers, and returns which did.
func (c *Client) each(ctx context.Context, ask func(context.Context, string) error) (member string, err error) {
	if err := c.open(); err != nil {
		return "", err
	}
	members := slices.Clone(c.Members)
	if i := slices.Index(members, c.last); i > 0 {
		members[0], members[i] = members[i], members[0]
	}
	var failed []*Error
	for _, m := range members {
		limited, cancel := context.WithTimeout(ctx, RequestTimeout)
		err := ask(limited, m)
		cancel()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err == nil {
			c.last = m
			return m, nil
		}
		failed = append(failed, err.(*Error))
	}
	return "", worst(failed)
}

// ask posts one request to one member, and logs in where there is a user. A reply
// without etcd's header is not from etcd.
func (c *Client) ask(ctx context.Context, member, path string, request, reply any, h *header) error {
	fresh := false
	if c.User != "" && c.token == "" {
		if err := c.login(ctx, member); err != nil {
			return err
		}
		fresh = true
	}
	err := c.send(ctx, http.MethodPost, member, path, request, reply)
	if e, ok := err.(*Error); ok && (e.code == codeUnauthenticated || e.code == codeInvalidArgument) && c.User != "" && !fresh { // the token is too old
		c.token = ""
		return c.ask(ctx, member, path, request, reply, h)
	}
	if _, wrong := strconv.ParseUint(h.ClusterID, 10, 64); err == nil && wrong != nil {
		return notEtcd(member)
	}
	return err
}

// login gets a token. Where etcd has no users, none is needed.
func (c *Client) login(ctx context.Context, member string) error {
	text, err := c.read(c.PasswordFile)
	password, _, _ := strings.Cut(string(text), "\n")
	if password = strings.TrimSuffix(password, "\r"); err == nil && password == "" {
		err = fmt.Errorf("its first line has no password")
	}
	if err != nil {
		return &Error{Kind: BadFile, Text: fmt.Sprintf("arbiter-password-file %q: %v", c.PasswordFile, err)}
	}
	var reply authReply
	err = c.send(ctx, http.MethodPost, member, "/v3/auth/authenticate", authRequest{Name: c.User, Password: password}, &reply)
	if e, ok := err.(*Error); ok {
		switch e.code {
		case codeFailedPrecondition:
			return nil
		case codeInvalidArgument:
			e.Kind, e.Text = WrongUser, "etcd does not accept the user or its password"
		}
		return e
	}
	c.token = reply.Token
	return nil
}

// send exchanges one request and its reply. The error is an *Error.
func (c *Client) send(ctx context.Context, method, member, path string, request, reply any) error {
	body, _ := json.Marshal(request)
	var connected atomic.Bool // a connection that is given up may yet be made
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:     func(httptrace.GotConnInfo) { connected.Store(true) },
		ConnectDone: func(_, _ string, err error) { connected.Store(err == nil) }, // what is frozen accepts, and makes no TLS
	})
	r, err := http.NewRequestWithContext(ctx, method, member+path, bytes.NewReader(body))
	if err != nil {
		return &Error{Kind: NotEtcd, Member: member, Text: err.Error()}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "pingover")
	if c.token != "" {
		r.Header.Set("Authorization", c.token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return connectionError(member, err, connected.Load())
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return connectionError(member, err, true)
	}
	if response.StatusCode != http.StatusOK {
		return c.statusError(member, response.StatusCode, text)
	}
	if json.Unmarshal(text, reply) != nil {
		return notEtcd(member)
	}
	return nil
}

// open reads the certificates, once. Nothing else of a check waits for them.
func (c *Client) open() error {
	if c.http != nil {
		return nil
	}
	bad := func(setting, path string, err error) error {
		return &Error{Kind: BadFile, Text: fmt.Sprintf("%s %q: %v", setting, path, err)}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := c.read(c.CA)
		if err != nil {
			return bad("arbiter-ca", c.CA, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return bad("arbiter-ca", c.CA, fmt.Errorf("it has no certificate in PEM format"))
		}
	}
	if c.Cert != "" {
		cert, err := c.read(c.Cert)
		key, keyErr := c.read(c.CertKey)
		if err != nil || keyErr != nil {
			return bad("arbiter-cert", c.Cert, cmp.Or(err, keyErr))
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return bad("arbiter-cert", c.Cert, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c.http = &http.Client{
		// No proxy: what the environment names is for browsers.
		Transport:     &http.Transport{TLSClientConfig: config, IdleConnTimeout: idle, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}
