package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"

	"pingover/internal/exit"
)

// maxFile is the most bytes that a configuration file can have.
const maxFile = 1 << 20

// ReadFile reads the configuration file. It names commands to run: as root, a file
// that another user can write to is refused. The error is Problems; it is also
// fs.ErrNotExist or fs.ErrPermission if the file does not exist or may not be read.
func ReadFile(path string, root bool) ([]byte, error) {
	data, err := readFile(path, maxFile, func(info fs.FileInfo) error {
		if problems := untrusted(path, info); root && len(problems) > 0 {
			return problems
		}
		return nil
	})
	if _, problems := err.(Problems); problems || err == nil {
		return data, err
	}
	return nil, unopened{Problems{{Place: path, Text: err.Error(), Code: exit.Config}}, err}
}

// unopened is the problem of a file that cannot be read, and its cause.
type unopened struct {
	Problems
	cause error
}

func (u unopened) Unwrap() []error { return []error{u.Problems, u.cause} }

// FromFile makes clusters from the content of a configuration file, in its order.
// Flags apply to the clusters of these names, without names to all; they override
// the settings of the cluster, which override the defaults. path names the file in
// errors. The error is Problems: all errors, in the order of the file.
func FromFile(path string, data []byte, flags map[string][]string, env Env, names ...string) ([]Cluster, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // written by some editors
	table := Settings()
	wrong := &findings{file: path}
	file := readSections(data, table, wrong)

	given := newDraft(env, table, fromFlags(flags))
	given.parseGiven()
	for _, name := range []string{"name", "host"} {
		if len(given.given[name]) > 0 && !given.bad[name] {
			given.wrong(name, 0, "defines a cluster by flags, but the clusters are in %s", path)
		}
	}
	wrong.add("", given.faults...)
	shared := newDraft(env, table, file.defaults.given)
	shared.bad = file.defaults.bad
	shared.parseGiven()
	wrong.add("defaults", shared.faults...)

	var clusters []Cluster
	var drafts []*draft
	claims := claims{file: path, vips: map[netip.Addr]string{}, labels: map[string]string{}}
	for _, section := range file.clusters {
		own := newDraft(env, table, section.given)
		own.bad, own.certificates = section.bad, shared.certificates
		over := given
		if len(names) > 0 && !slices.Contains(names, section.given["name"][0].text) {
			over = given.ofGroup(groupFiles)
		}
		own.parseHidden(over)
		wrong.add(section.whose, own.faults...)

		d := newDraft(env, table, map[string][]value{})
		d.file, d.line, d.certificates = path, section.line, shared.certificates
		d.cover(shared)
		d.inherited = maps.Clone(shared.given)
		d.cover(own)
		d.cover(over)
		clusters = append(clusters, d.build())
		drafts = append(drafts, d)
		claims.check(d)
	}
	for i, d := range drafts {
		claims.checkWitness(d)
		claims.checkHost(d)
		wrong.add(file.clusters[i].whose, d.faults...)
		if d.Label == "" {
			clusters[i].Reserved = claims.reserved
		}
	}
	if problems := wrong.problems(); len(problems) > 0 {
		return nil, problems
	}
	return clusters, nil
}

// parseGiven parses each given value on its own.
func (d *draft) parseGiven() {
	for _, s := range d.table {
		if len(d.given[s.Name]) > 0 {
			d.parse(s)
		}
	}
}

// parseHidden parses each value on its own that another draft overrides: it must
// be valid without that.
func (d *draft) parseHidden(over *draft) {
	for _, s := range d.table {
		if len(d.given[s.Name]) > 0 && len(over.given[s.Name]) > 0 {
			d.parse(s)
		}
	}
}

// ofGroup is what is given of the settings of one group.
func (d *draft) ofGroup(group string) *draft {
	some := newDraft(d.env, d.table, map[string][]value{})
	for _, s := range d.table {
		if s.Group == group && len(d.given[s.Name]) > 0 {
			some.given[s.Name] = d.given[s.Name]
			if d.bad[s.Name] {
				some.bad[s.Name] = true
			}
		}
	}
	return some
}

// cover overrides what was given so far with another draft and its errors.
func (d *draft) cover(layer *draft) {
	for name := range layer.given {
		delete(d.bad, name)
		delete(d.inherited, name)
	}
	maps.Copy(d.given, layer.given)
	maps.Copy(d.bad, layer.bad)
}

// claims are the values that only one cluster can have, and its name.
type claims struct {
	file     string // of the clusters
	vips     map[netip.Addr]string
	labels   map[string]string
	reserved []string // the labels
	first    string   // cluster, which all others are compared with
	metrics  string   // file of the first
	arpRate  int
}

