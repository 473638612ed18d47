package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"pingover/internal/lab"
)

// serveWeb answers every request to a host with this text, until close is called.
func serveWeb(h *lab.Host, text string) (close func() error, err error) {
	var l net.Listener
	if err := h.Do(func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	}); err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })}
	go server.Serve(l)
	return server.Close, nil
}

// visits are connections of a client to the site, one every moment.
type visits struct {
	*strip
	halt context.CancelFunc
	all  sync.WaitGroup

	mu      sync.Mutex
	reached []byte // the digit of the host, a blank for none, 0 while that is open
}

// visitTimeout is for the name, the connection and the reply.
const visitTimeout = 300 * time.Millisecond

func (s *farm) visit(ctx context.Context) *visits {
	ctx, halt := context.WithCancel(ctx)
	v := &visits{halt: halt}
	site := &http.Client{
		Timeout:   visitTimeout,
		Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true},
	}
	v.all.Go(func() {
		tick := time.NewTicker(moment)
		defer tick.Stop()
		for ctx.Err() == nil {
			v.mu.Lock()
			n := len(v.reached)
			v.reached = append(v.reached, 0)
			v.mu.Unlock()
			v.all.Go(func() {
				digit := reached(site)
				v.mu.Lock()
				defer v.mu.Unlock()
				v.reached[n] = digit
			})
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	v.strip = s.newStrip(v.seen)
	return v
}

// reached is the digit of the host that replies, a blank for none.
func reached(client *http.Client) byte {
	response, err := client.Get("http://" + site + "/")
	if err != nil {
		return ' '
	}
	defer response.Body.Close()
	digit, err := io.ReadAll(response.Body)
	if err != nil || len(digit) != 1 {
		return ' '
	}
	return digit[0]
}

// dial resolves the site at the name server, and connects to its first address.
func (s *farm) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	from := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = s.client.Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	names := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return from(ctx, network, nameServer)
	}}
	addrs, err := names.LookupNetIP(ctx, "ip4", site+".")
	if err != nil {
		return nil, err
	}
	return from(ctx, "tcp4", net.JoinHostPort(addrs[0].Unmap().String(), "80"))
}

// seen is a character for each visit, up to the first that is open.
func (v *visits) seen() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen, _, _ := strings.Cut(string(v.reached), "\x00")
	return seen
}

// count is the number of visits until now.
func (v *visits) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.reached)
}

// reaches tells whether, of the visits since the first n, the last nine have
// reached these hosts, all of them and no other.
func (v *visits) reaches(n int, digits string) func() bool {
	return func() bool {
		seen := v.seen()
		if len(seen) < n+9 {
			return false
		}
		last := seen[len(seen)-9:]
		for _, digit := range digits {
			if !strings.ContainsRune(last, digit) {
				return false
			}
		}
		return strings.Trim(last, digits) == ""
	}
}

// close ends the visits.
func (v *visits) close() {
	v.halt()
	v.all.Wait()
	v.strip.close()
}

// end shows the strip with the number of visits that failed.
func (v *visits) end() (failed int) {
	v.close()
	seen := v.seen()
	failed = strings.Count(seen, " ")
	paint := v.Green
	if failed > 0 {
		paint = v.Red
	}
	v.strip.end(fmt.Sprintf("%d connections, %s", len(seen), paint(fmt.Sprintf("%d failed", failed))))
	return failed
}
