package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/quotedprintable"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

var (
	chaosFor  = flag.Duration("chaos.for", 0, "how long chaos reigns; 0: 2m, with -short 20s")
	chaosSeed = flag.Uint64("chaos.seed", 0, "the seed whose choices are made again; 0: two, side by side, the first from PINGOVER_TEST_SEED where that is set")
)

// Two standbys of one primary, and whatever can happen to them: cables are
// pulled, pings filtered, frames lost, runs killed, machines rebooted, the
// primary goes and comes back, so does the mail server. After each step the
// network is fixed, and the result is audited. A seed
// makes the same choices again, at the same moments; what the machines make of
// them depends on microseconds.
func TestChaos(t *testing.T) {
	length := *chaosFor
	if length == 0 {
		lab.Long(t)
		length = 2 * time.Minute
	}
	seeds := []uint64{*chaosSeed}
	if *chaosSeed == 0 {
		first, err := strconv.ParseUint(os.Getenv("PINGOVER_TEST_SEED"), 10, 64)
		if err != nil {
			first = uint64(rand.Uint32())
		}
		seeds = []uint64{first, first + 1}
	}
	share(t, seeds, func(seed uint64) string { return fmt.Sprint("seed ", seed) }, func(t *testing.T, seed uint64) {
		t.Logf("to repeat it: go test ./internal/e2e -run TestChaos -chaos.seed %d -chaos.for %s", seed, length)
		c := newChaos(t)
		for n := uint64(0); time.Since(c.began) < length; n++ {
			c.step(rand.New(rand.NewPCG(seed, n)))
			c.audit(rand.New(rand.NewPCG(seed, ^n)))
		}
		c.end()
		t.Logf("%d steps, outcomes %v, took over %d times, audits without a holder at first %d", c.steps, c.outcomes, len(c.tookOver), c.late)
	})
}

// chaotic are settings under which a check is fast, and both standbys may be
// asked at any moment.
var chaotic = set(withVIP, "--count", "5", "--interval", "100ms", "--timeout", "200ms", "--mail-via", "smtp://172.16.0.254:2525", "--mail-timeout", "1s")

// chaos is the network, and its expected state.
type chaos struct {
	*scene
	began    time.Time
	post     *post
	ask      func() []string // the MACs that reply for the virtual IP
	standbys []*lab.Host

	mu       sync.Mutex
	lines    []string // steps and their results
	down     bool     // the primary: off, or its cable is out
	outages  int      // how often it went down
	lossy    bool     // frames are lost at the primary or at a standby
	losses   int
	changes  map[string]told // of the history of both, by event
	outcomes map[state.Outcome]int
	tookOver map[string]bool // events
	steps    int
	late     int // audits that found no holder after the first checks
	guesses  int // takeovers of a primary that is up while frames were lost
}

// told is a change in the history that an email has to report.
type told struct {
	state.Change
	host *lab.Host
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{scene: side(t), began: time.Now(), changes: map[string]told{}, outcomes: map[state.Outcome]int{}, tookOver: map[string]bool{}}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("steps:\n%s", strings.Join(c.lines, "\n"))
		}
	})
	c.standbys = []*lab.Host{c.Standby, c.Second}
	c.post = c.openPost()
	w := c.wire(c.Client, vip4)
	c.ask = func() []string {
		since := time.Now()
		for range 3 {
			c.must(w.Ask(vip4, c.Client.Addr4()))
			time.Sleep(100 * time.Millisecond)
		}
		c.must(w.Err())
		macs := map[string]bool{}
		for _, h := range w.Replies(since) {
			macs[h.MAC.String()] = true
		}
		return slices.Sorted(maps.Keys(macs))
	}
	return c
}

// log records a step.
func (c *chaos) log(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, fmt.Sprintf("%8.3f ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
}

// dies and lives record the state of the primary, before it dies and after it has
// come back: in between it is undefined.
func (c *chaos) dies() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	c.outages++
}

func (c *chaos) lives() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

// blow is something that happens to the network.
type blow struct {
	what string
	do   func()
	fix  func() // nil if nothing has to be fixed, or it ends by itself
}

