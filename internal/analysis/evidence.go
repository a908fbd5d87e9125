package analysis

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Test names how a probability was computed.
type Test string

// Tests.
const (
	Exact Test = "exact unconditional test (Chan 1998)"
	Score Test = "score test (Farrington–Manning 1990)"
)

// Proportion is how many of a side's requests were bad.
type Proportion struct {
	Name          string
	Bad, Requests uint64
}

// Rate from 0 to 1; 0 without requests.
func (p Proportion) Rate() float64 {
	if p.Requests == 0 {
		return 0
	}
	return float64(p.Bad) / float64(p.Requests)
}

// Evidence is one metric's comparison.
type Evidence struct {
	Metric         string // "error rate", "timeout rate"
	Canary, Stable Proportion
	Pods           int           // in which both served
	Span           time.Duration // over which they were counted
	Allowed        float64       // increase, as a fraction
	Test           Test
	// P is the chance of counts like these, or worse, if the canary were within what is allowed; at Bound or below
	// it isn't. Bound is this look's part of Alpha.
	P, Bound float64
	Look     int

	verb     string
	exceeded Reason
}

// Exceeded tells whether the canary is worse than allowed.
func (e *Evidence) Exceeded() bool { return e.P <= e.Bound }

// String is the evidence for people: "v2 failed 61 of 412 requests (14.8 %), v1 3 of 1240 (0.2 %), same pods, 48 s;
// allowed increase 1 %".
func (e *Evidence) String() string {
	return fmt.Sprintf("%s %s %d of %d requests (%s), %s %d of %d (%s), same pods, %s; allowed increase %s %%",
		e.Canary.Name, e.verb, e.Canary.Bad, e.Canary.Requests, percent(e.Canary),
		e.Stable.Name, e.Stable.Bad, e.Stable.Requests, percent(e.Stable), span(e.Span), points(e.Allowed))
}

// Summary is the shortest form: "error rate 14.8 % against 0.2 %, n=412/1240".
func (e *Evidence) Summary() string {
	return fmt.Sprintf("%s %s against %s, n=%d/%d",
		e.Metric, percent(e.Canary), percent(e.Stable), e.Canary.Requests, e.Stable.Requests)
}

// Proof is what the statistician asks for: "exact unconditional test (Chan 1998): p 2e-06, bound 0.0002, look 4,
// pods 2". P is never shown below a hundredth of the bound: so much of the level is set aside.
func (e *Evidence) Proof() string {
	return fmt.Sprintf("%s: p %.2g, bound %.2g, look %d, pods %d", e.Test, e.P, e.Bound, e.Look, e.Pods)
}

// percent shows a rate with one decimal, and never shows some as none.
func percent(p Proportion) string {
	switch rate := 100 * p.Rate(); {
	case p.Bad == 0:
		return "0 %"
	case rate < 0.05:
		return "<0.1 %"
	case p.Bad == p.Requests:
		return "100 %"
	case rate > 99.9:
		return ">99.9 %"
	default:
		return fmt.Sprintf("%.1f %%", rate)
	}
}

// points shows a fraction in percent with the decimals that it has, at most four.
func points(fraction float64) string {
	text := strconv.FormatFloat(100*fraction, 'f', 4, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// span shows a time in seconds up to two minutes, then in minutes, then in hours.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	}
	return fmt.Sprintf("%d h", int(d.Round(time.Hour)/time.Hour))
}

// sortWorstFirst sorts by how unlikely the counts are, and keeps the metrics' order among equals.
func sortWorstFirst(list []Evidence) {
	slices.SortStableFunc(list, func(a, b Evidence) int { return cmp.Compare(a.P, b.P) })
}
