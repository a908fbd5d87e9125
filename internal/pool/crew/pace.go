package crew

import (
	"fmt"
	"time"
)

// pace bounds how many members start at the same time after starts have failed for want of what they share: the
// processors, the container's memory. Started together again they would fail together again, for ever. The zero value
// has no bound but maxStarting.
type pace struct {
	limit  int       // at the same time; 0: maxStarting
	crowd  int       // started at the same time when that was too many
	why    string    // what became of them, as worker.BootError has it
	slowed time.Time // when limit was last lowered
	good   int       // starts that have got ready since limit was last changed
	wanted int       // good ones before limit is raised by one
}

// slower halves the pace for the failure of a start that had so many others beside it, itself included. Those that
// started before that was done last belong to the same crowd.
func (p *pace) slower(crowd int, why string, started, now time.Time) {
	if started.Before(p.slowed) {
		return
	}
	*p = pace{
		limit: max(1, min(p.most(), crowd)/2), crowd: crowd, why: why, slowed: now, wanted: max(p.wanted, crowd),
	}
}

// ready raises the pace by one after as many good starts as were too many at once.
func (p *pace) ready(started time.Time) {
	if p.limit == 0 || started.Before(p.slowed) {
		return
	}
	if p.good++; p.good < p.wanted {
		return
	}
	p.good = 0
	if p.limit++; p.limit >= maxStarting {
		*p = pace{}
	}
}

// most is how many may start at the same time.
func (p *pace) most() int {
	if p.limit == 0 {
		return maxStarting
	}
	return p.limit
}

// text says why members start so few at a time; empty: they don't. failing: only one does, whatever the pace is.
func (p *pace) text(failing bool) string {
	if p.limit == 0 {
		return ""
	}
	n := p.limit
	if failing {
		n = 1
	}
	return fmt.Sprintf("%d starts at once %s: starting %d at a time", p.crowd, p.why, n)
}