// blows are all that may happen. The primary goes and comes back in
// a step of its own, since this is what the test is about.
func (c *chaos) blows(r *rand.Rand) blow {
	standby := c.standbys[r.IntN(2)]
	carrier := r.IntN(2) == 0
	some := []*lab.Host{c.Primary, c.Standby, c.Second, c.Gateway}[r.IntN(4)]
	mood := []string{"closed", "silent", "rude", "forgetful", "well"}[r.IntN(5)]
	withVIP := r.IntN(3) > 0
	powerOn := func() {
		c.must(c.Primary.PowerOn())
		if !withVIP {
			c.run(c.Primary, "sh", "-c", "ip addr del 172.16.0.1/32 dev eth0 || true")
		}
		c.must(c.Primary.Plug()) // it may have been on, with its cable out
		c.lives()
	}
	switch r.IntN(14) {
	case 0, 1:
		return blow{fmt.Sprintf("the cable of %s is pulled, carrier %v", some.Name(), carrier), func() {
			if some == c.Primary {
				c.dies()
			}
			_ = some.Unplug(carrier) // it may be off
		}, func() { c.plug(some) }}
	case 2:
		filters := []*lab.Host{c.Primary, c.Gateway}[r.IntN(2)]
		return blow{filters.Name() + " filters pings", func() { c.must(filters.FilterICMP(true)) }, func() { c.must(filters.FilterICMP(false)) }}
	case 3:
		loses := []*lab.Host{c.Primary, c.Standby, c.Second}[r.IntN(3)]
		return blow{"half of what arrives at " + loses.Name() + " is lost", func() { c.lose(loses) }, c.loseNothing}
	case 4:
		return blow{standby.Name() + " is reset", func() {
			c.must(standby.PowerOff())
			time.Sleep(50 * time.Millisecond)
			c.must(standby.PowerOn())
		}, nil}
	case 5:
		return blow{standby.Name() + " is off", func() { c.must(standby.PowerOff()) }, func() { c.must(standby.PowerOn()) }}
	case 6, 7, 8, 9:
		return blow{fmt.Sprintf("the primary is off, and comes back with its virtual IP: %v", withVIP), func() { c.dies(); c.must(c.Primary.PowerOff()) }, powerOn}
	case 10:
		return blow{fmt.Sprintf("the primary comes back, with its virtual IP: %v", withVIP), powerOn, nil}
	case 11:
		return blow{"the primary is taken its virtual IP, or brings it up", func() {
			_, _ = c.Primary.Run("sh", "-c", "ip addr del 172.16.0.1/32 dev eth0 || ip addr add 172.16.0.1/32 dev eth0") // it may be off
		}, nil}
	default:
		return blow{"the mail server is " + mood, func() { c.post.set(mood) }, nil}
	}
}

func (c *chaos) plug(h *lab.Host) {
	_ = h.Plug() // it may be off, then it is plugged in when it is on
	if _, err := c.Primary.Run("true"); h == c.Primary && err == nil {
		c.lives()
	}
}

func (c *chaos) lose(h *lab.Host) {
	c.mu.Lock()
	c.lossy = true
	c.losses++
	c.mu.Unlock()
	c.must(h.Lose(50))
}

func (c *chaos) loseNothing() {
	for _, h := range []*lab.Host{c.Primary, c.Standby, c.Second} {
		c.must(h.Lose(0))
	}
	c.mu.Lock()
	c.lossy = false
	c.mu.Unlock()
}

// step is a few checks of both standbys, about the same time, during each of
// which something happens, and perhaps a run is killed.
func (c *chaos) step(r *rand.Rand) {
	c.steps++
	for range 1 + r.IntN(3) {
		b := c.blows(r)
		at := time.Duration(r.IntN(2500)-500) * time.Millisecond // before they begin, or while they run
		fix := b.fix != nil && r.IntN(2) == 0
		var checks sync.WaitGroup
		if at < 0 {
			c.log("%s", b.what)
			b.do()
		}
		for _, h := range c.standbys {
			skew := time.Duration(r.IntN(1000)) * time.Millisecond
			kill := time.Duration(0)
			if r.IntN(4) == 0 {
				kill = time.Duration(1+r.IntN(3000)) * time.Millisecond
			}
			checks.Go(func() {
				time.Sleep(skew)
				c.check(h, kill)
			})
		}
		if at >= 0 {
			time.Sleep(at)
			c.log("%s", b.what)
			b.do()
		}
		checks.Wait()
		if fix {
			c.log("no more: %s", b.what)
			b.fix()
		}
	}
}

