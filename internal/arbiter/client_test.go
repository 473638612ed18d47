package arbiter

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// gateway is etcd's JSON gateway as far as it is asked, with what etcd 3.4 answers.
type gateway struct {
	t        *testing.T
	id       string // of the cluster
	revision int64  // of the key; 0: there is none
	value    string
	users    map[string]string // with passwords; nil: RBAC is off
	expired  bool              // the first token is not accepted
	asked    []string
	answer   func(w http.ResponseWriter, r *http.Request) bool // in place of it
}

func serve(t *testing.T, g *gateway) string {
	t.Helper()
	g.t = t
	if g.id == "" {
		g.id = "14841639068965178418"
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return server.URL
}

func (g *gateway) fail(w http.ResponseWriter, status, code int, text string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"message":%[1]q,"code":%d}`, text, code)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.asked = append(g.asked, r.URL.Path)
	if g.answer != nil && g.answer(w, r) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	var request struct {
		Name, Password string
		Key            string
		Compare        []struct {
			Key, Target, Result, Value string
			ModRevision                string `json:"mod_revision"`
		}
		Success []struct {
			Put struct{ Key, Value string } `json:"request_put"`
		}
	}
	if err := json.Unmarshal(body, &request); err != nil && r.Method == http.MethodPost {
		g.t.Errorf("%s: %s: %v", r.URL.Path, body, err)
	}
	header := func(revision int64) string {
		return fmt.Sprintf(`"header":{"cluster_id":"%s","member_id":"1","revision":"%d","raft_term":"2"}`, g.id, revision)
	}
	if r.URL.Path == "/v3/auth/authenticate" {
		switch {
		case g.users == nil:
			g.fail(w, http.StatusPreconditionFailed, 9, "etcdserver: authentication is not enabled")
		case g.users[request.Name] == "" || g.users[request.Name] != request.Password:
			g.fail(w, http.StatusBadRequest, 3, "etcdserver: authentication failed, invalid user ID or password")
		default:
			fmt.Fprintf(w, `{%s,"token":"token.%s"}`, header(9), request.Name)
		}
		return
	}
	if r.URL.Path == "/version" {
		fmt.Fprint(w, `{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}`)
		return
	}
	switch token := r.Header.Get("Authorization"); {
	case g.users == nil:
	case token == "":
		g.fail(w, http.StatusBadRequest, 3, "etcdserver: user name is empty")
		return
	case g.expired:
		g.expired = false
		g.fail(w, http.StatusUnauthorized, 16, "etcdserver: invalid auth token")
		return
	case token == "token.nobody":
		g.fail(w, http.StatusForbidden, 7, "etcdserver: permission denied")
		return
	}
	key := base64.StdEncoding.EncodeToString([]byte("pingover/web"))
	switch r.URL.Path {
	case "/v3/kv/range":
		if request.Key != key && request.Key != base64.StdEncoding.EncodeToString([]byte("pingover/")) {
			g.t.Errorf("asked for the key %q", request.Key)
		}
		if g.revision == 0 {
			fmt.Fprintf(w, `{%s}`, header(9))
			return
		}
		fmt.Fprintf(w, `{%s,"kvs":[{"key":"%s","create_revision":"2","mod_revision":"%d","version":"1","value":"%s"}],"count":"1"}`,
			header(9), key, g.revision, base64.StdEncoding.EncodeToString([]byte(g.value)))
	case "/v3/kv/txn":
		for _, c := range request.Compare {
			fits := c.Target == "MOD" && c.ModRevision == fmt.Sprint(g.revision) ||
				c.Target == "VALUE" && c.Value == base64.StdEncoding.EncodeToString([]byte(g.value))
			if c.Key != key || c.Result != "EQUAL" || c.Target == "MOD" && c.Value != "" || c.Target == "VALUE" && c.ModRevision != "" {
				g.t.Errorf("compares %+v", c)
			}
			if !fits {
				fmt.Fprintf(w, `{%s}`, header(9))
				return
			}
		}
		value, _ := base64.StdEncoding.DecodeString(request.Success[0].Put.Value)
		g.revision, g.value = 10, string(value)
		fmt.Fprintf(w, `{%s,"succeeded":true,"responses":[{"response_put":{%[1]s}}]}`, header(10))
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "Not Found")
	}
}

var ours = Value{Holder: "standby", Stack: "b007/4026531840", TTL: 3 * time.Minute}

func client(s Settings) *Client { return NewClient(s, os.ReadFile) }

// passwordFile is a file as an editor writes it.
func passwordFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The gateway leaves out zero values: no kvs is an absent key, no succeeded is false.
func TestAnAbsentKeyIsCreatedOnlyOnce(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	c := client(Settings{Members: []string{serve(t, g)}})
	defer c.Close()
	e, err := c.Read(t.Context(), "web")
	want := Entry{Absent: true, ClusterID: "14841639068965178418", Member: c.Members[0]}
	if diff := cmp.Diff(want, e); diff != "" || err != nil {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
	want = Entry{Value: ours, Revision: 10, ClusterID: "14841639068965178418", Member: c.Members[0]}
	ok, now, err := c.Swap(t.Context(), "web", 0, ours)
	if diff := cmp.Diff(want, now); !ok || diff != "" || err != nil {
		t.Errorf("created: %t, %v, -want +got\n%s", ok, err, diff)
	}
	if want := `{"version":1,"holder":"standby","stack":"b007/4026531840","ttl_s":180}`; g.value != want {
		t.Errorf("the value is %s, not %s", g.value, want)
	}
	if ok, _, err := c.Swap(t.Context(), "web", 0, ours); ok || err != nil {
		t.Errorf("created again: %t, %v", ok, err)
	}
	e, err = c.Read(t.Context(), "web")
	if diff := cmp.Diff(want, e); diff != "" || err != nil {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
}

// Its revision alone may be another machine's, after a restored backup.
func TestAKeyIsRenewedThatHasItsValueAndRevision(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		g    gateway
		want bool
	}{
		"as it was written":       {gateway{revision: 7, value: string(ours.encode())}, true},
		"another revision":        {gateway{revision: 8, value: string(ours.encode())}, false},
		"another machine's value": {gateway{revision: 7, value: `{"version":1,"holder":"two","stack":"b/1","ttl_s":180}`}, false},
		"absent":                  {gateway{}, false},
	} {
		g := test.g
		c := client(Settings{Members: []string{serve(t, &g)}})
		ok, now, err := c.Renew(t.Context(), "web", 7, ours)
		want := Entry{}
		if test.want {
			want = Entry{Value: ours, Revision: 10, ClusterID: g.id, Member: c.Members[0]}
		}
		if diff := cmp.Diff(want, now); ok != test.want || diff != "" || err != nil || len(g.asked) != 1 {
			t.Errorf("%s: %t, %v after %d requests, -want +got\n%s", name, ok, err, len(g.asked), diff)
		}
	}
}

// Nothing of a reply is used that etcd cannot have meant.
func TestRepliesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	const header = `"header":{"cluster_id":"1","revision":"9"}`
	key := base64.StdEncoding.EncodeToString([]byte("pingover/web"))
	for name, reply := range map[string]string{
		"an error as a success":      `{"error":"etcdserver: no leader","code":14}`,
		"no JSON object":             `[]`,
		"half of one":                `{` + header + `,"kvs":[{"key":"` + key,
		"no cluster":                 `{"header":{"revision":"9"}}`,
		"a cluster that is a number": `{"header":{"cluster_id":1,"revision":"9"}}`,
		"a cluster that is a text":   `{"header":{"cluster_id":"one","revision":"9"}}`,
		"keys that are no list":      `{` + header + `,"kvs":{}}`,
		"a key without a revision":   `{` + header + `,"kvs":[{"key":"` + key + `","value":"e30="}]}`,
		"a revision below zero":      `{` + header + `,"kvs":[{"key":"` + key + `","mod_revision":"-7","value":"e30="}]}`,
		"a revision beyond int64":    `{` + header + `,"kvs":[{"key":"` + key + `","mod_revision":"9223372036854775808","value":"e30="}]}`,
		"a revision with a fraction": `{` + header + `,"kvs":[{"key":"` + key + `","mod_revision":"7.5","value":"e30="}]}`,
		"a value that is no base64":  `{` + header + `,"kvs":[{"key":"` + key + `","mod_revision":"7","value":"{}"}]}`,
		"another key":                `{` + header + `,"kvs":[{"key":"cGluZ292ZXIvZGI=","mod_revision":"7","value":"e30="}]}`,
		"two keys":                   `{` + header + `,"kvs":[{"key":"` + key + `","mod_revision":"7"},{"key":"` + key + `","mod_revision":"8"}]}`,
		"a write that is not newer":  `{"header":{"cluster_id":"1","revision":"7"},"succeeded":true}`,
		"a write without a revision": `{"header":{"cluster_id":"1"},"succeeded":true}`,
		"succeeded as a text":        `{` + header + `,"succeeded":"true"}`,
	} {
		broken := &gateway{answer: func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, reply)
			return true
		}}
		ask := func(members ...string) (now Entry, err error) {
			c := client(Settings{Members: members})
			if strings.Contains(reply, "succeeded") {
				_, now, err = c.Swap(t.Context(), "web", 7, ours)
				return now, err
			}
			return c.Read(t.Context(), "web")
		}
		member := serve(t, broken)
		_, err := ask(member)
		if e, ok := err.(*Error); !ok || e.Kind != NotEtcd || e.Text != "does not answer like etcd" {
			t.Errorf("%s: %v", name, err)
		}
		e, err := ask(member, serve(t, &gateway{revision: 7, value: string(ours.encode())}))
		if e.Value != ours || err != nil {
			t.Errorf("%s: the next member is asked: %+v, %v", name, e, err)
		}
	}
}

