package report

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed page.css
var style string

const (
	barWidth, barGap = 8, 2
	chartWidth       = shownDays * (barWidth + barGap)
	chartHeight      = 56
	pageOutages      = 50
)

// page writes HTML. What comes from outside goes through text.
type page struct{ strings.Builder }

func (p *page) add(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// text is text that cannot be read as markup, in elements and in quoted attributes.
func text(s string) string { return html.EscapeString(strings.ToValidUTF8(s, "?")) }

// Page is the page of all summaries: one file that fetches nothing, without a
// script. Host is this machine; times are shown in the time zone.
func Page(host string, all []Summary, now time.Time, zone *time.Location) string {
	p := new(page)
	p.add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
	p.add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
	p.add("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n")
	p.add("<title>Availability, %s</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", text(host), style)
	p.add("<header><h1>Availability</h1><p>as %s saw it, %s</p></header>\n", text(host), text(now.In(zone).Format("2006-01-02 15:04 MST")))
	if len(all) == 0 {
		p.add("<p>Nothing is configured.</p>\n")
	}
	if len(all) > 1 {
		p.overview(all)
	}
	for i, s := range all {
		p.cluster(i, s, zone)
	}
	p.add("<footer>Written by pingover. Of the days, green ones had no outage, red ones less than 99 %%. An outage is a time in which this machine saw nobody serve, beginning with the check that found it. " +
		"A day without a check counts for nothing. Days are in UTC.</footer>\n</main>\n</body>\n</html>\n")
	return p.String()
}

// overview leads to each summary, to those that are not as they should be first.
func (p *page) overview(all []Summary) {
	p.add("<nav>\n")
	for _, mood := range []string{"bad", "fair", "good"} {
		for i, s := range all {
			if s.mood() == mood {
				p.add("<a class=\"now %s\" href=\"#c%d\">%s</a>\n", mood, i, text(s.Cluster))
			}
		}
	}
	p.add("</nav>\n")
}

// mood is good while the primary or the members of a pool serve, fair while another
// machine does, else bad.
func (s Summary) mood() string {
	switch {
	case s.Incomplete:
	case s.Now().By == byPrimary, s.Now().By == byMembers:
		return "good"
	case s.Now().By == byStandby, s.Now().By == byOther, s.Since.IsZero():
		return "fair"
	}
	return "bad"
}

func (p *page) cluster(n int, s Summary, zone *time.Location) {
	p.add("<section id=\"c%d\">\n<h2>%s</h2>\n", n, text(s.Cluster))
	defer p.add("</section>\n")
	if s.Incomplete {
		p.add("<p class=\"now bad\"><b>Incomplete</b>: %s; run pingover history to see why</p>\n", damaged)
	}
	if s.Since.IsZero() && s.Incomplete {
		return
	}
	if s.Since.IsZero() {
		p.add("<p>No check was made yet.</p>\n")
		return
	}
	now := s.Now()
	verb := " serves"
	if now.By == byMembers {
		verb = " serve"
	}
	p.add("<p class=\"now %s\"><b>%s</b> since %s</p>\n", s.mood(), text(strings.ToUpper(now.By[:1])+now.By[1:]+verb), text(moment(now.From, zone)))
	p.add("<dl class=\"tiles\">\n")
	for _, period := range s.Periods {
		p.add("<div><dt>%s</dt><dd>%s</dd><dd class=\"note\">%s</dd></div>\n", text(period.Name), text(percent(period.Availability)), text(outageNote(period)))
	}
	p.add("</dl>\n")
	p.availability(s)
	p.roundTrips(s)
	p.outages(s, zone)
	p.services(s, zone)
}

func outageNote(p Period) string {
	switch p.Outages {
	case 0:
		return "no outage"
	case 1:
		return "1 outage, " + length(p.Outage)
	}
	return fmt.Sprintf("%d outages, %s", p.Outages, length(p.Outage))
}

// availability draws a bar a day. One with an outage is never of full height.
func (p *page) availability(s Summary) {
	p.chart("Availability of the last 90 days", s.Days)
	for i, d := range s.Days {
		class, height, note := "none", float64(chartHeight), "no check"
		if a := d.Availability; a != nil {
			class, note = "good", percent(a)
			if *a < 1 {
				class, note = "fair", fmt.Sprintf("%s, outage %s", percent(a), length(d.Outage))
				height = chartHeight * (0.15 + 0.75**a)
			}
			if *a < 0.99 {
				class = "bad"
			}
		}
		p.add("<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"1.5\"><title>%s: %s</title></rect>\n",
			class, i*(barWidth+barGap), chartHeight-height, barWidth, height, text(d.Date), text(note))
	}
	p.add("</svg></figure>\n")
}

// roundTrips draws the range of the round trip times of a day, and their mean.
func (p *page) roundTrips(s Summary) {
	var longest []float64
	for _, d := range s.Days {
		if d.RTT.Replies > 0 {
			longest = append(longest, d.RTT.Max)
		}
	}
	if len(longest) == 0 {
		return
	}
	// A day in twenty may be cut, or one slow reply would flatten all others.
	slices.Sort(longest)
	top := max(longest[(len(longest)-1)*19/20], math.SmallestNonzeroFloat32)
	p.chart(fmt.Sprintf("Round trip times of a day, with their mean; the top is %.3g ms", top), s.Days)
	y := func(ms float64) float64 { return (chartHeight - 2) * (1 - min(1, ms/top)) }
	for i, d := range s.Days {
		if d.RTT.Replies == 0 {
			continue
		}
		x := i * (barWidth + barGap)
		p.add("<g><title>%s: %.3g, %.3g, %.3g ms</title><rect class=\"range\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"1.5\"/><rect class=\"mean\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"2\"/></g>\n",
			text(d.Date), d.RTT.Min, d.RTT.Mean, d.RTT.Max, x, y(d.RTT.Max), barWidth, y(d.RTT.Min)-y(d.RTT.Max)+2, x, y(d.RTT.Mean), barWidth)
	}
	p.add("</svg></figure>\n")
}

// chart begins a drawing of the days, and what it is.
func (p *page) chart(title string, days []Day) {
	p.add("<figure><figcaption><span>%s</span><span>%s to %s</span></figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\" preserveAspectRatio=\"none\">\n",
		text(title), text(days[0].Date), text(days[len(days)-1].Date), chartWidth, chartHeight, text(title))
}

func (p *page) outages(s Summary, zone *time.Location) {
	if len(s.Outages) == 0 {
		p.add("<p class=\"note\">No outage is known.</p>\n")
		return
	}
	p.add("<details open><summary>Outages</summary><table>\n<tr><th>From</th><th>Length</th><th>Cause</th><th>End</th></tr>\n")
	last := tail(s.Outages, pageOutages)
	for i := range last {
		o := last[len(last)-1-i]
		end := o.End
		if o.Ongoing {
			end = "not over"
		}
		p.add("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", text(moment(o.From, zone)), text(length(o.Length)), text(o.Cause), text(end))
	}
	p.add("</table></details>\n")
}

func (p *page) services(s Summary, zone *time.Location) {
	p.add("<details><summary>Who served</summary><table>\n<tr><th>From</th><th>Who</th><th>For</th></tr>\n")
	last := tail(s.Served, pageOutages)
	for i := range last {
		w := last[len(last)-1-i]
		p.add("<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", text(moment(w.From, zone)), text(w.By), text(length(seconds(w.To.Sub(w.From)))))
	}
	p.add("</table></details>\n")
}
