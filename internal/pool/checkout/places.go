package checkout

import (
	"container/list"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// places is a line whose members have several places each. A member without a request is in Gate's Idle; one with
// some is among the serving. Requests go where the fewest run, so that all processes work before any has two: they
// share the machine's cores better than one process's interpreter does.
type places struct {
	*crew.Gate
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

var _ crew.Line = (*places)(nil)

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
	defer l.Mu.Unlock()
	if l.Idle.Remove(m) {
		return true
	}
	if at := l.find(m); at >= 0 && m.Leaving() {
		l.serving[at].leaving = true
	}
	return false
}

// Demand implements crew.Line: what waits, in members that it takes to serve it.
func (l *places) Demand() crew.Demand {
	d := l.Gate.Demand()
	d.Waiting = (d.Waiting + l.each - 1) / l.each
	return d
}

// take returns a member with a place for the caller, or the caller's own place in the queue.
func (l *places) take(submitted time.Time, again bool) (*list.Element, *crew.Member, *pool.Error) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return nil, nil, err
	}
	if again || !l.Waits() { // whoever waits comes first
		if m := l.seat(); m != nil {
			return nil, m, nil
		}
	}
	return l.Enqueue(&waiter{since: submitted, member: make(chan *crew.Member, 1)}, again), nil, nil
}

// seat takes a place; nil when none is free, or nobody is to get one. The caller holds Mu.
func (l *places) seat() *crew.Member {
	if l.Paused() {
		return nil
	}
	if m := l.Idle.PopNewest(); m != nil {
		l.serving = append(l.serving, &table{member: m, taken: 1})
		return m
	}
	var least *table
	for _, t := range l.serving {
		if !t.leaving && t.taken < l.each && (least == nil || t.taken < least.taken) && !l.crew.Spent(t.member, t.taken) {
			least = t
		}
	}
	if least == nil {
		return nil
	}
	least.taken++
	return least.member
}

// serve hands places to those who have waited longest. The caller holds Mu.
func (l *places) serve() {
	for l.Waits() {
		m := l.seat()
		if m == nil {
			return
		}
		l.Next().(*waiter).member <- m
	}
}

// vacate gives a place back. stays: its member serves on.
func (l *places) vacate(m *crew.Member, stays bool) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	at := l.find(m)
	t := l.serving[at]
	t.leaving = t.leaving || !stays
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

// resume ends a pause.
func (l *places) resume() {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Resume()
	l.serve()
}
