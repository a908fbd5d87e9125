package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/analysis"
)

// counting is a fleet whose counts a test sets, and a comparison that follows it.
type counting struct {
	comparison
	now     time.Time
	counted map[types.UID]analysis.Pod
	deaf    map[types.UID]bool // pods that haven't the weight in force
}

func newCounting() *counting {
	return &counting{
		now: time.Unix(1_800_000_000, 0), counted: map[types.UID]analysis.Pod{}, deaf: map[types.UID]bool{},
		comparison: comparison{of: compared{canary: "v2"}},
	}
}

// serve lets a pod's canary and stable end requests.
func (c *counting) serve(pod types.UID, canary, stable uint64) {
	is := c.counted[pod]
	is.Canary.Requests += canary
	is.Stable.Requests += stable
	c.counted[pod] = is
}

// sum is what the comparison counts now, after some time, over all pods.
func (c *counting) sum(after time.Duration) (canary, stable uint64, pods int, span time.Duration) {
	c.now = c.now.Add(after)
	counts, span := c.count(c.counted, func(uid types.UID) bool { return !c.deaf[uid] }, time.Minute, c.now)
	for _, p := range counts {
		canary, stable = canary+p.Canary.Requests, stable+p.Stable.Requests
	}
	return canary, stable, len(counts), span
}

// What a revision did before its weight was in force in a pod says nothing about this weight.
func TestCountsBeginWithTheWeightInForce(t *testing.T) {
	c := newCounting()
	c.serve("p", 100, 900)
	c.serve("q", 100, 900)
	c.deaf["q"] = true
	if canary, stable, pods, _ := c.sum(0); canary+stable != 0 || pods != 1 {
		t.Errorf("%d and %d of %d pods before anything was served at the weight", canary, stable, pods)
	}
	c.serve("p", 10, 30)
	c.serve("q", 10, 30)
	if canary, stable, pods, span := c.sum(5 * time.Second); canary != 10 || stable != 30 || pods != 1 || span != 5*time.Second {
		t.Errorf("%d and %d of %d pods in %v; want the one's that has it in force", canary, stable, pods, span)
	}
	delete(c.deaf, "q")
	c.sum(0)
	c.serve("q", 1, 3)
	c.deaf["q"] = true // it was told something new, not another weight
	if canary, stable, pods, _ := c.sum(time.Second); canary != 11 || stable != 33 || pods != 2 {
		t.Errorf("%d and %d of %d pods, want 11 and 33 of 2", canary, stable, pods)
	}
	delete(c.counted, "p")
	if canary, _, pods, _ := c.sum(time.Second); canary != 1 || pods != 1 || len(c.pods) != 1 {
		t.Errorf("%d of %d pods, and %v kept, after one is gone", canary, pods, c.pods)
	}
	c.counted["q"] = analysis.Pod{Canary: analysis.Counts{Requests: 200}}
	if canary, stable, _, _ := c.sum(time.Second); canary != 0 || stable != 0 {
		t.Errorf("%d and %d when a pod's counts began anew on one side, want none of either", canary, stable)
	}
	c.serve("q", 2, 6)
	if canary, stable, _, _ := c.sum(time.Second); canary != 2 || stable != 6 {
		t.Errorf("%d and %d after a pod's counts began anew, want 2 and 6", canary, stable)
	}
}

// What is older than the window doesn't speak, and half of it always does.
func TestCountsAreOfTheWindow(t *testing.T) {
	c := newCounting()
	c.serve("p", 0, 0)
	c.sum(0)
	for second := 1; second <= 300; second++ {
		c.serve("p", 1, 3)
		canary, stable, _, span := c.sum(time.Second)
		if span > time.Minute || span != time.Duration(canary)*time.Second || stable != 3*canary {
			t.Fatalf("after %d s: %d and %d in %v", second, canary, stable, span)
		}
		if second > 30 && span < 30*time.Second {
			t.Fatalf("after %d s counts speak for %v only", second, span)
		}
	}
	c.now = c.now.Add(time.Hour) // without a pass
	c.sum(0)
	c.serve("p", 7, 7)
	if canary, _, _, _ := c.sum(31 * time.Second); canary != 7 {
		t.Errorf("%d, want what was counted since the hour without a pass", canary)
	}
}

// TestO22_WhatALeaderTakesAsLookedAt: another weight goes on in the same sequence of looks; a new leader takes the
// earlier ones as made; another canary, or another try of the same, begins at zero.
func TestO22_WhatALeaderTakesAsLookedAt(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	grid := analysis.Grid{Start: start}
	of := compared{canary: "v2", stable: "v1", weight: 500, since: start.Unix()}
	var c comparison
	c.follow(of, grid, start.Add(35*time.Second))
	if diff := cmp.Diff(grid.Unknown(start.Add(35*time.Second)), c.progress); diff != "" {
		t.Errorf("a new leader (-want +got):\n%s", diff)
	}
	c.looked(&analysis.Result{Verdict: analysis.Fail, Progress: analysis.Progress{Looked: 25, Tested: 24}})
	c.pods = map[types.UID]marks{}
	c.follow(of, grid, start.Add(time.Minute))
	if c.pods == nil || c.progress.Looked != 25 {
		t.Error("the same comparison began anew")
	}
	heavier := of
	heavier.weight = 2500
	c.follow(heavier, grid, start.Add(time.Minute))
	if c.pods != nil || c.progress != (analysis.Progress{Looked: 25, Tested: 24}) || c.failed == nil {
		t.Errorf("another weight: marks %v, progress %+v, failed %v", c.pods, c.progress, c.failed)
	}
	c.looked(&analysis.Result{Verdict: analysis.Insufficient})
	if c.failed == nil {
		t.Error("a look that tells nothing made a failure forgotten")
	}
	c.looked(&analysis.Result{Verdict: analysis.Pass})
	if c.failed != nil {
		t.Error("a look that passed left a failure")
	}
	again := heavier
	again.since += 600
	c.follow(again, analysis.Grid{Start: start.Add(10 * time.Minute)}, start.Add(10*time.Minute))
	if c.progress != (analysis.Progress{}) || c.last != nil {
		t.Errorf("TestO38: another try goes on at %+v", c.progress)
	}
}
