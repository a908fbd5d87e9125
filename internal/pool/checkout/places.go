package checkout

import (
	"container/list"
	"context"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// places is a line whose members have several places each. A member without a request is in Gate's Idle; one with
// some is among the serving. Requests go where the fewest run, so that all processes work before any has two: they
// share the machine's cores better than one process's interpreter does.
type places struct {
	*affinity.Gate
	crew *crew.Crew
	each int // places of a member

	serving []*table // guarded by Mu
}

// table is a member that serves.
type table struct {
	member  *crew.Member
	taken   int  // of its places, at least one
	leaving bool // it gets no more requests
}

var _ use = (*places)(nil)

// Offer brings a member that has nothing to do.
func (l *places) Offer(m *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Idle.Push(m, time.Now())
	l.serve()
}

// Withdraw implements crew.Line. Of a member whose process has ended the free places go too.
func (l *places) Withdraw(m *crew.Member) bool {
	l.Mu.Lock()
	if at := l.find(m); at >= 0 && m.Leaving() {
		l.serving[at].leaving = true
	}
	l.Mu.Unlock()
	return l.Gate.Withdraw(m)
}

// Demand implements crew.Line: what waits, in members that it takes to serve it.
func (l *places) Demand() crew.Demand {
	d := l.Gate.Demand()
	d.Waiting = (d.Waiting + l.each - 1) / l.each
	return d
}

// take returns a member with a place for the caller, or the caller's own place in the queue.
func (l *places) take(w *affinity.Wish, submitted time.Time, again bool) (*list.Element, *crew.Member, *pool.Error) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return nil, nil, err
	}
	if again || !l.Waits() {
		if m, _ := l.seat(w); m != nil {
			return nil, m, nil
		}
	}
	if err := l.Busy(w); err != nil && !again && l.room(w.Home()) == nil {
		return nil, nil, err
	}
	place := l.Enqueue(newWaiter(w, submitted), again)
	l.serve() // whoever waits for a place comes first, but not those who wait for another one
	return place, nil, nil
}

// seat takes a place; nil when none is free for w, or nobody is to get one. moved: another request may be seated
// because of it. The caller holds Mu.
func (l *places) seat(w *affinity.Wish) (m *crew.Member, moved bool) {
	if l.Paused() {
		return nil, false
	}
	if t := l.room(w.Home()); t != nil {
		t.taken++
		return t.member, false
	}
	if m := l.TakeIdle(w, (*crew.Idle).PopNewest); m != nil {
		l.serving = append(l.serving, &table{member: m, taken: 1})
		return m, l.Bind(w, m)
	}
	if w.Insists() {
		return nil, false
	}
	var least *table
	for _, t := range l.serving {
		if l.free(t) && (least == nil || t.taken < least.taken) {
			least = t
		}
	}
	if least == nil {
		return nil, false
	}
	least.taken++
	return least.member, l.Bind(w, least.member)
}

// free reports whether a member that serves has a place.
func (l *places) free(t *table) bool {
	return !t.leaving && t.taken < l.each && !l.crew.Spent(t.member, t.taken)
}

// room returns a member that serves and has a place; nil when it doesn't, or hasn't. The caller holds Mu.
func (l *places) room(m *crew.Member) *table {
	if m == nil {
		return nil
	}
	if at := l.find(m); at >= 0 && l.free(l.serving[at]) {
		return l.serving[at]
	}
	return nil
}

// serve hands places to those who have waited longest, until nobody takes one of those that are left. The caller holds
// Mu.
func (l *places) serve() {
	for again := true; again; {
		again = false
		for place, w := range l.Waiting() {
			w := w.(*waiter)
			m, moved := l.seat(w.Wish)
			if m == nil && !w.Insists() {
				break // there is no place
			}
			if m != nil {
				l.Dequeue(place)
				w.member <- m
				again = again || moved
			}
		}
	}
}

func (l *places) roundTrip(ctx context.Context, m *crew.Member, c worker.Call) worker.Outcome {
	return m.Share(ctx, c)
}

func (l *places) giveBack(m *crew.Member, discard worker.Reason) {
	stays := l.crew.Return(m, discard)
	l.vacate(m, stays)
	if stays {
		l.crew.Returned(m)
	}
}

// vacate makes a place free. stays: its member serves on.
func (l *places) vacate(m *crew.Member, stays bool) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	at := l.find(m)
	t := l.serving[at]
	if !stays {
		t.leaving = true
		l.Unbind(m)
	}
	if t.taken--; t.taken == 0 {
		l.serving = slices.Delete(l.serving, at, at+1)
		if !t.leaving {
			l.Idle.Push(m, time.Now())
		}
	}
	l.serve()
}

func (l *places) find(m *crew.Member) int {
	return slices.IndexFunc(l.serving, func(t *table) bool { return t.member == m })
}