// check runs one check on a host, which may be killed, and compares its result
// with the state of the primary.
func (c *chaos) check(h *lab.Host, kill time.Duration) (quiet bool) {
	if _, err := h.Run("true"); err != nil {
		return false // its power is off
	}
	held := func() bool {
		out, err := h.Run("ip", "-o", "addr", "show", "to", vip4.String())
		return err == nil && out != ""
	}
	before := held()
	c.mu.Lock()
	down, outages, lossy, losses := c.down, c.outages, c.lossy, c.losses
	c.mu.Unlock()

	cmd := c.command(h, append([]string{"check", "--json", "--verbose"}, chaotic...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return false
	}
	if kill > 0 {
		defer time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }).Stop()
	}
	_ = cmd.Wait()
	e := ended{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), code: cmd.ProcessState.ExitCode()}
	after := held()
	how := fmt.Sprintf("exit code %d", e.code)
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		how = fmt.Sprint("ended by signal: ", status.Signal())
	} else if json.Unmarshal(stdout.Bytes(), &e.Report) != nil || !slices.Contains(chaosEnds, e.Outcome) {
		if _, err := h.Run("true"); err == nil { // a host that goes off may take the shell before the program
			c.t.Errorf("%s: %s\n%s%s", h.Name(), how, e.stdout, e.stderr)
		}
	}
	added := after && !before || slices.ContainsFunc(e.Commands, func(ran state.Command) bool { return slices.Contains(ran.Argv, "add") })
	c.log("%-8s checked for %5.2fs: %s %s: %s; added: %v, holds: %v", h.Name(), e.took.Seconds(), how, e.Outcome, e.Reason, added, after)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[e.Outcome]++
	if added && !down && outages == c.outages {
		// When frames are lost it is a matter of odds, see TestHolderWhoseRepliesAreAllLost:
		// a round this short has but six questions, and the kernel may lose
		// sight of its neighbour, and then all pings of a round.
		c.guesses++
		if lossy || losses != c.losses {
			c.lines = append(c.lines, "the primary lived, but frames were lost")
		}
		if !lossy && losses == c.losses || c.guesses > 1 {
			c.t.Errorf("%s took the address of a primary that was up all the time\n%s%s", h.Name(), e.stdout, e.stderr)
		}
	}
	return cmd.ProcessState.Exited()
}

// chaosEnds are the outcomes that can come of it.
var chaosEnds = []state.Outcome{
	state.OK, state.Holding, state.TookOver, state.Released, state.Elsewhere, state.Unserved, state.Unknown, state.Blocked,
}

// audit fixes the network, has each standby check it undisturbed, and checks
// the result. The primary stays as it is, up or down,
// with its virtual IP or without, and so does the mail server.
func (c *chaos) audit(r *rand.Rand) {
	c.t.Helper()
	c.log("audit")
	for _, h := range c.standbys {
		c.must(h.PowerOn())
	}
	for _, h := range []*lab.Host{c.Primary, c.Standby, c.Second, c.Gateway} {
		c.plug(h)
	}
	c.loseNothing()

	// Three checks may pass until a host has the address, if none had it.
	for n := range 3 {
		var checks sync.WaitGroup
		for _, h := range c.standbys {
			skew := time.Duration(r.IntN(1000)) * time.Millisecond
			checks.Go(func() {
				time.Sleep(skew)
				if !c.check(h, 0) {
					c.t.Errorf("%s could not check", h.Name())
				}
			})
		}
		checks.Wait()
		macs := c.ask()
		c.log("the client hears %v", macs)
		if len(macs) > 1 {
			c.t.Errorf("the address is at %v", macs)
		}
		for _, h := range c.standbys {
			rec := c.record(h)
			if held := c.held(h, vip4); held > 1 || (rec.Role == state.Active) != (held == 1) || rec.Pending != nil {
				c.t.Errorf("%s holds the address %d times, in the role %q, intent %+v", h.Name(), held, rec.Role, rec.Pending)
			}
			c.wantNothingLeftOver(h)
			c.remember(h, rec)
		}
		c.wantTold()
		if c.t.Failed() {
			c.t.FailNow()
		}
		if !c.down || len(macs) == 1 {
			return
		}
		c.late += count(n == 0)
	}
	c.t.Fatal("the primary is dead, and after three checks of each standby the address is unassigned")
}

// wantNothingLeftOver fails the test where a process or a temporary file is
// left.
func (c *chaos) wantNothingLeftOver(h *lab.Host) {
	c.t.Helper()
	for _, name := range strings.Fields(c.run(h, "ls", "-A", "/var/lib/pingover")) {
		if strings.HasSuffix(name, ".tmp") {
			c.t.Errorf("%s is left on %s", name, h.Name())
		}
	}
	c.wantNoProcess(h)
}

