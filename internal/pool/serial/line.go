package serial

import (
	"container/list"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// line is where operations wait for their turn. The one that runs isn't in its queue.
type line struct {
	*crew.Gate
	work chan struct{} // wakes the owner; room for one
}

var _ crew.Line = line{}

// operation waits for its turn, then is run by the owner.
type operation struct {
	since  time.Time
	run    func(*crew.Member) worker.Outcome
	done   chan worker.Outcome // buffered; closed without one: the pool has closed
	queued bool                // guarded by the line's lock: its owner hasn't taken it
}

// Since implements crew.Waiter.
func (op *operation) Since() time.Time { return op.since }

// Refuse implements crew.Waiter.
func (op *operation) Refuse() {
	op.queued = false
	close(op.done)
}

// Offer makes the member a standby.
func (l line) Offer(m *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Idle.Push(m, time.Now())
	l.wakeOwner()
}

func (l line) wakeOwner() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// next takes the first operation and a member for it; nil, nil when either is missing.
func (l line) next() (*operation, *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if l.Idle.Len() == 0 {
		return nil, nil
	}
	w := l.Next()
	if w == nil {
		return nil, nil
	}
	op := w.(*operation)
	op.queued = false
	return op, l.Idle.PopOldest()
}

func (l line) enqueue(op *operation, again bool) (*list.Element, *pool.Error) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return nil, err
	}
	op.queued = true
	l.wakeOwner()
	return l.Enqueue(op, again), nil
}

// abandon leaves the queue; false: the owner runs the operation already.
func (l line) abandon(place *list.Element) bool {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	op := place.Value.(*operation)
	if !op.queued {
		return false
	}
	l.Dequeue(place)
	op.queued = false
	return true
}
