package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// webServer answers each path with its number as status, and redirects to
// itself without end at 302.
func webServer(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		user, password, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/auth" && user == "nagios" && password == "secret":
			status = 200
		case r.URL.Path == "/seen" && r.Host == r.URL.Query().Get("host") && r.UserAgent() == "pingover" && r.Close:
			status = 200
		case r.URL.Path == "/endless":
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case r.URL.Path == "/hints":
			w.WriteHeader(103)
			status = 204
		case status == 0:
			status = 404
		case status == 302:
			w.Header().Set("Location", "/302")
		}
		w.WriteHeader(status)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	t.Cleanup(s.Close)
	return s
}

func addressOf(t *testing.T, l net.Listener) (port uint16) {
	t.Helper()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func listen(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return addressOf(t, l)
}

// says is a server that reads a request, and then says this.
func says(t *testing.T, text string) uint16 {
	return listen(t, func(conn net.Conn) {
		http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, text)
	})
}

func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addressOf(t, l)
}

func mustURL(t *testing.T, text string) Service {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Service{URL: u}
}

func TestServices(t *testing.T) {
	t.Parallel()
	web, secure, strict, old := webServer(t), webServer(t), webServer(t), webServer(t)
	web.Start()
	strict.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS10}
	for _, s := range []*httptest.Server{secure, strict, old} {
		s.StartTLS()
	}

	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	known := func() (*x509.CertPool, error) { return pool, nil }
	unknownCA := func() (*x509.CertPool, error) { return x509.NewCertPool(), nil }
	noFile := func() (*x509.CertPool, error) {
		return nil, errors.New(`service-ca "/ca.pem": no such file or directory`)
	}

	at := func(scheme, host string, s *httptest.Server, path string) string {
		return fmt.Sprintf("%s://%s:%d%s", scheme, host, addressOf(t, s.Listener), path)
	}
	httpAt := func(path string) Service { return mustURL(t, at("http", "www.example.com", web, path)) }
	plainAt := func(port uint16) Service { return mustURL(t, fmt.Sprintf("http://www.example.com:%d/", port)) }
	webPort := addressOf(t, web.Listener)

	for name, tt := range map[string]struct {
		service Service
		roots   func() (*x509.CertPool, error)
		want    ServiceResult
	}{
		"a port that accepts":                 {Service{Port: webPort}, nil, ServiceResult{Health: Good}},
		"a closed port":                       {Service{Port: closedPort(t)}, nil, ServiceResult{Health: Bad, Reason: "connection refused"}},
		"200":                                 {httpAt("/200"), nil, ServiceResult{Health: Good}},
		"204 after a hint":                    {httpAt("/hints"), nil, ServiceResult{Health: Good}},
		"a redirect, which is not followed":   {httpAt("/302"), nil, ServiceResult{Health: Good}},
		"a body without end":                  {httpAt("/endless"), nil, ServiceResult{Health: Good}},
		"its own name":                        {httpAt(fmt.Sprintf("/seen?host=www.example.com:%d", webPort)), nil, ServiceResult{Health: Good}},
		"no path":                             {httpAt(""), nil, ServiceResult{Health: Bad, Reason: "answers 404 Not Found"}},
		"a typo in the path":                  {httpAt("/helth"), nil, ServiceResult{Health: Bad, Reason: "answers 404 Not Found"}},
		"503":                                 {httpAt("/503"), nil, ServiceResult{Health: Bad, Reason: "answers 503 Service Unavailable"}},
		"a password":                          {mustURL(t, at("http", "nagios:secret@www.example.com", web, "/auth")), nil, ServiceResult{Health: Good}},
		"http at a closed port":               {plainAt(closedPort(t)), nil, ServiceResult{Health: Bad, Reason: "connection refused"}},
		"another protocol":                    {plainAt(says(t, "SSH-2.0-OpenSSH_9.2p1\r\n")), nil, ServiceResult{Health: Bad, Reason: `does not speak HTTP: malformed HTTP response "SSH-2.0-OpenSSH_9.2p1"`}},
		"no reply before the end":             {plainAt(says(t, "")), nil, ServiceResult{Health: Bad, Reason: "ends the connection without a reply"}},
		"a header that breaks off":            {plainAt(says(t, "HTTP/1.1 200 OK\r\nServer: x")), nil, ServiceResult{Health: Bad, Reason: "ends the connection without a reply"}},
		"a header without end":                {plainAt(says(t, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1000))), nil, ServiceResult{Health: Bad, Reason: "ends the connection without a reply"}},
		"hints without end":                   {plainAt(says(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 20))), nil, ServiceResult{Health: Bad, Reason: "does not speak HTTP: only interim replies"}},
		"silence":                             {plainAt(listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })), nil, ServiceResult{Health: Bad, Reason: "no reply within 3s"}},
		"a certificate that is verified":      {mustURL(t, at("https", "example.com", secure, "/200")), known, ServiceResult{Health: Good}},
		"https and 503":                       {mustURL(t, at("https", "example.com", secure, "/503")), known, ServiceResult{Health: Bad, Reason: "answers 503 Service Unavailable"}},
		"an unknown authority":                {mustURL(t, at("https", "example.com", secure, "/200")), unknownCA, ServiceResult{Certificate: true, Reason: "its certificate does not verify: x509: certificate signed by unknown authority"}},
		"a certificate of another name":       {mustURL(t, at("https", "www.example.org", secure, "/200")), known, ServiceResult{Certificate: true, Reason: "its certificate does not verify: x509: certificate is valid for example.com, *.example.com, not www.example.org"}},
		"service-ca is gone":                  {mustURL(t, at("https", "example.com", secure, "/200")), noFile, ServiceResult{Reason: `service-ca "/ca.pem": no such file or directory`}},
		"https at a server without TLS":       {mustURL(t, at("https", "example.com", web, "/200")), known, ServiceResult{Health: Bad, Reason: "does not speak TLS"}},
		"https that ends at once":             {mustURL(t, fmt.Sprintf("https://example.com:%d/", listen(t, func(net.Conn) {}))), known, ServiceResult{Health: Bad, Reason: "ends the connection without a reply"}},
		"https and silence":                   {mustURL(t, fmt.Sprintf("https://example.com:%d/", listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) }))), known, ServiceResult{Health: Bad, Reason: "no reply within 3s"}},
		"a server that wants our certificate": {mustURL(t, at("https", "example.com", strict, "/200")), known, ServiceResult{Certificate: true, Reason: "the TLS handshake failed: remote error: tls: certificate required"}},
		"TLS 1.0 only":                        {mustURL(t, at("https", "example.com", old, "/200")), known, ServiceResult{Certificate: true, Reason: "the TLS handshake failed: remote error: tls: protocol version not supported"}},
		"a source that is not here":           {Service{Port: webPort}, nil, ServiceResult{Reason: "cannot connect: cannot assign requested address"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := Attempt{Address: loopback, Timeout: time.Second, Roots: tt.roots}
			if strings.HasPrefix(name, "a source") {
				a.Source = netip.MustParseAddr("192.0.2.7")
			}
			if diff := cmp.Diff(tt.want, tt.service.Check(t.Context(), a)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAServiceIsAskedAtTheAddressAlone(t *testing.T) {
	// No resolver is asked: the name does not exist, and the port is at the address.
	web := webServer(t)
	web.Start()
	port := addressOf(t, web.Listener)
	s := mustURL(t, fmt.Sprintf("http://does-not-exist.invalid:%d/200", port))
	for address, want := range map[string]ServiceResult{
		"127.0.0.1": {Health: Good},
		"127.0.0.2": {Health: Bad, Reason: "connection refused"},
	} {
		if diff := cmp.Diff(want, s.Check(t.Context(), Attempt{Address: netip.MustParseAddr(address)})); diff != "" {
			t.Errorf("%s: -want +got\n%s", address, diff)
		}
	}
}

// The status is the answer; a body without an end is not waited for.
func TestABodyIsNotWaitedFor(t *testing.T) {
	for name, body := range map[string]string{
		"chunked":  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"10 GB":    "Content-Length: 10000000000\r\n\r\nhello",
		"unending": "\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			port := listen(t, func(conn net.Conn) {
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+body)
				io.Copy(io.Discard, conn) // until the other side ends it
			})
			start := time.Now()
			got := mustURL(t, fmt.Sprintf("http://www.example.com:%d/", port)).Check(t.Context(), Attempt{Address: loopback})
			if want := (ServiceResult{Health: Good}); got != want || time.Since(start) > leastTimeout/2 {
				t.Errorf("%+v after %s", got, time.Since(start))
			}
		})
	}
}

