package checkout

import (
	"container/list"
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// line is where callers wait for members, each for one of its own. No member is idle that anyone who waits would take,
// except in a pause.
type line struct {
	*affinity.Gate
	crew *crew.Crew
}

var _ use = (*line)(nil)

// waiter is a request that waits for a member.
type waiter struct {
	*affinity.Wish
	since  time.Time
	member chan *crew.Member // room for the one value that is ever sent; nil means that the pool has closed
}

func newWaiter(w *affinity.Wish, submitted time.Time) *waiter {
	return &waiter{Wish: w, since: submitted, member: make(chan *crew.Member, 1)}
}

// Since implements crew.Waiter.
func (w *waiter) Since() time.Time { return w.since }

// Refuse implements crew.Waiter.
func (w *waiter) Refuse() { w.member <- nil }

// Offer hands the member to whoever has waited longest of those who take it, else keeps it idle.
func (l *line) Offer(m *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Idle.Push(m, m.FreeSince())
	l.serve()
}

// take returns an idle member, or the place of a new waiter.
func (l *line) take(w *affinity.Wish, submitted time.Time, again bool) (*list.Element, *crew.Member, *pool.Error) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return nil, nil, err
	}
	if m := l.seat(w); m != nil {
		return nil, m, nil
	}
	if err := l.Busy(w); err != nil && !again {
		return nil, nil, err
	}
	return l.Enqueue(newWaiter(w, submitted), again), nil, nil
}

// seat takes an idle member that may be used; nil when there is none. The caller holds Mu.
func (l *line) seat(w *affinity.Wish) *crew.Member {
	m := l.TakeIdle(w, (*crew.Idle).PopNewest)
	if m != nil {
		l.Bind(w, m)
	}
	return m
}

// serve hands idle members to those who have waited longest. The caller holds Mu.
func (l *line) serve() {
	for place, w := range l.Waiting() {
		if !l.AnyIdle() {
			return
		}
		w := w.(*waiter)
		if m := l.seat(w.Wish); m != nil {
			l.Dequeue(place)
			w.member <- m
		}
	}
}

func (l *line) roundTrip(ctx context.Context, m *crew.Member, c worker.Call) worker.Outcome {
	return m.RoundTrip(ctx, c)
}

func (l *line) giveBack(m *crew.Member, discard worker.Reason) {
	if stays := l.crew.Checkin(m, discard); !stays {
		l.Left(m)
	}
}

// abandon leaves the queue, or returns the member that was handed over at the same moment.
func abandon(g *affinity.Gate, place *list.Element) *crew.Member {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	select {
	case m := <-place.Value.(*waiter).member:
		return m
	default:
		g.Dequeue(place)
		return nil
	}
}
