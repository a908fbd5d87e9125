package crew

import (
	"container/list"
	"iter"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Waiter is a request in a Gate's queue.
type Waiter interface {
	// Since is when it was submitted.
	Since() time.Time
	// Refuse ends it because the pool is shutting down. It is called under the Gate's lock and must not block.
	Refuse()
}

// Gate is the part of a Line that is the same whatever way a pool serves: who may come in, who waits, which members
// are idle, and when the last request has left. A pool's Line embeds it and adds Offer.
type Gate struct {
	name  string // of the pool, for errors
	Meter pool.Meter

	// Mu guards what follows. While it is held nothing blocks and nothing is called but methods of these fields.
	Mu      sync.Mutex
	Idle    Idle
	queue   list.List // of Waiter, first come first
	limits  pool.Limits
	inside  int // requests admitted and not ended
	closed  bool
	emptied chan struct{} // closed when closed and inside is 0
	quiet   chan struct{} // closed when none of those inside has a member; nil: not paused
	drained bool          // quiet is closed
}

// NewGate returns an open gate. name is the WorkerPool's.
func NewGate(name string, limits pool.Limits) *Gate {
	return &Gate{name: name, limits: limits, emptied: make(chan struct{})}
}

// Name is the WorkerPool's.
func (g *Gate) Name() string { return g.name }

// Enter admits a request, which must Leave; or refuses it because the pool is closed or as many as it takes are
// inside. V1 takes as many as V2 with the same limits, so that going back to V1 doesn't shrink the queue.
func (g *Gate) Enter(req pool.Request, now time.Time) (pool.Budget, *pool.Error) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	l, waiting := g.limits, g.queue.Len()
	switch {
	case g.closed:
		return pool.Budget{}, pool.NewShuttingDown(g.name)
	case g.inside >= l.Places()+l.QueueLimit:
		busy := g.inside - waiting
		workers := busy
		if l.Concurrency > 1 {
			workers = min(busy, l.Size+l.Overflow)
		}
		return pool.Budget{}, pool.NewQueueFull(g.name, workers, waiting, g.Meter.RetryAfter(busy))
	}
	g.inside++
	return pool.NewBudget(req, l, now), nil
}

// Leave ends a request's stay.
func (g *Gate) Leave() {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	g.inside--
	g.signalEmptied()
	g.signalQuiet()
}

// signalEmptied is called whenever inside or closed has changed; the caller holds Mu.
func (g *Gate) signalEmptied() {
	if g.closed && g.inside == 0 {
		close(g.emptied)
	}
}

// Closed returns the error of a closed pool, else nil. The caller holds Mu.
func (g *Gate) Closed() *pool.Error {
	if g.closed {
		return pool.NewShuttingDown(g.name)
	}
	return nil
}

// Enqueue puts a request at the end of the queue; or at its head, when it had its turn already and the member turned
// out to be dead. The caller holds Mu.
func (g *Gate) Enqueue(w Waiter, again bool) *list.Element {
	defer g.signalQuiet()
	if again {
		return g.queue.PushFront(w)
	}
	return g.queue.PushBack(w)
}

// Dequeue takes a request out that is in the queue. The caller holds Mu.
func (g *Gate) Dequeue(place *list.Element) { g.queue.Remove(place) }

// Pause begins a pause; see Paused. The channel is closed when those that have a member have ended.
func (g *Gate) Pause() (quiet <-chan struct{}) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	if g.quiet == nil {
		g.quiet, g.drained = make(chan struct{}), false
		g.signalQuiet()
	}
	return g.quiet
}

// Resume ends a pause; the pool's Line sees to those who wait. The caller holds Mu.
func (g *Gate) Resume() {
	if g.quiet != nil && !g.drained {
		close(g.quiet)
	}
	g.quiet = nil
}

// Paused tells whether nobody is to get a member. The caller holds Mu.
func (g *Gate) Paused() bool { return g.quiet != nil }

// signalQuiet is called whenever a request may have ceased to be one that has a member; the caller holds Mu.
func (g *Gate) signalQuiet() {
	if g.quiet != nil && !g.drained && g.inside == g.queue.Len() {
		g.drained = true
		close(g.quiet)
	}
}

// Waits tells whether any request is in the queue. The caller holds Mu.
func (g *Gate) Waits() bool { return g.queue.Len() > 0 }

// Waiting are the requests in the queue with their places, first come first. The one that is looked at may be taken out.
// The caller holds Mu.
func (g *Gate) Waiting() iter.Seq2[*list.Element, Waiter] {
	return func(yield func(*list.Element, Waiter) bool) {
		for place := g.queue.Front(); place != nil; {
			next := place.Next()
			if !yield(place, place.Value.(Waiter)) {
				return
			}
			place = next
		}
	}
}

// Withdraw implements Line.
func (g *Gate) Withdraw(m *Member) bool {
	return g.Lend(m)
}

// WithdrawIdle implements Line.
func (g *Gate) WithdrawIdle(t time.Time) *Member {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	return g.Idle.RemoveIdleSince(t)
}

// Resting implements Line.
func (g *Gate) Resting() map[*Member]time.Time {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	return g.Idle.All()
}

// Demand implements Line.
func (g *Gate) Demand() Demand {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	d := Demand{Waiting: g.queue.Len(), Idle: g.Idle.Len(), IdleSince: g.Idle.Since()}
	if g.Paused() {
		d.Waiting = 0 // nobody starts for them
	} else if first := g.queue.Front(); first != nil {
		d.Oldest = first.Value.(Waiter).Since()
	}
	return d
}

// Configure changes the limits; requests inside keep the budget that they entered with.
func (g *Gate) Configure(limits pool.Limits) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	g.limits = limits
}

// Stats returns the figures of the gate and of its crew, read under one lock so that they add up.
func (g *Gate) Stats(v pool.Version, c *Crew) pool.Stats {
	s := pool.Stats{Version: v}
	g.Mu.Lock()
	s.Limits, s.Ready, s.Queued, s.Paused = g.limits, g.Idle.Len(), g.queue.Len(), g.Paused()
	idle := g.Idle.All()
	c.Fill(&s)
	g.Mu.Unlock()
	g.Meter.Fill(&s)
	s.Workers = c.Workers(idle)
	return s
}

// Close takes no more requests and ends those that wait. The channel is closed when the last one has left. first
// tells whether this is the first call.
func (g *Gate) Close() (emptied <-chan struct{}, first bool) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	if g.closed {
		return g.emptied, false
	}
	g.closed = true
	for place, w := range g.Waiting() {
		g.Dequeue(place)
		w.Refuse()
	}
	g.signalEmptied()
	return g.emptied, true
}
