// Package checkout is V2: a caller checks a worker out, does the round trip itself in its own goroutine, and checks
// the worker in. As many operations run as there are workers; the pool's lock is held for a few instructions at
// either end and no payload passes under it.
//
// Requests are served first come, first served: a worker that becomes free is handed to the request that has
// waited longest, never to one that just arrived. Among idle workers the one that was used last is taken, so that
// its caches are warm and the others can be retired.
package checkout

import (
	"container/list"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Pool is V2. It implements pool.Pool.
type Pool struct {
	name  string
	crew  *crew.Crew
	meter pool.Meter

	// mu guards what follows. While it is held nothing blocks and nothing is called but methods of these fields;
	// a waiter's channel has room for the one value that is ever sent to it.
	mu      sync.Mutex
	limits  pool.Limits
	idle    crew.Idle // empty while anyone waits
	waiters list.List // of *waiter, first come first
	inside  int       // requests admitted and not ended
	closed  bool
	emptied chan struct{} // closed when closed and inside is 0
}

// waiter is a request that waits for a member.
type waiter struct {
	since  time.Time
	member chan *crew.Member // buffered; nil means that the pool has closed
}

var (
	_ pool.Pool = (*Pool)(nil)
	_ crew.Line = (*Pool)(nil)
)

// New makes a pool and starts limits.Size workers at once. name is the WorkerPool's, for errors. ctx isn't kept
// beyond its values: a pool ends by Close.
func New(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Pool {
	p := &Pool{name: name, limits: limits, emptied: make(chan struct{})}
	p.crew = crew.New(ctx, launch, p, log)
	p.crew.Configure(limits.Size, limits.Overflow)
	return p
}

// Do runs one operation in the caller's goroutine.
func (p *Pool) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	reply, err := p.do(ctx, req)
	p.meter.Observe(reply, err)
	if err != nil {
		return reply, err
	}
	return reply, nil
}

func (p *Pool) do(ctx context.Context, req pool.Request) (reply pool.Reply, err *pool.Error) {
	submitted := time.Now()
	budget, err := p.enter(req, submitted)
	if err != nil {
		return reply, err
	}
	defer p.leave()
	for first := true; ; first = false {
		m, err := p.checkout(ctx, budget, submitted, first)
		now := time.Now()
		reply.Wait = now.Sub(submitted)
		if err != nil {
			return reply, err
		}
		out := m.RoundTrip(ctx, worker.Call{
			Command: req.Command, Payload: req.Payload, Program: req.Program,
			Session: req.Session, ProgramID: req.ProgramID, Deadline: budget.OperationUntil(now),
		})
		p.crew.Checkin(m, out.Discard)
		if out.Retriable() {
			continue
		}
		reply.Payload, reply.Service = out.Payload, out.Service
		return reply, out.Err
	}
}

// enter admits a request, or refuses it because the pool is closed or as many as it takes are inside.
func (p *Pool) enter(req pool.Request, now time.Time) (pool.Budget, *pool.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits
	switch {
	case p.closed:
		return pool.Budget{}, pool.NewShuttingDown(p.name)
	case p.inside >= l.Size+l.Overflow+l.QueueLimit:
		busy := p.inside - p.waiters.Len()
		return pool.Budget{}, pool.NewQueueFull(p.name, busy, p.waiters.Len(), p.meter.RetryAfter(busy))
	}
	p.inside++
	return pool.NewBudget(req, l, now), nil
}

func (p *Pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside--
	p.signalEmptied()
}

// signalEmptied is called whenever inside or closed has changed; the caller holds mu.
func (p *Pool) signalEmptied() {
	if p.closed && p.inside == 0 {
		close(p.emptied)
	}
}

// checkout returns a member that is the caller's until Checkin. A request whose first member turned out to be dead
// keeps its place before all others.
func (p *Pool) checkout(ctx context.Context, b pool.Budget, submitted time.Time, first bool) (*crew.Member, *pool.Error) {
	w, m, err := p.take(submitted, first)
	if w == nil {
		return m, err
	}
	p.crew.Poke()
	if broken := p.crew.Broken(); broken != nil {
		return p.giveUp(w, pool.NewBroken(p.name, broken))
	}
	timer := time.NewTimer(time.Until(b.WaitUntil()))
	defer timer.Stop()
	select {
	case m := <-w.Value.(*waiter).member:
		return p.handed(m)
	case <-timer.C:
		return p.giveUp(w, b.WaitError(p.name))
	case <-ctx.Done():
		return p.giveUp(w, pool.NewCancelled(p.name))
	case <-b.Recalled():
		return p.giveUp(w, pool.NewRecalled(p.name))
	}
}

// take returns an idle member, or the place of a new waiter.
func (p *Pool) take(submitted time.Time, first bool) (*list.Element, *crew.Member, *pool.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, pool.NewShuttingDown(p.name)
	}
	if m := p.idle.PopNewest(); m != nil {
		return nil, m, nil
	}
	w := &waiter{since: submitted, member: make(chan *crew.Member, 1)}
	if first {
		return p.waiters.PushBack(w), nil, nil
	}
	return p.waiters.PushFront(w), nil, nil
}

func (p *Pool) handed(m *crew.Member) (*crew.Member, *pool.Error) {
	if m == nil {
		return nil, pool.NewShuttingDown(p.name)
	}
	return m, nil
}

// giveUp leaves the line with err. A member that was handed over at the same moment goes back.
func (p *Pool) giveUp(w *list.Element, err *pool.Error) (*crew.Member, *pool.Error) {
	p.mu.Lock()
	member := w.Value.(*waiter).member
	select {
	case m := <-member:
		p.mu.Unlock()
		if m != nil {
			p.crew.Checkin(m, "")
		}
	default:
		p.waiters.Remove(w)
		p.mu.Unlock()
	}
	return nil, err
}

// Configure changes the limits; requests inside keep the budget that they entered with.
func (p *Pool) Configure(limits pool.Limits) {
	p.mu.Lock()
	p.limits = limits
	p.mu.Unlock()
	p.crew.Configure(limits.Size, limits.Overflow)
}

// Changed receives (coalesced) when workers come, get ready or go.
func (p *Pool) Changed() <-chan struct{} { return p.crew.Changed() }

// Stats returns the figures.
func (p *Pool) Stats() pool.Stats {
	s := pool.Stats{Version: pool.V2}
	p.mu.Lock()
	s.Limits, s.Ready, s.Queued = p.limits, p.idle.Len(), p.waiters.Len()
	idle := p.idle.Set()
	p.crew.Fill(&s)
	p.mu.Unlock()
	p.meter.Fill(&s)
	s.Workers = p.crew.Workers(idle)
	return s
}

// Close ends the pool; see pool.Pool.
func (p *Pool) Close(ctx context.Context) error {
	p.refuse()
	select {
	case <-p.emptied:
	case <-ctx.Done():
	}
	return p.crew.Close(ctx)
}

// refuse takes no more requests and ends those that wait.
func (p *Pool) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for w := p.waiters.Front(); w != nil; w = p.waiters.Front() {
		p.waiters.Remove(w).(*waiter).member <- nil
	}
	p.signalEmptied()
}