func TestValuesThatCannotBeUsedKeepOthersOut(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]Entry{
		`{"version":1,"holder":"","stack":"","ttl_s":180}`:                                   {Value: Value{TTL: 3 * time.Minute}},
		`{"version":1,"holder":"two","stack":"b/1","ttl_s":99999999}`:                        {Value: Value{Holder: "two", Stack: "b/1", TTL: time.Hour}},
		`{"version":2,"holder":"two","stack":"b/1","ttl_s":60}`:                              {Value: Value{Holder: "two", Stack: "b/1", TTL: time.Minute}, Unknown: "its value has version 2, this program knows 1"},
		`{"version":1,"holder":"two","ttl_s":60}`:                                            {Value: Value{Holder: "two", TTL: time.Minute}, Unknown: "its value lacks the stack or the ttl of its holder"},
		`{"version":1,"holder":"two","stack":"b/1","ttl_s":-5}`:                              {Value: Value{Holder: "two", Stack: "b/1"}, Unknown: "its value lacks the stack or the ttl of its holder"},
		`{"version":1,"holder":"` + strings.Repeat("x", 63) + `ö","stack":"b/1","ttl_s":60}`: {Value: Value{Holder: strings.Repeat("x", 63) + "…", Stack: "b/1", TTL: time.Minute}},
		`{"version":1,"holder":"two","stack":"b/1","ttl_s":9223372036854775808}`:             {Unknown: "its value is no JSON object of pingover"},
		`{"version":1,"holder":"two","stack":"b/1","ttl_s":"60"}`:                            {Unknown: "its value is no JSON object of pingover"},
		`{"version":1,"holder":"two","stack":"b/1","ttl_s":60`:                               {Unknown: "its value is no JSON object of pingover"},
		`x`: {Unknown: "its value is no JSON object of pingover"},
	} {
		c := client(Settings{Members: []string{serve(t, &gateway{revision: 7, value: value})}})
		got, err := c.Read(t.Context(), "web")
		want.Revision, want.ClusterID, want.Member = 7, "14841639068965178418", c.Members[0]
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got\n%s", value, err, diff)
		}
	}
}

