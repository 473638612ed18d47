package notify

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Lengths in characters.
const (
	maxLine    = 75 // of a line of prose: quoted-printable breaks longer ones (RFC 2045), and mail(1) shows them so
	maxSubject = 200
	maxError   = 400 // of a mail server's reply
)

// page is the body of a message as it is being written. It never contains
// control characters.
type page struct{ b strings.Builder }

func (p *page) String() string { return strings.TrimRight(p.b.String(), "\n") + "\n" }

// paragraph writes prose and an empty line.
func (p *page) paragraph(text string) {
	p.wrap(text, "", "")
	p.gap()
}

// heading writes the line over a list of items.
func (p *page) heading(text string) {
	p.gap()
	p.wrap(text, "", "")
}

// item writes prose under a heading.
func (p *page) item(text string) { p.wrap(text, "  ", "    ") }

// verbatim writes one line unchanged: it may be pasted into a shell.
func (p *page) verbatim(indent, line string) {
	p.b.WriteString(strings.TrimRight(indent+printable(line), " ") + "\n")
}

// gap makes the next line follow an empty one.
func (p *page) gap() {
	if s := p.b.String(); s != "" && !strings.HasSuffix(s, "\n\n") {
		p.b.WriteByte('\n')
	}
}

// wrap writes text in lines of at most maxLine characters, where its words
// allow that. The first line is indented by first, the others by next.
func (p *page) wrap(text, first, next string) {
	line := first
	empty := true
	for _, word := range strings.Fields(printable(text)) {
		switch {
		case empty:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= maxLine:
			line += " " + word
		default:
			p.b.WriteString(line + "\n")
			line = next + word
		}
		empty = false
	}
	p.b.WriteString(line + "\n")
}

// printable is s with a blank instead of each character that is not visible,
// such as line ends and terminal controls.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}

// oneLine is s as one line of at most most characters.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(printable(s)), " ")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-3]) + "..."
}

// plainWord says whether r has no special meaning in shells and mail headers.
func plainWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
}

// list names up to four addresses, else the first three and the number of the
// others.
func list(prefixes []netip.Prefix) string {
	var names []string
	for _, p := range prefixes {
		names = append(names, p.Addr().String())
	}
	if len(names) > 4 {
		names = append(names[:3], strconv.Itoa(len(prefixes)-3)+" more")
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// pick is the singular or the plural.
func pick(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// clocks are t in local time and UTC, or once where they are the same.
func clocks(t time.Time) []string {
	local := t.Local()
	if _, offset := local.Zone(); offset == 0 {
		return []string{utc(t)}
	}
	return []string{local.Format("2006-01-02 15:04:05 -0700 MST"), utc(t)}
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a length of time without seconds from a minute on.
func span(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	s := strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	if strings.HasSuffix(s, "h0m") {
		return strings.TrimSuffix(s, "0m")
	}
	return s
}

// signature is for a reader with many clusters.
func signature(c Cluster) string {
	if c.Host == "" { // several clusters
		return fmt.Sprintf("pingover on %s, clusters %s", c.Hostname, c.Name)
	}
	if c.isPool() {
		return fmt.Sprintf("pingover on %s, pool %s: %s at %s", c.Hostname, c.Name, c.Host, c.Server)
	}
	s := fmt.Sprintf("pingover on %s, cluster %s: primary %s", c.Hostname, c.Name, c.Host)
	if len(c.VIPs) > 0 {
		var vips []string
		for _, v := range c.VIPs {
			vips = append(vips, v.String())
		}
		s += ", virtual " + pick(len(vips), "IP ", "IPs ") + strings.Join(vips, " ")
	}
	if c.Interface != "" {
		s += ", interface " + c.Interface
	}
	return s
}

// messageID is <id@host> with only such characters as need no quoting
// (RFC 5322, dot-atom).
func messageID(id, host string) string {
	clean := func(s, otherwise string) string {
		return cmp.Or(strings.Trim(strings.Map(func(r rune) rune {
			if plainWord(r) {
				return r
			}
			return '-'
		}, s), ".-"), otherwise)
	}
	return fmt.Sprintf("<%s@%s>", clean(id, "message"), clean(host, "localhost"))
}

// distinct is the list without repetitions.
func distinct(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}
