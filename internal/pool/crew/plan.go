package crew

import (
	"cmp"
	"time"
)

// Settings of a crew that don't change.
const (
	// overflowAfter is how long a request waits before an extra worker is started for it. Shorter, and each burst
	// of a few milliseconds would start processes that come too late for it.
	overflowAfter = 50 * time.Millisecond
	// overflowIdle is how long a crew that is larger than its size keeps a member that has nothing to do.
	overflowIdle = 5 * time.Second
	// maxStarting bounds how many members start at the same time.
	maxStarting = 16
)

// facts are all that a plan depends on, apart from the time.
type facts struct {
	size, overflow int
	lazy           bool // no start without a request that needs it
	live           int  // members, in whatever state
	starting       int  // of them: not ready yet
	ending         int  // of them: being ended; each holds its place until its process is gone
	waiting        int  // requests that no member has taken
	oldestWait     time.Time
	idle           int
	idleSince      time.Time // of the member that has been idle longest; zero: none is idle
	failing        bool      // a start failed, and none that began later has got ready
	notBefore      time.Time // no start before
	pace           int       // at most so many start at the same time; 0: maxStarting
	settles        time.Time // when failures are forgotten, if nothing happens; zero: not by itself
	frozen         bool      // no start any more
	worn           int       // members that are up and to be recycled
	nextWorn       time.Time // when the next one will be, if nothing happens; zero: not by itself
}

// plan is what to do now, and when to plan again at the latest (zero: at the next event).
type plan struct {
	start    int
	surplus  int // members to retire, at once when idle, else after their operation
	longIdle int // of what is beyond size: at most so many to retire that have been idle for overflowIdle
	recycle  int // at most so many worn members to end now that are idle
	wake     time.Time
}

// decide keeps size members alive, starts up to overflow more while requests wait, and ends what is too many.
func decide(f facts, now time.Time) plan {
	var p plan
	staying := f.live - f.ending
	p.surplus = max(0, staying-f.size-f.overflow)
	p.retireLongIdle(f, staying-p.surplus-f.size-f.substitutes(), now)
	p.recycle = min(f.worn, f.spare())
	p.wakeAt(f.nextWorn)
	p.wakeAt(f.settles)
	want := f.missing() + max(f.extra(&p, now), f.surge())
	p.start = f.allowed(&p, want, now)
	return p
}

// retireLongIdle looks at the members beyond size. Checkins don't make a crew plan, so it looks again by itself.
func (p *plan) retireLongIdle(f facts, beyond int, now time.Time) {
	if beyond <= 0 {
		return
	}
	due := now.Add(overflowIdle)
	if !f.idleSince.IsZero() {
		due = f.idleSince.Add(overflowIdle)
	}
	if !due.After(now) {
		p.longIdle = beyond
		due = now.Add(overflowIdle)
	}
	p.wakeAt(due)
}

// missing is how many members there are too few. A lazy crew misses those alone for which requests wait; while starts
// fail it goes on trying, as requests are refused meanwhile and ask for nothing.
func (f facts) missing() int {
	missing := max(0, f.size-f.live)
	if !f.lazy {
		return missing
	}
	needed := f.waiting - f.idle - f.starting
	if f.failing {
		needed = max(1, needed)
	}
	return min(missing, max(0, needed))
}

// extra is how many members to start beyond size. Each one that is starting already will take a waiting request.
func (f facts) extra(p *plan, now time.Time) int {
	room := f.size + f.overflow - max(f.live, f.size)
	unserved := f.waiting - f.starting - f.missing()
	if room <= 0 || unserved <= 0 {
		return 0
	}
	if due := f.oldestWait.Add(overflowAfter); due.After(now) {
		p.wakeAt(due)
		return 0
	}
	return min(room, unserved)
}

// allowed bounds starts: while they fail, one at a time and not before its time.
func (f facts) allowed(p *plan, want int, now time.Time) int {
	if want > 0 && f.notBefore.After(now) {
		p.wakeAt(f.notBefore)
		return 0
	}
	limit := cmp.Or(f.pace, maxStarting)
	if f.failing {
		limit = 1
	}
	return min(want, max(0, limit-f.starting))
}

// spare is how many members can be recycled now. Without overflow one may be missing until its successor is ready;
// with it none is, as the successor comes first. A lazy crew lets go one after the other, and has successors when they
// are needed. While starts fail, and when there are none any more, nobody goes.
func (f facts) spare() int {
	if f.failing || f.frozen {
		return 0
	}
	needed := f.size - 1
	switch {
	case f.lazy:
		needed = min(f.size, f.live) - 1
	case f.overflow > 0:
		needed = f.size
	}
	return max(0, f.live-f.starting-f.ending-needed)
}

// substitutes is how many members beyond size stand in for a worn one, and so aren't too many.
func (f facts) substitutes() int {
	if f.lazy {
		return 0
	}
	return min(f.worn, f.overflow, 1)
}

// surge is how many members to start for a worn one, so that it can go without being missed.
func (f facts) surge() int {
	staying := f.live - f.ending
	if staying > f.size || f.live >= f.size+f.overflow {
		return 0
	}
	return f.substitutes()
}

func (p *plan) wakeAt(t time.Time) {
	p.wake = sooner(p.wake, t)
}
