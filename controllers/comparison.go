package controllers

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// comparison is what this leader remembers of a canary's analysis between passes: where counting began, and which looks
// were made. Another canary, stable, weight or start of the analysis is another comparison.
type comparison struct {
	of       compared
	progress analysis.Progress
	// pods hold what was counted at two moments half a window apart, older and newer, so that what was counted since the
	// older one speaks for half a window to a whole one. nil: counting hasn't begun.
	pods         map[types.UID]marks
	older, newer time.Time
	// last is the last look; failed the last one that failed, with none that passed since.
	last, failed *analysis.Result
}

// compared is what a comparison is of.
type compared struct {
	canary, stable string // revisions
	weight         rollout.Weight
	since          int64 // when the analysis began, in seconds
}

// marks are what was counted of a pod at the older and at the newer moment. Of one that came later it is what was counted
// when it first reported with the weight in force: what it did before doesn't count.
type marks struct{ older, newer analysis.Pod }

// follow takes up a comparison where it was, or begins one. A weight that changed begins the counts anew, and goes on in
// the same sequence of looks. A new leader takes all looks until now as made: their part of the level may be spent.
func (c *comparison) follow(of compared, grid analysis.Grid, now time.Time) {
	if c.of == of {
		return
	}
	same := c.of.canary == of.canary && c.of.stable == of.stable && c.of.since == of.since
	if !same {
		*c = comparison{progress: grid.Unknown(now)}
	}
	c.of, c.pods = of, nil
}

// count moves the marks on, and returns what was counted since the older one in the pods that have the weight in force,
// and since when. counted is cumulative; window is the longest time that counts may speak for.
func (c *comparison) count(counted map[types.UID]analysis.Pod, inForce func(types.UID) bool, window time.Duration, now time.Time) ([]analysis.Pod, time.Duration) {
	move := c.moment(window, now)
	out := make([]analysis.Pod, 0, len(counted))
	for uid, is := range counted {
		at, marked := c.pods[uid]
		switch {
		case !marked && !inForce(uid):
			continue
		case !marked, anew(is, at.newer):
			at = marks{is, is}
		case move:
			at = marks{at.newer, is}
		}
		c.pods[uid] = at
		out = append(out, analysis.Pod{Canary: since(is.Canary, at.older.Canary), Stable: since(is.Stable, at.older.Stable)})
	}
	if len(c.pods) > len(out) {
		maps.DeleteFunc(c.pods, func(uid types.UID, _ marks) bool { _, known := counted[uid]; return !known })
	}
	return out, now.Sub(c.older)
}

// moment begins counting, or tells whether the marks are to move on.
func (c *comparison) moment(window time.Duration, now time.Time) (move bool) {
	if c.pods == nil {
		c.pods, c.older, c.newer = map[types.UID]marks{}, now, now
		return false
	}
	if now.Sub(c.newer) < window/2 {
		return false
	}
	c.older, c.newer = c.newer, now
	return true
}

// since is what was counted after before.
func since(is, before analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests:       is.Requests - before.Requests,
		Errors:         is.Errors - before.Errors,
		Infrastructure: is.Infrastructure - before.Infrastructure,
		Timeouts:       is.Timeouts - before.Timeouts,
		Shed:           is.Shed - before.Shed,
		CallerErrors:   is.CallerErrors - before.CallerErrors,
		UpstreamErrors: is.UpstreamErrors - before.UpstreamErrors,
	}
}

// anew tells whether what was counted of a pod began anew since, as it does when it was forgotten in between. What is
// left of one revision couldn't be compared with all of the other.
func anew(is, before analysis.Pod) bool {
	shrank := func(is, before analysis.Counts) bool {
		return is.Requests < before.Requests || is.Errors < before.Errors || is.Infrastructure < before.Infrastructure ||
			is.Timeouts < before.Timeouts || is.Shed < before.Shed || is.CallerErrors < before.CallerErrors ||
			is.UpstreamErrors < before.UpstreamErrors
	}
	return shrank(is.Canary, before.Canary) || shrank(is.Stable, before.Stable)
}

// looked remembers a look that was made.
func (c *comparison) looked(r *analysis.Result) {
	c.progress, c.last = r.Progress, r
	switch r.Verdict {
	case analysis.Fail:
		c.failed = r
	case analysis.Pass:
		c.failed = nil
	case analysis.Insufficient:
	}
}
