package e2e

import (
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"sync"

	"pingover/internal/lab"
)

// proxy is in front of a member of etcd: it forwards requests, and may lose their
// answers.
type proxy struct {
	url     string
	mu      sync.Mutex
	dropped map[string]bool
}

// proxyTo starts one on the gateway.
func (s *scene) proxyTo(m *lab.EtcdMember) *proxy {
	s.t.Helper()
	p := &proxy{dropped: map[string]bool{}}
	target, err := url.Parse(m.URL())
	s.must(err)
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.Transport = &http.Transport{DialContext: m.Dial}
	forward.ErrorLog = stdlog.New(io.Discard, "", 0)
	forward.ModifyResponse = func(r *http.Response) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.dropped[path.Base(r.Request.URL.Path)] {
			return http.ErrAbortHandler // by now the request has been carried out
		}
		return nil
	}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	var l net.Listener
	s.must(s.Gateway.Do(func() (err error) {
		l, err = net.Listen("tcp", "172.16.0.254:2379")
		return err
	}))
	server := &http.Server{Handler: forward, ErrorLog: stdlog.New(io.Discard, "", 0)}
	go server.Serve(l)
	s.t.Cleanup(func() { server.Close() })
	p.url = "http://172.16.0.254:2379"
	return p
}

// drop has the answers to requests lost whose path ends so: "txn", "range".
func (p *proxy) drop(request string, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped[request] = yes
}
