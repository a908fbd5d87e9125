package serial

import (
	"container/list"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// line is where operations wait for their turn. The one that runs isn't in its queue.
type line struct {
	*affinity.Gate
	work chan struct{} // wakes the owner; room for one
}

var _ crew.Line = line{}

func newLine(name string, limits pool.Limits) line {
	l := line{Gate: affinity.NewGate(name, limits), work: make(chan struct{}, 1)}
	l.Freed = l.wakeOwner
	return l
}

// operation waits for its turn, then is run by the owner.
type operation struct {
	*affinity.Wish
	since time.Time
	run   func(*crew.Member) worker.Outcome
	done  chan worker.Outcome // buffered; closed without one: the pool has closed
	place *list.Element       // guarded by the line's lock; nil: its owner has taken it, or it has ended
	left  bool                // guarded by the line's lock: its caller has given up while it ran
}

// Since implements crew.Waiter.
func (op *operation) Since() time.Time { return op.since }

// Refuse implements crew.Waiter.
func (op *operation) Refuse() {
	op.place = nil
	close(op.done)
}

// Offer makes the member a standby.
func (l line) Offer(m *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Idle.Push(m, m.FreeSince())
	l.wakeOwner()
}

func (l line) wakeOwner() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// next takes the first operation that there is a member for; nil, nil when there is none. As all standbys but those that
// are being ended are idle between operations, that is the first of all: one that insists on a member waits for its turn
// only.
func (l line) next() (*operation, *crew.Member) {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	for place, w := range l.Waiting() {
		if !l.AnyIdle() {
			break
		}
		op := w.(*operation)
		if m := l.TakeIdle(op.Wish, (*crew.Idle).PopOldest); m != nil {
			l.Bind(op.Wish, m)
			l.Dequeue(place)
			op.place = nil
			return op, m
		}
	}
	return nil, nil
}

// resume has the owner look at those who wait.
func (l line) resume() {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.Resume()
	l.wakeOwner()
}

// enqueue lets an operation wait for its turn.
func (l line) enqueue(op *operation) *pool.Error {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if err := l.Closed(); err != nil {
		return err
	}
	if err := l.Busy(op.Wish); err != nil {
		return err
	}
	op.place = l.Enqueue(op, false)
	l.wakeOwner()
	return nil
}

// putBack returns an operation whose member turned out to be dead to its place before all others; false: its caller
// is to be told instead.
func (l line) putBack(op *operation) bool {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	switch {
	case op.left:
		return false
	case l.Closed() != nil:
		op.Refuse()
	default:
		op.place = l.Enqueue(op, true)
	}
	return true
}

// abandon takes an operation out of the queue; false: its owner has it, or it has ended.
func (l line) abandon(op *operation) bool {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if op.place == nil {
		op.left = true
		return false
	}
	l.Dequeue(op.place)
	op.place = nil
	return true
}
