package e2e

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outagePicture is the picture that README shows, of the medians in docs/speed.md.
const outagePicture = "docs/outage.svg"

// drawOutages draws the median outages in seconds, one for each of outageWays, on a
// logarithmic axis from 0.1 s to 100 s, in the reader's light or dark colours.
func drawOutages(medians []float64) string {
	const left, width, top, step, bar = 190.0, 380.0, 44, 28, 18
	bottom := top + step*len(outageWays)
	at := func(seconds float64) float64 { return left + width*(math.Log10(seconds)+1)/3 }
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 %[1]d" width="640" height="%[1]d" role="img" aria-label="Client-visible outage after a power cut">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.axis { font-size: 11px; fill: #57606a }
line { stroke: #d0d7de }
rect { fill: #8c959f }
.pingover { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.axis { fill: #9198a1 }
line { stroke: #3d444d }
.pingover { fill: #3fb950 }
}
</style>
<text x="8" y="18">Client-visible outage after a power cut, median</text>
`, bottom+26)
	for _, seconds := range []float64{0.1, 1, 10, 100} {
		fmt.Fprintf(&svg, "<line x1=\"%.0[1]f\" y1=\"%[2]d\" x2=\"%.0[1]f\" y2=\"%[3]d\"/>\n", at(seconds), top-8, bottom)
		fmt.Fprintf(&svg, "<text class=\"axis\" x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%g s</text>\n", at(seconds), bottom+16, seconds)
	}
	for i, way := range outageWays {
		y, class := top+step*i, ""
		if strings.HasPrefix(way.name, "pingover") {
			class = ` class="pingover"`
		}
		fmt.Fprintf(&svg, "<text x=\"8\" y=\"%d\">%s</text>\n", y+bar-4, way.short)
		fmt.Fprintf(&svg, "<rect%s x=\"%g\" y=\"%d\" width=\"%.0f\" height=\"%d\"/>\n", class, left, y, at(medians[i])-left, bar)
		fmt.Fprintf(&svg, "<text x=\"%.0f\" y=\"%d\">%.2g s</text>\n", at(medians[i])+6, y+bar-4, medians[i])
	}
	return svg.String() + "</svg>\n"
}

// TestDocsOutagePicture: it shows the figures of docs/speed.md. UPDATE=1 draws it.
func TestDocsOutagePicture(t *testing.T) {
	_, table, _ := strings.Cut(readFile(t, "docs/speed.md"), "Client-visible outage")
	table, _, _ = strings.Cut(table, "\n## ")
	var medians []float64
	for _, row := range regexp.MustCompile(`(?m)^\| .+? \| ([0-9.]+) s \|`).FindAllStringSubmatch(table, -1) {
		seconds, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		medians = append(medians, seconds)
	}
	if len(medians) != len(outageWays) {
		t.Fatalf("medians %v in docs/speed.md, want one for each of %d ways", medians, len(outageWays))
	}
	want := drawOutages(medians)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(outagePicture, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readFile(t, outagePicture)); diff != "" {
		t.Errorf("%s (-want +got); UPDATE=1 go test ./internal/e2e -run TestDocsOutagePicture draws it:\n%s", outagePicture, diff)
	}
}
