package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
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
	requests, lost   uint64        // before the bad versions
	failing          fault         // a v2 of which three of ten requests fail
	crashing         fault         // a v2 whose workers crash
	stored           int           // sessions and programs
	lostRecords      []string
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
		{"no request lost", fmt.Sprintf("%d of %d until the bad v2", f.lost, f.requests), verdictOf(f.lost == 0 && f.requests > 0)},
		f.failing.promise("a failing v2 goes back", string(analysis.ErrorRateExceeded)),
		f.crashing.promise("a crashing v2: the pods trip", rollout.ReasonPodsTripped),
		f.stablePromise(),
		f.recordsPromise(),
		{"no container restarted", measured, verdictOf(len(f.changed) == 0 && f.containers > 0)},
		{"from apply to in force", fmt.Sprintf("10 %% after %.1f s with its workers' start, 100 %% after %.1f s",
			f.toTenth.Seconds(), f.toAll.Seconds()), shown},
		f.memoryTargets(),
	}
}

// promise is that a bad v2 went back by itself, for this reason, and gets nothing any more.
func (f fault) promise(text, reason string) promise {
	measured := fmt.Sprintf("first bad reply → 0 in pod %s, in fleet %s", short(f.inPod), short(f.inFleet))
	if f.reason != reason {
		measured = fmt.Sprintf("rolled back for %q, not %s", f.reason, reason)
	} else if f.afterwards > 0 {
		measured += fmt.Sprintf("; then %d of %d", f.afterwards, f.of)
	}
	return promise{text, measured, verdictOf(f.reason == reason && f.v2Failed > 0 && f.afterwards == 0 && f.of == afterRollback*replicas)}
}

// stablePromise is that the stable version knew nothing of either.
func (f figures) stablePromise() promise {
	requests, failed := f.failing.v1+f.crashing.v1, f.failing.v1Failed+f.crashing.v1Failed
	return promise{"no v1 error meanwhile", fmt.Sprintf("%d of %d, while v2 failed %d of %d, then %d of %d", failed, requests,
		f.failing.v2Failed, f.failing.v2, f.crashing.v2Failed, f.crashing.v2), verdictOf(failed == 0 && requests > 0)}
}

func (f figures) recordsPromise() promise {
	measured := fmt.Sprintf("%d of %d", len(f.lostRecords), f.stored)
	if len(f.lostRecords) > 0 {
		measured += ": " + f.lostRecords[0]
	}
	return promise{"no session or program lost", measured, verdictOf(len(f.lostRecords) == 0 && f.stored == 2*perPod*replicas)}
}

func (f figures) memoryTargets() promise {
	measured := fmt.Sprintf("operator %d MB (%d), router %d (%d), slot %d (%d) + %d per worker",
		megabytes(f.operator), operatorTarget, megabytes(f.router), routerTarget, megabytes(f.slot), slotTarget, megabytes(f.worker))
	if f.operator == 0 {
		measured = "not measured: the node isn't on this machine"
	}
	return promise{"memory (targets)", measured, shown}
}

// short is a duration for people: 38 ms, 1.1 s.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func megabytes(bytes uint64) uint64 { return (bytes + 500_000) / 1_000_000 }