// check checks that a cluster claims nothing that another one has.
func (c *claims) check(d *draft) {
	if d.bad["name"] {
		return
	}
	if !d.bad["vip"] {
		for i, v := range d.VIPs {
			if other, taken := c.vips[v.Address()]; taken {
				d.wrong("vip", i, "cluster %s already has it", other)
				continue
			}
			c.vips[v.Address()] = d.Name
		}
	}
	if d.is("label") {
		if other, taken := c.labels[d.Label]; taken {
			d.wrong("label", 0, "cluster %s already has it", other)
		} else {
			c.labels[d.Label] = d.Name
			c.reserved = append(c.reserved, d.Label)
		}
	}
	if c.first == "" {
		c.arpRate = d.ARPRate
	} else if d.ARPRate != c.arpRate && !d.bad["arp-rate"] {
		d.wrong("arp-rate", 0, "must be the same for all clusters, but cluster %s has %d; put it into defaults", c.first, c.arpRate)
	}
	switch {
	case d.bad["metrics-file"]:
	case c.first == "":
		c.first, c.metrics = d.Name, d.MetricsFile
		if sameFile(c.file, c.metrics) {
			d.wrong("metrics-file", 0, "is the configuration file, which the metrics would overwrite")
		}
	case d.MetricsFile != c.metrics:
		d.wrong("metrics-file", 0, "must be the same for all clusters, but cluster %s has %s; put it into defaults",
			c.first, cmp.Or(c.metrics, "none"))
	}
}

// holder is the cluster with that virtual IP. A link-local one without an
// interface may be assigned to any.
func (c *claims) holder(a netip.Addr) (name string, taken bool) {
	if name, taken = c.vips[a]; !taken {
		name, taken = c.vips[a.WithZone("")]
	}
	return name, taken
}

// checkWitness checks that no witness is a virtual IP of another cluster: while
// that is held here, this machine would reply to itself.
func (c *claims) checkWitness(d *draft) {
	if !d.is("witness") || d.bad["name"] {
		return
	}
	for i, addr := range d.Witness.Addresses {
		if other, taken := c.holder(addr); taken && other != d.Name {
			d.wrong("witness", i, "is a vip of cluster %s, which may be assigned here; set witness to a third machine", other)
		}
	}
}

// checkHost checks that no host is a virtual IP of another cluster: while that is
// held here, it cannot be pinged, and its own would never be taken over.
func (c *claims) checkHost(d *draft) {
	if d.bad["name"] {
		return
	}
	for i, host := range d.hostAddresses() {
		if other, taken := c.holder(host); taken && other != d.Name {
			d.wrong("host", i, "is a vip of cluster %s, which may be assigned here; put the vips of both into one cluster, or give an address that stays on the primary", other)
		}
	}
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// findings are the errors of a file, each of defaults or of a cluster. An error
// that many clusters share is reported once.
type findings struct {
	file  string
	found []finding
	index map[fault]int
}

type finding struct {
	fault
	whose, last string
	more        int // clusters with the same one
}

func (f *findings) add(whose string, faults ...fault) {
	for _, one := range faults {
		i, known := f.index[one]
		if !known {
			if f.index == nil {
				f.index = map[fault]int{}
			}
			f.index[one] = len(f.found)
			f.found = append(f.found, finding{fault: one, whose: whose, last: whose})
		} else if f.found[i].last != whose {
			f.found[i].last = whose
			f.found[i].more++
		}
	}
}

// wrong notes an error of the file itself; what is "" if the line says enough.
func (f *findings) wrong(whose string, line int, what, format string, args ...any) {
	f.add(whose, fault{line: line, what: what, text: fmt.Sprintf(format, args...), code: exit.Config})
}

// mostProblems limits what cron mails each minute.
const mostProblems = 50

// problems are the first findings, those of flags and then in the order of the
// file, and the number of the others.
func (f *findings) problems() Problems {
	slices.SortStableFunc(f.found, func(a, b finding) int { return cmp.Compare(a.line, b.line) })
	var problems Problems
	for _, one := range f.found {
		whose := one.whose
		if one.more > 0 {
			whose = fmt.Sprintf("%s and %d more", whose, one.more)
		}
		problems = append(problems, one.problem(f.file, whose))
	}
	if more := problems[min(len(problems), mostProblems):]; len(more) > 1 {
		text := fmt.Sprintf("%d more errors", len(more))
		problems = append(problems[:mostProblems], Problem{Place: f.file, Text: text, Code: more.Code()})
	}
	return problems
}
