package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Exit codes of what is wrong with settings, after sysexits.h.
const (
	CodeUsage  = 64 // EX_USAGE: a value on the command line
	CodeConfig = 78 // EX_CONFIG: a file that a value names
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	Place string // where it stands: `--interval "3"`
	Text  string
	Code  int // CodeUsage or CodeConfig
}

func (p Problem) Error() string { return p.Place + ": " + p.Text }

// Problems is everything that is wrong with the settings, one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Code is the exit code for all of them together: a wrong value comes before
// a file that cannot be read.
func (p Problems) Code() int {
	for _, problem := range p {
		if problem.Code == CodeUsage {
			return CodeUsage
		}
	}
	return CodeConfig
}

// Env is what the defaults take from the machine and the environment.
type Env struct {
	Hostname string
	Root     bool                     // runs as root
	Getenv   func(name string) string // "" where there is none
}

// FromFlags makes a cluster of flags: the values of each setting by its name,
// in the order given. The error is nil or Problems.
func FromFlags(values map[string][]string, env Env) (Cluster, error) {
	given := make(map[string][]string, len(values))
	for _, s := range Settings() {
		if texts := values[s.Name]; len(texts) > 0 {
			given[s.Name] = slices.Clone(texts)
		}
	}
	c, err := draftOf(values, env).build()
	if err == nil {
		c.Given = given
	}
	return c, err
}

// draftOf is the draft of a cluster that flags make.
func draftOf(values map[string][]string, env Env) *draft {
	given := make(map[string][]value, len(values))
	for _, s := range Settings() {
		for _, text := range values[s.Name] {
			given[s.Name] = append(given[s.Name], value{text, fmt.Sprintf("--%s %q", s.Name, s.shown(text))})
		}
	}
	return &draft{env: env, given: given, place: func(name string) string { return "--" + name }, bad: map[string]bool{}}
}

// shown is a value as errors quote it.
func (s Setting) shown(text string) string {
	if s.hide != nil {
		return s.hide(text)
	}
	return text
}

// value is a value as given, and where.
type value struct{ text, place string }

// draft is a cluster in the making.
type draft struct {
	Cluster
	env      Env
	given    map[string][]value
	place    func(name string) string // of a setting that is not given
	bad      map[string]bool          // settings with a problem: what builds on them is not looked at
	netmask  int                      // in bits; 0 for none
	bare     []bool                   // for each of VIPs: given without /BITS
	problems Problems
}

// fileError is a file that a value names and that cannot be used.
type fileError struct{ error }

// build parses what is given, fills in the defaults and then looks at what
// the settings say together.
func (d *draft) build() (Cluster, error) {
	for _, s := range Settings() {
		d.parse(s)
	}
	d.completeName()
	d.completeVIPs()
	d.completeLabel()
	d.completeSource()
	d.completeWitness()
	d.completeLease()
	d.completeFailback()
	d.completeMail()
	d.completeStateDir()
	if len(d.problems) > 0 {
		return Cluster{}, d.problems
	}
	return d.Cluster, nil
}

// parse sets one setting to what is given, or to its default.
func (d *draft) parse(s Setting) {
	values := d.given[s.Name]
	if len(values) == 0 && s.Default != "" {
		values = []value{{text: s.Default}}
	}
	if len(values) == 0 && s.Required {
		d.wrong(s.Name, d.place(s.Name), "missing; every cluster needs one")
		return
	}
	if s.Kind != List && len(values) > 1 {
		d.wrong(s.Name, values[len(values)-1].place, "given %d times, and takes one value", len(values))
		return
	}
	for _, v := range values {
		var err error
		switch {
		case v.text == "":
			err = errors.New("a value is missing")
		case !utf8.ValidString(v.text):
			// It would be another value where it is read from the record.
			err = errors.New("not UTF-8")
		default:
			err = s.set(d, v.text)
		}
		if err != nil {
			d.refuse(s.Name, v.place, err)
		}
	}
}

// wrong notes a problem of a setting.
func (d *draft) wrong(name, place, format string, args ...any) {
	d.refuse(name, place, fmt.Errorf(format, args...))
}

func (d *draft) refuse(name, place string, err error) {
	code := CodeUsage
	if _, ok := errors.AsType[fileError](err); ok {
		code = CodeConfig
	}
	d.bad[name] = true
	d.problems = append(d.problems, Problem{Place: place, Text: err.Error(), Code: code})
}

// is says whether a setting was given, and is right as far as it goes.
func (d *draft) is(name string) bool { return len(d.given[name]) > 0 && !d.bad[name] }

// at is the place of the n-th value of a setting, from 0.
func (d *draft) at(name string, n int) string {
	if values := d.given[name]; n < len(values) {
		return values[n].place
	}
	return d.place(name)
}
