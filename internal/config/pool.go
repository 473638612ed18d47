package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/check"
	"pingover/pool"
)

// maxMembers is the most members of a pool.
const maxMembers = 1000

// Pool is one pool's settings, parsed and within their ranges.
type Pool struct {
	Name       string
	Record     string       // fully qualified, lower case, with the final dot
	Server     string       // host:port
	Zone       string       // as Record; "": found by asking the server
	Members    []netip.Addr // in the order of the file
	KeyFile    string       // "": unsigned
	TTL        time.Duration
	MinMembers int // per family
	Count      int
	Interval   time.Duration
	Timeout    time.Duration
	RetryWait  time.Duration
	Source     netip.Addr // zero: what the kernel chooses; only for members of its family
	Witness    Witness
	// Services are what must work at a member; none: it must reply to ping.
	Services       []check.Service
	ServiceCA      string // file of the roots for https; "": this machine's
	Rise           int
	CommandTimeout time.Duration // of a service command, and of the notify command
	Mail           Mail
	StateDir       string
	MetricsFile    string // "": none
	Syslog         bool   // as of a Cluster
	// Given and From are as those of a Cluster.
	Given map[string][]string
	From  map[string]string
}

// PoolFrom makes a pool of its settings as they were kept: those of Given. The
// error is nil or Problems.
func PoolFrom(values map[string][]string, env Env) (Pool, error) {
	d := newDraft(env, of(Pools), fromFlags(values))
	d.scope = Pools
	return d.buildPool(), d.err()
}

// buildPool is build for a pool.
func (d *draft) buildPool() Pool {
	d.parseAll()
	d.completeMembers()
	d.completeRecord()
	d.completeMail()
	d.completeStateDir()
	d.completeCredentials()
	if len(d.bad) > 0 {
		return Pool{}
	}
	d.remember()
	p, c := d.pool, d.Cluster
	p.Name, p.Count, p.Interval, p.Timeout, p.RetryWait = c.Name, c.Count, c.Interval, c.Timeout, c.RetryWait
	p.Source, p.Witness, p.Rise, p.CommandTimeout = c.Source, c.Witness, c.Rise, c.Hooks.Timeout
	p.Services, p.ServiceCA = c.Services, c.ServiceCA
	p.Mail, p.StateDir, p.MetricsFile, p.Syslog, p.Given, p.From = c.Mail, c.StateDir, c.MetricsFile, c.Syslog, c.Given, c.From
	return p
}

func setRecord(d *draft, text string) (err error) {
	d.pool.Record, err = pool.Name(text)
	return err
}

func setZone(d *draft, text string) (err error) {
	d.pool.Zone, err = pool.Name(text)
	return err
}

func setServer(d *draft, text string) (err error) {
	d.pool.Server, err = pool.ServerAddress(text)
	return err
}

func addMember(d *draft, text string) error {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return errors.New("not an address; give each member by its address, for a name may be that of several hosts")
	}
	switch err := checkAddress(a); {
	case err != nil:
		return err
	case a.IsLoopback() || a.IsLinkLocalUnicast():
		return errors.New("clients cannot reach it: it means another host, or none, on each machine")
	case slices.Contains(d.pool.Members, a):
		return fmt.Errorf("%s is given twice", a)
	case len(d.pool.Members) == maxMembers:
		return fmt.Errorf("more than %d members", maxMembers)
	}
	d.pool.Members = append(d.pool.Members, a)
	return nil
}

// completeMembers checks what depends on the members: min-members, source and
// witness.
func (d *draft) completeMembers() {
	witnesses := d.oneWitness()
	if d.bad["members"] {
		return
	}
	families := map[bool]int{}
	for _, m := range d.pool.Members {
		families[m.Is6()]++
	}
	for _, family := range []struct {
		v6   bool
		name string
	}{{false, "IPv4"}, {true, "IPv6"}} {
		n := families[family.v6]
		if d.is("min-members") && n > 0 && d.pool.MinMembers > n {
			d.wrong("min-members", 0, "more than the pool has %s members, %d", family.name, n)
			break
		}
	}
	if d.is("source") && families[d.Source.Is6()] == 0 {
		d.Source = netip.Addr{}
		d.unfit("source", "cannot be the source of pings to the members: one is IPv4, the others IPv6")
	}
	if witnesses {
		for i, w := range d.Witness.Addresses {
			if slices.Contains(d.pool.Members, w) {
				d.wrong("witness", i, "is a member; set witness to another machine")
			}
		}
	}
}

// completeRecord checks that the record is in the zone.
func (d *draft) completeRecord() {
	if !d.is("zone") || !d.is("record") {
		return
	}
	if r, z := d.pool.Record, d.pool.Zone; r != z && z != "." && !strings.HasSuffix(r, "."+z) {
		d.wrong("record", 0, "is outside the zone %s", strings.TrimSuffix(z, "."))
	}
}