// remember collects the history, which keeps but the last hundred changes.
func (c *chaos) remember(h *lab.Host, rec *state.Record) {
	for _, change := range rec.Recent {
		switch change.Outcome {
		case state.TookOver:
			c.tookOver[change.Event] = true
			c.changes[change.Event] = told{change.Change, h}
		case state.Released:
			c.changes[change.Event] = told{change.Change, h}
		}
	}
}

// wantTold fails the test unless each change is in an email that came,
// or is pending, or is suppressed for one that reports many; and unless no email tells
// of a takeover that the history does not know.
func (c *chaos) wantTold() {
	c.t.Helper()
	// The event is in the id of the email, or in the text of one that tells
	// many; a notification in the email of another says when and why.
	type sent struct{ id, subject, text string }
	var emails []sent
	suppressed := map[string]bool{}
	for _, l := range c.mail.all() {
		text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(l.body)))
		c.must(err)
		emails = append(emails, sent{l.id, l.subject, string(text)})
	}
	for _, h := range c.standbys {
		rec := c.record(h)
		for _, l := range rec.Outbox {
			emails = append(emails, sent{l.MessageID, l.Subject, l.Body})
		}
		for _, note := range rec.Damping.Suppressed {
			suppressed[note.Event] = true
		}
	}
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	for event, change := range c.changes {
		if !suppressed[event] && !slices.ContainsFunc(emails, func(l sent) bool {
			return strings.HasPrefix(l.id, "<"+event+".") || strings.Contains(l.text, event) ||
				strings.Contains(words(l.text), words(change.Reason)) && strings.Contains(l.text, change.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
		}) {
			c.t.Errorf("no email reports this change on %s: %s %s at %s: %s", change.host.Name(), event, change.Outcome, change.Time, change.Reason)
		}
	}
	for _, l := range emails {
		event, kind, _ := strings.Cut(strings.TrimPrefix(l.id, "<"), ".")
		if strings.HasPrefix(kind, string(state.TookOver)+"@") && !c.tookOver[event] {
			c.t.Errorf("an email reports a takeover that no history knows: %s %q", l.id, l.subject)
		}
	}
}

// end fails the test unless all mail is delivered, when it can be.
func (c *chaos) end() {
	c.t.Helper()
	c.log("the end")
	c.post.set("well")
	for _, h := range c.standbys {
		for range 2 {
			c.check(h, 0)
		}
		if rec := c.record(h); len(rec.Outbox) != 0 {
			c.t.Errorf("%d emails still wait on %s: %s", len(rec.Outbox), h.Name(), *rec.MailError)
		}
	}
	c.wantTold()
}

// post is a mail server with moods: it is closed, silent, rude (hangs up at
// once), forgetful (takes an email and hangs up without a reply), or well. What
// it gets comes into the scene's mailbox.
type post struct {
	c    *chaos
	mu   sync.Mutex
	mood string
	l    net.Listener
}

func (c *chaos) openPost() *post {
	p := &post{c: c}
	p.set("well")
	c.t.Cleanup(func() { p.set("closed") })
	return p
}

func (p *post) set(mood string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mood = mood
	switch {
	case mood == "closed" && p.l != nil:
		p.l.Close()
		p.l = nil
	case mood != "closed" && p.l == nil:
		var l net.Listener
		p.c.must(p.c.Gateway.Do(func() (err error) {
			l, err = net.Listen("tcp", ":2525")
			return err
		}))
		p.l = l
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go p.serve(conn)
			}
		}()
	}
}

func (p *post) serve(conn net.Conn) {
	defer conn.Close()
	p.mu.Lock()
	mood := p.mood
	p.mu.Unlock()
	switch mood {
	case "silent":
		io.Copy(io.Discard, conn)
		return
	case "rude":
		return
	}
	talk := textproto.NewConn(conn)
	for answer := "220 gateway"; talk.PrintfLine("%s", answer) == nil; {
		line, err := talk.ReadLine()
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "QUIT":
			answer = "221 gateway"
		case "DATA":
			_ = talk.PrintfLine("354 gateway")
			text, err := talk.ReadDotBytes()
			if err != nil || (&session{box: p.c.mail, to: []string{"ops@example.org"}}).Data(bytes.NewReader(text)) != nil || mood == "forgetful" {
				return
			}
			answer = "250 gateway"
		default:
			answer = "250 gateway"
		}
	}
}
