package controllers

import (
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
	// older and newer are half a window apart, so that counts from older on speak for half a window to a whole one.
	older, newer mark
	// last is the last look; failed the last one that failed, with none that passed since.
	last, failed *analysis.Result
}

// compared is what a comparison is of.
type compared struct {
	canary, stable string // revisions
	weight         rollout.Weight
	since          int64 // when the analysis began, in seconds
}

// mark is what was counted at a moment. A pod that comes later is added as it is then: what it did before the weight was
// in force there doesn't count.
type mark struct {
	at   time.Time
	pods map[types.UID]analysis.Pod
}

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
	c.of, c.older, c.newer = of, mark{}, mark{}
}

// count moves the marks on, and returns what was counted since the older one in the pods that have the weight in force,
// and since when. counted is cumulative; window is the longest time that counts may speak for.
func (c *comparison) count(counted map[types.UID]analysis.Pod, inForce func(types.UID) bool, window time.Duration, now time.Time) ([]analysis.Pod, time.Duration) {
	switch {
	case c.older.pods == nil:
		c.older, c.newer = newMark(now), newMark(now)
	case now.Sub(c.newer.at) >= window/2:
		c.older, c.newer = c.newer, newMark(now)
		c.newer.add(counted, c.older.has)
	}
	c.older.add(counted, inForce)
	c.newer.add(counted, inForce)
	var out []analysis.Pod
	for uid, before := range c.older.pods {
		if is, known := counted[uid]; known {
			out = append(out, analysis.Pod{Canary: since(is.Canary, before.Canary), Stable: since(is.Stable, before.Stable)})
		} else {
			delete(c.older.pods, uid)
			delete(c.newer.pods, uid)
		}
	}
	return out, now.Sub(c.older.at)
}

// since is what was counted after before. Less than before is a count that began anew in the meantime, with a revision
// that its router had forgotten.
func since(is, before analysis.Counts) analysis.Counts {
	if is.Requests < before.Requests {
		return is
	}
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

func newMark(at time.Time) mark { return mark{at: at, pods: map[types.UID]analysis.Pod{}} }

func (m mark) has(uid types.UID) bool {
	_, has := m.pods[uid]
	return has
}

// add takes the counts of pods down that aren't in the mark yet.
func (m mark) add(counted map[types.UID]analysis.Pod, which func(types.UID) bool) {
	for uid, is := range counted {
		if !m.has(uid) && which(uid) {
			m.pods[uid] = is
		}
	}
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
