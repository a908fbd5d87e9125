// Package serial is V1: one owner through which every operation passes, one at a time, first come, first served.
// Its size is a number of warm standbys: the owner takes the worker that has been idle longest, so that each is
// used in turn and a broken one is noticed, but never two at once. Overflow has no effect.
//
// It is the plain twin of package checkout: what must be the same in both is tested by running both.
package serial

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

// Pool is V1. It implements pool.Pool.
type Pool struct {
	name  string
	crew  *crew.Crew
	meter pool.Meter
	work  chan struct{} // wakes the owner; room for one
	quit  chan struct{}
	owner sync.WaitGroup

	// mu guards what follows. While it is held nothing blocks and nothing is called but methods of these fields.
	mu      sync.Mutex
	limits  pool.Limits
	idle    crew.Idle
	queue   list.List // of *operation, first come first; the one that runs isn't in it
	inside  int       // requests admitted and not ended
	closed  bool
	emptied chan struct{} // closed when closed and inside is 0
}

// operation waits for its turn, then is run by the owner.
type operation struct {
	since  time.Time
	run    func(*crew.Member) worker.Outcome
	done   chan worker.Outcome // buffered
	queued bool                // guarded by the pool's lock: its owner hasn't taken it
}

var (
	_ pool.Pool = (*Pool)(nil)
	_ crew.Line = (*Pool)(nil)
)

// New makes a pool and starts limits.Size workers at once. name is the WorkerPool's, for errors. ctx isn't kept
// beyond its values: a pool ends by Close.
func New(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Pool {
	p := &Pool{
		name: name, limits: limits, emptied: make(chan struct{}), work: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	p.crew = crew.New(ctx, launch, p, log)
	p.owner.Go(p.own)
	p.crew.Configure(limits.Size, 0)
	return p
}

// own runs operations, one at a time.
func (p *Pool) own() {
	for {
		op, m := p.next()
		if op == nil {
			select {
			case <-p.work:
				continue
			case <-p.quit:
				return
			}
		}
		out := op.run(m)
		p.crew.Checkin(m, out.Discard)
		op.done <- out
	}
}

// next takes the first operation and a member for it; nil, nil when either is missing.
func (p *Pool) next() (*operation, *crew.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.queue.Front()
	if first == nil {
		return nil, nil
	}
	m := p.idle.PopOldest()
	if m == nil {
		return nil, nil
	}
	op := p.queue.Remove(first).(*operation)
	op.queued = false
	return op, m
}

func (p *Pool) wakeOwner() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

// Do queues one operation and waits for its end.
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
	run := func(m *crew.Member) worker.Outcome {
		now := time.Now()
		reply.Wait = now.Sub(submitted)
		return m.RoundTrip(ctx, worker.Call{
			Command: req.Command, Payload: req.Payload, Program: req.Program,
			Session: req.Session, ProgramID: req.ProgramID, Deadline: budget.OperationUntil(now),
		})
	}
	for first := true; ; first = false {
		out, err := p.turn(ctx, budget, &operation{since: submitted, run: run, done: make(chan worker.Outcome, 1)}, first)
		if err != nil {
			reply.Wait = time.Since(submitted)
			return reply, err
		}
		if out.Retriable() {
			continue
		}
		reply.Payload, reply.Service = out.Payload, out.Service
		return reply, out.Err
	}
}

// enter admits a request, or refuses it because the pool is closed or as many as it takes are inside: as many as
// V2 takes with the same limits, so that going back to V1 doesn't shrink the queue.
func (p *Pool) enter(req pool.Request, now time.Time) (pool.Budget, *pool.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits
	switch {
	case p.closed:
		return pool.Budget{}, pool.NewShuttingDown(p.name)
	case p.inside >= l.Size+l.Overflow+l.QueueLimit:
		busy := p.inside - p.queue.Len()
		return pool.Budget{}, pool.NewQueueFull(p.name, busy, p.queue.Len(), p.meter.RetryAfter(busy))
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

// turn waits for the owner to run op. An operation whose first member turned out to be dead keeps its place before
// all others.
func (p *Pool) turn(ctx context.Context, b pool.Budget, op *operation, first bool) (worker.Outcome, *pool.Error) {
	place, err := p.enqueue(op, first)
	if err != nil {
		return worker.Outcome{}, err
	}
	if broken := p.crew.Broken(); broken != nil {
		return p.giveUp(place, pool.NewBroken(p.name, broken))
	}
	timer := time.NewTimer(time.Until(b.WaitUntil()))
	defer timer.Stop()
	select {
	case out := <-op.done:
		return out, nil
	case <-timer.C:
		return p.giveUp(place, b.WaitError(p.name))
	case <-ctx.Done():
		return p.giveUp(place, pool.NewCancelled(p.name))
	case <-b.Recalled():
		return p.giveUp(place, pool.NewRecalled(p.name))
	}
}

func (p *Pool) enqueue(op *operation, first bool) (*list.Element, *pool.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, pool.NewShuttingDown(p.name)
	}
	op.queued = true
	p.wakeOwner()
	if first {
		return p.queue.PushBack(op), nil
	}
	return p.queue.PushFront(op), nil
}

// giveUp leaves the queue with err. An operation that is running already ends by its own deadline or context.
func (p *Pool) giveUp(place *list.Element, err *pool.Error) (worker.Outcome, *pool.Error) {
	op := place.Value.(*operation)
	p.mu.Lock()
	if op.queued {
		p.queue.Remove(place)
		op.queued = false
		p.mu.Unlock()
		return worker.Outcome{}, err
	}
	p.mu.Unlock()
	return <-op.done, nil
}

// Configure changes the limits; requests inside keep the budget that they entered with.
func (p *Pool) Configure(limits pool.Limits) {
	p.mu.Lock()
	p.limits = limits
	p.mu.Unlock()
	p.crew.Configure(limits.Size, 0)
}

// Changed receives (coalesced) when workers come, get ready or go.
func (p *Pool) Changed() <-chan struct{} { return p.crew.Changed() }

// Stats returns the figures.
func (p *Pool) Stats() pool.Stats {
	s := pool.Stats{Version: pool.V1}
	p.mu.Lock()
	s.Limits, s.Ready, s.Queued = p.limits, p.idle.Len(), p.queue.Len()
	idle := p.idle.Set()
	p.crew.Fill(&s)
	p.mu.Unlock()
	p.meter.Fill(&s)
	s.Workers = p.crew.Workers(idle)
	return s
}

// Close ends the pool; see pool.Pool.
func (p *Pool) Close(ctx context.Context) error {
	first := p.refuse()
	select {
	case <-p.emptied:
	case <-ctx.Done():
	}
	err := p.crew.Close(ctx)
	if first {
		close(p.quit)
	}
	p.owner.Wait()
	return err
}

// refuse takes no more requests and ends those that wait; true for the first call.
func (p *Pool) refuse() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.closed = true
	for place := p.queue.Front(); place != nil; place = p.queue.Front() {
		op := p.queue.Remove(place).(*operation)
		op.queued = false
		op.done <- worker.Outcome{Err: pool.NewShuttingDown(p.name)}
	}
	p.signalEmptied()
	return true
}