func TestACheckThatIsInterruptedSaysNothing(t *testing.T) {
	silent := listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	for name, s := range map[string]Service{
		"http":    mustURL(t, fmt.Sprintf("http://www.example.com:%d/", silent)),
		"https":   mustURL(t, fmt.Sprintf("https://www.example.com:%d/", silent)),
		"command": {Argv: []string{"sleep", "60"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("interrupted"))
			defer cancel()
			start := time.Now()
			got := s.Check(ctx, Attempt{Address: loopback, CommandTimeout: time.Minute})
			if got.Health != HealthUnknown || !strings.HasSuffix(got.Reason, "interrupted") || time.Since(start) > 2*time.Second {
				t.Errorf("%+v after %s", got, time.Since(start))
			}
		})
	}
}

func TestServiceCommands(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "no-program")
	if err := os.WriteFile(plain, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sh := func(script string) []string {
		return []string{"sh", "-c", script, "check_it", "-H", "{}", "--expect={}"}
	}
	for name, tt := range map[string]struct {
		argv []string
		want ServiceResult
	}{
		"0":                         {sh("exit 0"), ServiceResult{Health: Good}},
		"1":                         {sh("echo WARNING; exit 1"), ServiceResult{Health: Good}},
		"2":                         {sh("echo 'HTTP CRITICAL: 503 | time=0.1s'; exit 2"), ServiceResult{Health: Bad, Reason: "exit code 2: HTTP CRITICAL: 503 | time=0.1s"}},
		"3":                         {sh("echo UNKNOWN; exit 3"), ServiceResult{Reason: "exit code 3: UNKNOWN"}},
		"127, from a shell":         {sh("exit 127"), ServiceResult{Reason: "exit code 127"}},
		"the address":               {sh(`test "$*" = "-H 127.0.0.1 --expect=127.0.0.1"`), ServiceResult{Health: Good}},
		"a signal":                  {sh("kill -SEGV $$"), ServiceResult{Reason: "ended by signal: segmentation fault"}},
		"10 MB of output":           {sh("head -c 10000000 /dev/zero | tr '\\0' x; exit 2"), ServiceResult{Health: Bad, Reason: "exit code 2: …" + strings.Repeat("x", 199) + "…"}},
		"without end":               {sh("while :; do echo x; done"), ServiceResult{Reason: "killed: took longer than 1s"}},
		"without end, in the group": {sh("trap '' TERM; sleep 60 | sleep 60"), ServiceResult{Reason: "killed: took longer than 1s"}},
		"it leaves a child":         {sh("sleep 3 & exit 0"), ServiceResult{Health: Good}},
		"no such program":           {[]string{"/no/such/plugin", "{}"}, ServiceResult{Reason: "not started: no such file or directory"}},
		"not executable":            {[]string{plain}, ServiceResult{Reason: "not started: permission denied"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.HasPrefix(tt.want.Reason, "killed") {
				timeout = time.Second
			}
			got := Service{Argv: tt.argv}.Check(t.Context(), Attempt{Address: loopback, CommandTimeout: timeout})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestTheNameOfAServiceHasNoSecret(t *testing.T) {
	for want, s := range map[string]Service{
		"tcp:5432":                     {Port: 5432},
		"https://www.example.com:8443": mustURL(t, "https://user:secret@www.example.com:8443/token/x?key=y"),
		"check_http":                   {Argv: []string{"/usr/lib/nagios/plugins/check_http", "-a", "user:secret"}},
	} {
		if got := s.Name(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestHealthInWords(t *testing.T) {
	for h, want := range map[Health]string{HealthUnknown: "unknown", Bad: "bad", Good: "good"} {
		if h.String() != want {
			t.Errorf("%d is %s, want %s", h, h, want)
		}
	}
}
