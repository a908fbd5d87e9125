package checkout

import (
	"container/list"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// line is where callers wait for members. No member is idle while anyone waits, except in a pause.
type line struct{ *crew.Gate }

var _ crew.Line = line{}

// waiter is a request that waits for a member.
type waiter struct {
	since  time.Time
	member chan *crew.Member // room for the one value that is ever sent; nil means that the pool has closed
}

// Since implements crew.Waiter.
func (w *waiter) Since() time.Time { return w.since }

// Refuse implements crew.Waiter.
func (w *waiter) Refuse() { w.member <- nil }

// Offer hands the member to whoever has waited longest, else keeps it idle.
func (l line) Offer(m *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if w := l.Next(); w != nil {
		w.(*waiter).member <- m
		return
	}
	l.Idle.Push(m, m.FreeSince())
}

// take returns an idle member, or the place of a new waiter.
func (l line) take(submitted time.Time, again bool) (*list.Element, *crew.Member, *pool.Error) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return nil, nil, err
	}
	if m := l.idle(); m != nil {
		return nil, m, nil
	}
	return l.Enqueue(&waiter{since: submitted, member: make(chan *crew.Member, 1)}, again), nil, nil
}

// idle takes an idle member that may be used; nil when there is none. The caller holds Mu.
func (l line) idle() *crew.Member {
	if l.Paused() {
		return nil
	}
	return l.Idle.PopNewest()
}

// resume hands idle members to those who have waited longest.
func (l line) resume() {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Resume()
	for l.Idle.Len() > 0 {
		w := l.Next()
		if w == nil {
			return
		}
		w.(*waiter).member <- l.Idle.PopNewest()
	}
}

// abandon leaves the queue, or returns the member that was handed over at the same moment.
func (l line) abandon(place *list.Element) *crew.Member {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	select {
	case m := <-place.Value.(*waiter).member:
		return m
	default:
		l.Dequeue(place)
		return nil
	}
}
