package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"pingover/internal/exit"
)

// Problem is one error in the settings.
type Problem struct {
	Place string // its place: `--interval "3"`
	Text  string
	Code  int // exit.Usage or exit.Config
}

func (p Problem) Error() string { return p.Place + ": " + p.Text }

// Problems are all errors in the settings, one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Code is the exit code for all of them: a usage error comes before a file that
// cannot be read.
func (p Problems) Code() int {
	for _, problem := range p {
		if problem.Code == exit.Usage {
			return exit.Usage
		}
	}
	return exit.Config
}

// Env is what the defaults take from the machine and the environment.
type Env struct {
	Hostname string
	Root     bool // runs as root
	// Kept says that the settings were valid when they were kept: a file that they
	// name (hook, password, CA) and that cannot be used by now is no error of them.
	Kept   bool
	Getenv func(name string) string // "" for none
	// Checked tells whether a cluster was checked before; nil: none was.
	Checked func(stateDir, name string) bool
}

// FromFlags makes a cluster of flags: the values of each setting by its name,
// in the order given. The error is nil or Problems.
func FromFlags(values map[string][]string, env Env) (Cluster, error) {
	d := newDraft(env, Settings(), fromFlags(values))
	return d.build(), d.err()
}

// fromFlags are the values of flags.
func fromFlags(flags map[string][]string) map[string][]value {
	given := make(map[string][]value, len(flags))
	for name, texts := range flags {
		for _, text := range texts {
			given[name] = append(given[name], value{text: text})
		}
	}
	return given
}

// value is a value as given, and its line in the file; 0 for a flag.
type value struct {
	text string
	line int
}

// draft is a cluster in the making, or a pool.
type draft struct {
	Cluster      // with the settings that pools have, too
	pool    Pool // those that only pools have
	scope   Scope
	env     Env
	table   []Setting
	file    string // "" if flags alone make the cluster
	line    int    // where the cluster begins in the file
	given   map[string][]value
	bad     map[string]bool // settings with an error: what depends on them is not checked
	// inherited is what only the defaults of the file set: ignored if it does not
	// apply.
	inherited map[string][]value
	netmask   int    // in bits; 0 for none
	bare      []bool // for each of VIPs: given without /BITS
	faults    []fault
	// credentials are the faults of mail's credentials: see completeCredentials.
	credentials []credentialsFault
	// certificates are the errors of the files that were read. Thousands of
	// clusters may name the same large one.
	certificates map[string]error
}

func newDraft(env Env, table []Setting, given map[string][]value) *draft {
	return &draft{env: env, table: table, scope: Clusters, given: given, bad: map[string]bool{}, certificates: map[string]error{}}
}

// fault is one error, of a flag or in a file.
type fault struct {
	line int    // of the file; 0: on the command line
	what string // the setting, with its value: `interval "3"`
	text string
	code int
}

// credentialsFault is a fault of this setting.
type credentialsFault struct {
	fault
	setting string
}

// problem is the fault as the operator sees it. whose, such as `cluster web`, adds
// to its place.
func (f fault) problem(file, whose string) Problem {
	p := Problem{Place: "--" + f.what, Text: f.text, Code: f.code}
	if f.line > 0 {
		p.Place = place(file, f.line)
		if f.what != "" {
			p.Text = f.what + ": " + p.Text
		}
	}
	if whose != "" {
		p.Text = whose + ": " + p.Text
	}
	return p
}

// place is a line of a file, as compilers write it.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// fileError is the error of a file that a value names.
type fileError struct{ error }

func (e fileError) Unwrap() error { return e.error }

// build parses what is given, fills in the defaults and then checks how the
// settings fit together.
func (d *draft) build() Cluster {
	d.parseAll()
	d.completeName()
	d.completeVIPs()
	d.completeHost()
	d.completeLabel()
	d.completeVIPName()
	d.completeSource()
	d.completeWitness()
	d.completeArbiter()
	d.completeLease()
	d.completeFailback()
	d.completeFailoverOn()
	d.completeIsolated()
	d.completeMail()
	d.completeStateDir()
	d.completeCredentials()
	if len(d.bad) > 0 {
		return Cluster{}
	}
	d.remember()
	return d.Cluster
}