// freeze accepts a request and says nothing until the client has gone.
func freeze(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	return true
}

func TestTheNextMemberIsAsked(t *testing.T) {
	t.Parallel()
	frozen := &gateway{answer: freeze}
	noQuorum := &gateway{answer: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":"etcdserver: request timed out","code":14}`)
		return true
	}}
	well := &gateway{}
	c := client(Settings{Members: []string{"http://127.0.0.1:1", serve(t, frozen), serve(t, noQuorum), serve(t, well)}})
	began := time.Now()
	e, err := c.Read(t.Context(), "web")
	if took := time.Since(began); e.Member != c.Members[3] || err != nil || took < RequestTimeout || took > 2*RequestTimeout {
		t.Errorf("%q answered after %s, %v", e.Member, took, err)
	}
	// The one that answered is asked first from now on.
	if ok, _, err := c.Swap(t.Context(), "web", 0, ours); !ok || err != nil || len(frozen.asked) != 1 {
		t.Errorf("%t, %v; the frozen one was asked %d times", ok, err, len(frozen.asked))
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	users := map[string]string{"pingover": "secret", "nobody": "secret"}
	secret := passwordFile(t, "secret\r\n")
	tests := []struct {
		name     string
		gateways []*gateway
		settings Settings
		kind     Kind
		want     string // MEMBER stands for the URL of the first
	}{
		{"nothing listens", nil, Settings{Members: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}}, Unreachable, "http://127.0.0.1:1: connect: connection refused; none of 2 members can be reached"},
		{"frozen", []*gateway{{answer: freeze}}, Settings{}, Silent, "MEMBER: no answer within 1.5s"},
		{"no quorum", []*gateway{{answer: status(503, `{"code":14}`)}}, Settings{}, NoQuorum, "MEMBER: etcd has no quorum (503)"},
		{"the gateway is off", []*gateway{{answer: status(404, "Not Found")}}, Settings{}, NoGateway, "MEMBER: etcd's JSON gateway is off (404)"},
		{"another server", []*gateway{{answer: status(200, "<html>")}}, Settings{}, NotEtcd, "MEMBER: does not answer like etcd"},
		{"another server with JSON", []*gateway{{answer: status(200, "{}")}}, Settings{}, NotEtcd, "MEMBER: does not answer like etcd"},
		{"a redirect", []*gateway{{answer: status(302, "")}}, Settings{}, NotEtcd, "MEMBER: answers 302 Found"},
		{"an endless reply", []*gateway{{answer: func(w http.ResponseWriter, _ *http.Request) bool {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return true
				}
			}
		}}}, Settings{}, NotEtcd, "MEMBER: does not answer like etcd"},
		{"a user is needed", []*gateway{{users: users}}, Settings{}, NeedsUser, "MEMBER: etcd asks for a user (400)"},
		{"a wrong password", []*gateway{{users: users}}, Settings{User: "pingover", PasswordFile: passwordFile(t, "other")}, WrongUser, "MEMBER: etcd does not accept the user or its password"},
		{"no right", []*gateway{{users: users}}, Settings{User: "nobody", PasswordFile: secret}, Refused, "MEMBER: etcd refuses the right to the key"},
		{"an empty password file", []*gateway{{users: users}}, Settings{User: "pingover", PasswordFile: "/dev/null"}, BadFile, `arbiter-password-file "/dev/null": its first line has no password`},
		{"a missing CA", []*gateway{{}}, Settings{CA: "/missing"}, BadFile, `arbiter-ca "/missing": open /missing: no such file or directory`},
		{"the one that says most", []*gateway{{users: users}}, Settings{Members: []string{"http://127.0.0.1:1"}}, NeedsUser, "MEMBER: etcd asks for a user (400)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			member := ""
			for _, g := range test.gateways {
				member = serve(t, &gateway{answer: g.answer, users: g.users})
				test.settings.Members = append(test.settings.Members, member)
			}
			_, err := client(test.settings).Read(t.Context(), "web")
			e, ok := err.(*Error)
			if want := strings.ReplaceAll(test.want, "MEMBER", member); !ok || e.Kind != test.kind || e.Error() != want || e.Hint() == "" {
				t.Errorf("%v (%+v), want %s, kind %d, and a hint", err, e, want, test.kind)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("%v has the password", err)
			}
		})
	}
}

