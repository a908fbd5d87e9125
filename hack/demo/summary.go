package main

import (
	"fmt"
	"strings"
	"time"
)

const (
	// speedup that v2 with 4 workers owes over v1, which serves one request at a time: 4 less what a round trip costs.
	speedup = 3.5
	// shareError is how many requests of a window of 1,000 the share may be off.
	shareError = 1

	// Targets of resident memory. They are shown, not promised.
	operatorTarget, routerTarget, slotTarget = 60, 25, 20 // MB
)

// figures are what the demo measured.
type figures struct {
	v1, v2           float64 // requests per second and pod
	shares           []share
	toTenth, toAll   time.Duration // from apply to the weight being in force in every pod, workers started where need be
	requests, lost   uint64
	containers       int
	changed          []string
	operator, router uint64 // bytes, as all below
	slot, worker     uint64
}

// share is how many requests of a window v2 served.
type share struct {
	pod    string
	v2, of uint64
}

// within reports whether the share is the weight's: a tenth.
func (s share) within() bool {
	want := s.of / 10
	return s.of == window && s.v2+shareError >= want && s.v2 <= want+shareError
}

// promise is a line of the summary. One without a verdict promises nothing.
type promise struct {
	text, measured string
	verdict        verdict
}

type verdict string

const (
	kept   verdict = "ok"
	broken verdict = "NO"
	shown  verdict = ""
)

func verdictOf(ok bool) verdict {
	if ok {
		return kept
	}
	return broken
}

func (f figures) promises() []promise {
	var shares []string
	exact := len(f.shares) > 0
	for i, s := range f.shares {
		shares = append(shares, fmt.Sprintf("pod %c %d of %d", 'a'+i, s.v2, s.of))
		exact = exact && s.within()
	}
	measured := fmt.Sprintf("%d of %d", len(f.changed), f.containers)
	if len(f.changed) > 0 {
		measured += ": " + strings.Join(f.changed, ", ")
	}
	return []promise{
		{"v2 serves in parallel", fmt.Sprintf("%.0f req/s, v1 %.0f (%.1f × with 4 workers)", f.v2, f.v1, f.v2/f.v1),
			verdictOf(f.v1 > 0 && f.v2/f.v1 >= speedup)},
		{"10 % means 10 %", strings.Join(shares, ", "), verdictOf(exact)},
		{"no request lost", fmt.Sprintf("%d of %d", f.lost, f.requests), verdictOf(f.lost == 0 && f.requests > 0)},
		{"no container restarted", measured, verdictOf(len(f.changed) == 0 && f.containers > 0)},
		{"from apply to in force", fmt.Sprintf("10 %% after %.1f s with its workers' start, 100 %% after %.1f s",
			f.toTenth.Seconds(), f.toAll.Seconds()), shown},
		{"memory (targets)", fmt.Sprintf("operator %d MB (%d), router %d (%d), slot %d (%d) + %d per worker",
			megabytes(f.operator), operatorTarget, megabytes(f.router), routerTarget, megabytes(f.slot), slotTarget,
			megabytes(f.worker)), shown},
	}
}

func megabytes(bytes uint64) uint64 { return (bytes + 500_000) / 1_000_000 }