// parseAll sets every setting to what is given, or to its default.
func (d *draft) parseAll() {
	for _, s := range d.table {
		d.parse(s)
	}
}

// err is nil or the Problems of a draft of flags.
func (d *draft) err() error {
	if len(d.faults) == 0 {
		return nil
	}
	problems := make(Problems, len(d.faults))
	for i, f := range d.faults {
		problems[i] = f.problem("", "")
	}
	return problems
}

// parse sets one setting to what is given, or to its default.
func (d *draft) parse(s Setting) {
	if d.bad[s.Name] {
		return
	}
	values := d.given[s.Name]
	if len(values) == 0 && s.Default != "" {
		values = []value{{text: s.Default}}
	}
	if len(values) == 0 && s.Required {
		d.wrong(s.Name, 0, "missing; every %s needs one", d.scope)
		return
	}
	if s.Kind != List && len(values) > 1 {
		d.wrong(s.Name, len(values)-1, "given %d times, and takes one value", len(values))
		return
	}
	for i, v := range values {
		var err error
		switch {
		case v.text == "":
			err = errors.New("a value is missing")
		case !utf8.ValidString(v.text):
			// As JSON in the record it would be another value.
			err = errors.New("not UTF-8")
		default:
			err = s.set(d, v.text)
		}
		if err != nil {
			d.refuse(s.Name, i, err)
		}
	}
}

// remember keeps what the cluster was made from.
func (d *draft) remember() {
	d.Given, d.From = make(map[string][]string, len(d.given)), make(map[string]string, len(d.given))
	for _, s := range d.table {
		for i, v := range d.given[s.Name] {
			d.Given[s.Name] = append(d.Given[s.Name], v.text)
			if i == 0 {
				d.From[s.Name] = d.from(s.Name, v)
			}
		}
	}
}

// from is the origin of a value.
func (d *draft) from(name string, v value) string {
	if v.line > 0 {
		return place(d.file, v.line)
	}
	return "--" + name
}

// wrong notes a fault in the n-th value of a setting, from 0, or that it has none.
func (d *draft) wrong(name string, n int, format string, args ...any) {
	d.refuse(name, n, fmt.Errorf(format, args...))
}

// unfit notes that a setting does not apply to this cluster: an error unless it
// comes from defaults.
func (d *draft) unfit(name, format string, args ...any) {
	if _, shared := d.inherited[name]; shared {
		delete(d.given, name)
		return
	}
	d.wrong(name, 0, format, args...)
}

func (d *draft) refuse(name string, n int, err error) {
	_, ofFile := errors.AsType[fileError](err)
	_, ofCredentials := errors.AsType[credentialsError](err)
	if ofFile && d.env.Kept && !ofCredentials {
		return
	}
	f := fault{line: d.line, what: name, text: err.Error(), code: exit.Usage}
	if values := d.given[name]; n < len(values) {
		f.line = values[n].line
		f.what = fmt.Sprintf("%s %q", name, d.shown(name, values[n].text))
	}
	if _, alone := errors.AsType[needsFencing](err); alone || ofFile || f.line > 0 {
		f.code = exit.Config
	}
	if ofCredentials {
		d.credentials = append(d.credentials, credentialsFault{f, name})
		return
	}
	d.bad[name] = true
	d.faults = append(d.faults, f)
}

// shown is a value as errors quote it.
func (d *draft) shown(name, text string) string {
	for _, s := range d.table {
		if s.Name == name && s.hide != nil {
			text = s.hide(text)
		}
	}
	return clip(text)
}

// is reports whether a setting was given, and is valid so far.
func (d *draft) is(name string) bool { return len(d.given[name]) > 0 && !d.bad[name] }
