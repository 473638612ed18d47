package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/pool"
	"pingover/state"
)

// Bounds of a record set.
const (
	mostA    = 70  // A records in an answer by UDP, with the 1232 bytes of EDNS(0) (RFC 9715)
	mostAAAA = 40  // AAAA records
	mostBIND = 100 // records of one type that BIND holds (max-records-per-type)
)

// RunPool is Run for a pool.
func RunPool(ctx context.Context, p config.Pool, sendTest bool) []Finding {
	x := newPoolExamination(balance.Real(p), p)
	server := func() (notify.Server, error) { return run.MailServer(p.Mail) }
	x.testMail = func(ctx context.Context) (string, error) {
		s, err := server()
		if err != nil {
			return "", err
		}
		return s.TestConnection(ctx)
	}
	x.sendMail = func(ctx context.Context, m state.Message, to string) (string, error) {
		s, err := server()
		if err != nil {
			return "", err
		}
		return s.SendTest(ctx, m, to)
	}
	return x.run(ctx, sendTest)
}

// RunPoolIn is RunPool in an environment of the caller's making, without mail
// functions.
func RunPoolIn(ctx context.Context, env balance.Env, p config.Pool, sendTest bool) []Finding {
	return newPoolExamination(env, p).run(ctx, sendTest)
}

// poolExamination is what a check of a pool finds, and what is to be said about it.
type poolExamination struct {
	balance.Examination
	env balance.Env
	set config.Pool
	subject
}

func newPoolExamination(env balance.Env, p config.Pool) *poolExamination {
	return &poolExamination{env: env, set: p, subject: subject{
		kind: state.OfPool, name: p.Name, metricsFile: p.MetricsFile, way: p.Mail, dir: state.Dir(p.StateDir), began: time.Now(),
		mayRun: env.Trusted, command: notify.Command{Argv: p.Mail.Notify, Timeout: p.CommandTimeout}, about: balance.About(p, balance.Record{}),
	}}
}

func (x *poolExamination) run(ctx context.Context, sendTest bool) []Finding {
	x.Examination = balance.Examine(ctx, x.env, x.set, func(event any) {
		if note, ok := event.(run.Note); ok && note.Warning {
			x.notes = append(x.notes, note.Text)
		}
	})
	x.head = &x.Record.Head
	if x.MayPing != nil {
		x.fail("run pingover as root, or with the capability CAP_NET_RAW", "%v", x.MayPing)
	} else if len(x.set.Services) == 0 {
		x.good("this process may ping")
	}
	x.stateDir()
	x.record()
	x.server(ctx)
	x.records()
	x.members()
	for _, text := range x.notes {
		x.warn("find out why; checks go on meanwhile", "%s", text)
	}
	x.metrics()
	x.mail(ctx, sendTest)
	return x.found
}

// record is what is known of the last checks.
func (x *poolExamination) record() {
	switch err := x.RecordErr; {
	case errors.As(err, new(*state.ForeignError)), errors.As(err, new(*state.KindError)):
		x.add(refusal(run.Foreign(err)))
		return
	case err != nil:
		x.warn(withoutRecord(err), "%v; checks go on with what the name server shows", err)
	default:
		x.lastCheck()
	}
	x.paused("the records are not changed")
	x.suppressed()
	for _, m := range x.Record.Members {
		if m.DrainedAt(x.began) {
			x.warn(fmt.Sprintf("to put it back: pingover undrain %s %s", x.name, m.Address), "%s is drained", m.Address)
		}
	}
}

// server is the name server, and what it lets this machine do.
func (x *poolExamination) server(ctx context.Context) {
	record, zone := strings.TrimSuffix(x.set.Record, "."), strings.TrimSuffix(x.Zone.Name, ".")
	switch {
	case x.KeyErr != nil:
		x.fail(hintOr(x.KeyErr, "set key-file to a file that tsig-keygen has written"), "key-file: %v", x.KeyErr)
		return
	case x.Key.Name != "":
		x.good("key %s", x.Key)
	case x.set.KeyFile == "":
		x.warn("set key-file, and let the server demand the key", "no key-file: questions and updates are unsigned")
	}
	if x.ReadErr != nil {
		x.fail(hintOr(x.ReadErr, "check that the name server runs, and that server is its address"), "%v", x.ReadErr)
		return
	}
	x.good("name server %s: answers by TCP for %s", x.set.Server, record)
	x.good("zone %s: a record that is missing is remembered by clients for %s", zone, config.DurationText(x.Zone.Negative))
	x.primary(ctx, zone)
	if x.RightErr != nil {
		x.fail(hintOr(x.RightErr, "grant the key the right to update A and AAAA of "+record), "%v", x.RightErr)
		return
	}
	x.good("this machine may change %s: an update that changes nothing was accepted", record)
}

