package failover

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pingover/internal/config"
	"pingover/notify"
	"pingover/state"
)

// mailPatience is how long a run waits with its message for those of other
// clusters of the same primary that are checked in this process.
const mailPatience = 3 * time.Second

// deliver is Env.Deliver.
type deliver func(context.Context, []state.Message) (left []state.Message, err error)

// mailroom combines the messages of one run about clusters of the same primary
// with the same recipients into one. Each stays in its own outbox until the
// combined one was handed over. The zero mailroom is ready.
type mailroom struct {
	mu      sync.Mutex
	running map[string]int // checks that may still bring a message, by batch
	open    map[string]*batch
}

// batch is what goes out together: the first to bring a message delivers it.
type batch struct {
	messages []state.Message
	full     chan struct{} // closed when nobody else is expected
	done     chan struct{} // closed when it was delivered
	left     []state.Message
	combined bool
	err      error
}

// join announces a check of the cluster. Its messages go through the returned
// function; leave has to be called when it will bring none any more.
func (r *mailroom) join(c config.Cluster, send deliver) (combined deliver, leave func()) {
	via := c.Mail.Via
	key := strings.Join(append(slices.Sorted(slices.Values(c.Mail.To)), c.Host, via.Scheme, via.Path, via.Host, strconv.Itoa(via.Port),
		c.Mail.From, c.Mail.User, c.Mail.CAFile, c.Mail.HELO), "\n")
	began := time.Now().UTC().Truncate(time.Second)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running, r.open = map[string]int{}, map[string]*batch{}
	}
	r.running[key]++
	leave = sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.running[key]--; r.running[key] == 0 && r.open[key] != nil {
			close(r.open[key].full)
			delete(r.open, key)
		}
	})
	return func(ctx context.Context, outbox []state.Message) ([]state.Message, error) {
		old := func(m state.Message) bool { return m.Time.Before(began) || m.Dropped > 0 }
		now := slices.DeleteFunc(slices.Clone(outbox), old)
		rest := slices.DeleteFunc(slices.Clone(outbox), func(m state.Message) bool { return !old(m) })
		if len(now) == 0 {
			leave()
			return send(ctx, outbox)
		}
		b, first := r.bring(key, now)
		leave()
		if first {
			r.send(ctx, key, b, c.Host, send)
		}
		<-b.done
		var left []state.Message
		for _, m := range now {
			if m.To = b.waiting(m); len(m.To) > 0 {
				left = append(left, m)
			}
		}
		if len(rest) == 0 || b.err != nil {
			return slices.Concat(rest, left), b.err
		}
		rest, err := send(ctx, rest)
		return slices.Concat(rest, left), err
	}, leave
}

// waiting are the recipients of a message who have not had it, alone or combined.
func (b *batch) waiting(m state.Message) []string {
	var waiting []string
	for _, l := range b.left {
		if b.combined || l.MessageID == m.MessageID {
			waiting = append(waiting, l.To...)
		}
	}
	return slices.DeleteFunc(slices.Clone(m.To), func(to string) bool { return !slices.Contains(waiting, to) })
}

// bring puts messages into the open batch; first says that it is a new one.
func (r *mailroom) bring(key string, messages []state.Message) (b *batch, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b = r.open[key]; b == nil {
		b, first = &batch{full: make(chan struct{}), done: make(chan struct{})}, true
		r.open[key] = b
	}
	b.messages = append(b.messages, messages...)
	return b, first
}

// send waits for the messages of others, and delivers the batch.
func (r *mailroom) send(ctx context.Context, key string, b *batch, host string, send deliver) {
	defer close(b.done)
	wait := time.NewTimer(mailPatience)
	defer wait.Stop()
	select {
	case <-b.full:
	case <-ctx.Done():
	case <-wait.C:
	}
	r.mu.Lock()
	if r.open[key] == b {
		delete(r.open, key)
	}
	r.mu.Unlock()
	messages := b.messages
	if slices.ContainsFunc(messages, func(m state.Message) bool { return m.Cluster != messages[0].Cluster }) {
		b.combined, messages = true, []state.Message{notify.Combine(host, messages)}
	}
	b.left, b.err = send(ctx, messages)
}