func TestAUserLogsInOnceAndAgainWhenItsTokenHasExpired(t *testing.T) {
	t.Parallel()
	g := &gateway{users: map[string]string{"pingover": "secret"}}
	c := client(Settings{Members: []string{serve(t, g)}, User: "pingover", PasswordFile: passwordFile(t, "secret\nnot this\n")})
	for range 2 {
		if _, err := c.Read(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
	}
	g.expired = true
	if _, err := c.Read(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	want := []string{"/v3/auth/authenticate", "/v3/kv/range", "/v3/kv/range", "/v3/kv/range", "/v3/auth/authenticate", "/v3/kv/range"}
	if diff := cmp.Diff(want, g.asked); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// Where etcd has no users yet, none is needed.
	g = &gateway{}
	c = client(Settings{Members: []string{serve(t, g)}, User: "pingover", PasswordFile: passwordFile(t, "secret")})
	if _, err := c.Read(t.Context(), "web"); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(&gateway{t: t, id: "7"})
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client(Settings{Members: []string{server.URL}, CA: ca}).Read(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		members string
		kind    Kind
		want    string
	}{
		{server.URL, BadTLS, "its certificate does not verify: x509: certificate signed by unknown authority"},
		{"http" + strings.TrimPrefix(server.URL, "https"), NotEtcd, "answers 400 Bad Request"},
		{"https" + strings.TrimPrefix(serve(t, &gateway{}), "http"), NotEtcd, "does not speak TLS"},
	} {
		_, err := client(Settings{Members: []string{test.members}}).Read(t.Context(), "web")
		if e, ok := err.(*Error); !ok || e.Kind != test.kind || e.Text != test.want {
			t.Errorf("%s: %v, want %s, kind %d", test.members, err, test.want, test.kind)
		}
	}
}

func TestMembersOfTwoClustersDoNotAgree(t *testing.T) {
	t.Parallel()
	one, two := serve(t, &gateway{}), serve(t, &gateway{id: "2"})
	c := client(Settings{Members: []string{one, two, "http://127.0.0.1:1"}})
	e, err := c.Read(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := c.Agree(t.Context(), e.ClusterID).(*Error); !ok || e.Kind != Different || e.Member != two || e.Text != "belongs to another cluster of etcd than the other members" {
		t.Errorf("%v", e)
	}
	c = client(Settings{Members: []string{one, "http://127.0.0.1:1", "http://127.0.0.1:2"}})
	const few = "1 of 3 members answer, and have never been seen to belong to one cluster of etcd with the others"
	if e, ok := c.Agree(t.Context(), e.ClusterID).(*Error); !ok || e.Kind != TooFew || e.Text != few {
		t.Errorf("%v", e)
	}
	c = client(Settings{Members: []string{one, "http://127.0.0.1:1", serve(t, &gateway{})}})
	if err := c.Agree(t.Context(), e.ClusterID); err != nil {
		t.Errorf("more than half answer: %v", err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	member := serve(t, &gateway{})
	if v, err := client(Settings{Members: []string{member}}).Version(t.Context(), member); v != "3.4.23" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestARunThatIsEndedAsksNobodyElse(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	first := serve(t, &gateway{answer: func(http.ResponseWriter, *http.Request) bool { cancel(); return true }})
	second := &gateway{}
	c := client(Settings{Members: []string{first, serve(t, second)}})
	if _, err := c.Read(ctx, "web"); err != context.Canceled || len(second.asked) > 0 {
		t.Errorf("%v, and the second was asked %d times", err, len(second.asked))
	}
}

func TestStack(t *testing.T) {
	t.Parallel()
	stack, err := Stack()
	if boot, inode, ok := strings.Cut(stack, "/"); err != nil || !ok || len(boot) != 36 || inode == "" {
		t.Errorf("%q, %v", stack, err)
	}
}