// primary compares the server with the one that the zone names as its primary. A
// hidden primary is another one, so this is no fault.
func (x *poolExamination) primary(ctx context.Context, zone string) {
	host, _, err := net.SplitHostPort(x.set.Server)
	server, notAddress := netip.ParseAddr(host)
	if err != nil || notAddress != nil {
		return
	}
	addrs, err := x.env.Resolve(ctx, strings.TrimSuffix(x.Zone.Primary, "."))
	if err == nil && !slices.Contains(addrs, server) {
		x.warn("set server to the primary, unless it is a hidden one: a secondary refuses updates, or shows them late",
			"the primary name server of %s is %s, and server is %s", zone, strings.TrimSuffix(x.Zone.Primary, "."), x.set.Server)
	}
}

// records is the record set.
func (x *poolExamination) records() {
	if x.KeyErr != nil || x.ReadErr != nil {
		return
	}
	record := strings.TrimSuffix(x.set.Record, ".")
	for _, family := range []struct {
		kind string
		set  pool.Records
		v6   bool
		most int
	}{{"A", x.Set.A, false, mostA}, {"AAAA", x.Set.AAAA, true, mostAAAA}} {
		if len(family.set.Addrs) == 0 {
			continue
		}
		n := len(family.set.Addrs)
		for _, m := range x.set.Members {
			if m.Is6() == family.v6 && !slices.Contains(family.set.Addrs, m) {
				n++
			}
		}
		if family.set.TTL != x.set.TTL {
			x.warn("nothing: the next record that is added sets the ttl", "%s %s has the TTL %s, and ttl is %s", record, family.kind, config.DurationText(family.set.TTL), config.DurationText(x.set.TTL))
		} else {
			x.good("%s %s: %s, TTL %s", record, family.kind, records(len(family.set.Addrs)), config.DurationText(family.set.TTL))
		}
		switch {
		case n > mostBIND:
			x.fail("set max-records-per-type of BIND, or have fewer members", "with all members %s has %d %s records: BIND holds %d", record, n, family.kind, mostBIND)
		case n > family.most:
			x.warn("have fewer members", "with all members %s has %d %s records: above %d every client needs TCP", record, n, family.kind, family.most)
		}
	}
	if len(x.Foreign) > 0 {
		x.warn("nothing, if they belong there: pingover neither checks nor removes them", "published and no members: %s", addresses(x.Foreign))
	}
	if len(x.Left) > 0 {
		x.warn("delete these records, or make them members again", "published and no longer members: %s", addresses(x.Left))
	}
}

// members is each member now.
func (x *poolExamination) members() {
	works := "replies"
	if len(x.set.Services) > 0 {
		works = "its services work"
	}
	for _, m := range x.Members {
		where := "out of DNS"
		if m.Published {
			where = "in DNS"
		}
		switch {
		case m.Own:
			x.warn("check the pool from another machine too: this one always reaches itself", "member %s is an address of this machine", m.Address)
		case m.Verdict == check.Up:
			x.good("member %s: %s, %s", m.Address, works, where)
		case m.Verdict == check.Down && m.Fault != "":
			x.warn("check that host", "member %s: %s, %s", m.Address, m.Fault, where)
		case m.Verdict == check.Down:
			x.warn("check that host, and that it replies to ping", "member %s: no reply, %s", m.Address, where)
		case len(x.set.Services) > 0:
			x.fail("fix what is named; until then the member stays as it is", "member %s could not be asked: %s", m.Address, m.Fault)
		default:
			x.fail("check the network of this machine", "member %s could not be asked: %s", m.Address, m.Fault)
		}
	}
	for _, w := range x.Witnesses {
		if !w.Answers {
			x.warn("set witness to a host that replies to ping", "witness %s: no reply to ping", w.Address)
		} else {
			x.good("witness %s replies", w.Address)
		}
	}
}

// hintOr is what to do about an error of the name server.
func hintOr(err error, otherwise string) string {
	if e, ok := errors.AsType[*pool.Error](err); ok && e.Hint != "" {
		return e.Hint
	}
	return otherwise
}

func addresses(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func records(n int) string {
	if n == 1 {
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}
