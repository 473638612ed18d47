package config

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"maps"
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

// File is what a configuration file defines, in its order.
type File struct {
	Clusters []Cluster
	Pools    []Pool
}

// FromFile makes clusters and pools from the content of a configuration file.
// Flags apply to those of these names, without names to all; they override the
// settings of the cluster, which override the defaults. path names the file in
// errors. The error is Problems: all errors, in the order of the file.
func FromFile(path string, data []byte, flags map[string][]string, env Env, names ...string) (File, error) {
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	table := AllSettings()
	wrong := &findings{file: path}
	file := readSections(data, table, wrong)

	given := newDraft(env, Settings(), fromFlags(flags))
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

	var all File
	var drafts []*draft
	claims := newClaims(path)
	for _, section := range file.named {
		table := of(section.scope)
		own := newDraft(env, table, section.given)
		own.bad, own.certificates, own.scope = section.bad, shared.certificates, section.scope
		over := given
		if len(names) > 0 && !slices.Contains(names, section.given["name"][0].text) {
			over = given.ofGroup(groupFiles)
		}
		own.parseHidden(over)
		wrong.add(section.whose, own.faults...)

		d := newDraft(env, table, map[string][]value{})
		d.file, d.line, d.certificates, d.scope = path, section.line, shared.certificates, section.scope
		d.cover(shared)
		d.inherited = maps.Clone(shared.given)
		d.cover(own)
		d.cover(over)
		if section.scope == Pools {
			all.Pools = append(all.Pools, d.buildPool())
		} else {
			all.Clusters = append(all.Clusters, d.build())
		}
		drafts = append(drafts, d)
		claims.check(d)
	}
	clusters := all.Clusters
	for i, d := range drafts {
		claims.checkWitness(d)
		if d.scope == Clusters {
			claims.checkHost(d)
			if d.Label == "" {
				clusters[0].Reserved = claims.reserved
			}
			clusters = clusters[1:]
		}
		wrong.add(file.named[i].whose, d.faults...)
	}
	if problems := wrong.problems(); len(problems) > 0 {
		return File{}, problems
	}
	return all, nil
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
