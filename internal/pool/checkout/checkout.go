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
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Pool is V2. It implements pool.Pool.
type Pool struct {
	name string
	gate *affinity.Gate
	crew *crew.Crew
	use  use
}

var _ pool.Pool = (*Pool)(nil)

// use is what of a member a caller has checked out: all of it, or one of several places in it. It is the Line of the
// pool's crew.
type use interface {
	crew.Line
	// take returns a member that is the caller's until it is given back, or the place of a new waiter. again: the caller
	// has had its turn, and got a member that was dead.
	take(w *affinity.Wish, submitted time.Time, again bool) (*list.Element, *crew.Member, *pool.Error)
	// roundTrip runs one call on a member that was taken.
	roundTrip(ctx context.Context, m *crew.Member, c worker.Call) worker.Outcome
	// giveBack ends the use of a member that was taken. discard: why it can't be used again; empty: it can.
	giveBack(m *crew.Member, discard worker.Reason)
}

// New makes a pool and starts limits.Size workers at once. name is the WorkerPool's, for errors. ctx isn't kept
// beyond its values: a pool ends by Close.
func New(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Pool {
	l := &line{Gate: affinity.NewGate(name, limits)}
	l.Freed = l.serve
	l.crew = crew.New(ctx, launch, l, log)
	return start(name, l.Gate, l.crew, l, limits)
}

// NewShared makes a pool as New does, whose workers serve several requests at the same time: launch makes those that
// serve limits.Concurrency, which can't be changed later.
func NewShared(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Pool {
	l := &places{Gate: affinity.NewGate(name, limits), each: max(1, limits.Concurrency)}
	l.Freed = l.serve
	l.crew = crew.New(ctx, launch, l, log)
	return start(name, l.Gate, l.crew, l, limits)
}

func start(name string, gate *affinity.Gate, members *crew.Crew, u use, limits pool.Limits) *Pool {
	p := &Pool{name: name, gate: gate, crew: members, use: u}
	p.crew.Configure(limits)
	return p
}

// Do runs one operation in the caller's goroutine.
func (p *Pool) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	wish := p.gate.Wish(req.Affinity)
	reply, err := p.do(ctx, req, wish)
	p.gate.Fulfil(wish, reply.Service > 0)
	p.gate.Meter.Observe(reply, err)
	if err != nil {
		return reply, err
	}
	return reply, nil
}

func (p *Pool) do(ctx context.Context, req pool.Request, wish *affinity.Wish) (reply pool.Reply, err *pool.Error) {
	submitted := time.Now()
	budget, err := p.gate.Enter(req, submitted)
	if err != nil {
		return reply, err
	}
	defer p.gate.Leave()
	place, m, err := p.use.take(wish, submitted, false)
	for now := submitted; ; now = time.Now() {
		if place != nil {
			m, err = p.wait(ctx, budget, place)
			now = time.Now()
		}
		reply.Wait = now.Sub(submitted)
		if err != nil {
			return reply, err
		}
		out := p.use.roundTrip(ctx, m, worker.CallOf(&req, now, budget.OperationUntil(now)))
		if !out.Retriable() {
			p.checkin(m, &out)
			reply.Payload, reply.Service, reply.Failed = out.Payload, out.Service, out.Failed
			return reply, budget.Explain(out.Err, now)
		}
		// Back in its place before the dead member is replaced: else somebody else would get the new one.
		dead := m
		place, m, err = p.use.take(wish, submitted, true)
		p.use.giveBack(dead, out.Discard)
	}
}

// checkin gives a member back, at once or when its worker is done with the call.
func (p *Pool) checkin(m *crew.Member, out *worker.Outcome) {
	if out.Held == nil {
		p.use.giveBack(m, out.Discard)
		return
	}
	out.Held(func(left worker.Reason) { p.use.giveBack(m, left) })
}

// wait returns a member that is the caller's until it is given back.
func (p *Pool) wait(ctx context.Context, b pool.Budget, place *list.Element) (*crew.Member, *pool.Error) {
	p.crew.Need()
	if broken := p.crew.Broken(); broken != nil {
		return p.giveUp(place, pool.NewBroken(p.name, broken))
	}
	timer := time.NewTimer(time.Until(b.WaitUntil()))
	defer timer.Stop()
	select {
	case m := <-place.Value.(*waiter).member:
		if m == nil {
			return nil, pool.NewShuttingDown(p.name)
		}
		return m, nil
	case <-timer.C:
		return p.giveUp(place, b.WaitError(p.name))
	case <-ctx.Done():
		return p.giveUp(place, pool.NewCancelled(p.name))
	case <-b.Recalled():
		return p.giveUp(place, pool.NewRecalled(p.name))
	}
}

// giveUp leaves the queue with err. A member that was handed over at the same moment goes back.
func (p *Pool) giveUp(place *list.Element, err *pool.Error) (*crew.Member, *pool.Error) {
	if m := abandon(p.gate, place); m != nil {
		p.use.giveBack(m, "")
	}
	return nil, err
}

// Configure changes the limits; see pool.Pool.
func (p *Pool) Configure(limits pool.Limits) {
	p.gate.Configure(limits)
	p.crew.Configure(limits)
}

// Reset replaces all workers; see pool.Pool.
func (p *Pool) Reset() { p.crew.Reset() }

// Pause holds all requests that have no worker; see pool.Pool.
func (p *Pool) Pause(ctx context.Context) error {
	select {
	case <-p.gate.Pause():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Resume ends a pause; see pool.Pool.
func (p *Pool) Resume() {
	p.gate.Mu.Lock()
	p.gate.Resume()
	p.gate.Freed()
	p.gate.Mu.Unlock()
	p.crew.Poke()
}

// Changed receives (coalesced) when workers come, get ready or go.
func (p *Pool) Changed() <-chan struct{} { return p.crew.Changed() }

// Stats returns the figures.
func (p *Pool) Stats() pool.Stats { return p.gate.Stats(pool.V2, p.crew) }

// Close ends the pool; see pool.Pool.
func (p *Pool) Close(ctx context.Context) error {
	emptied, _ := p.gate.Close()
	p.crew.Freeze()
	select {
	case <-emptied:
	case <-ctx.Done():
	}
	return p.crew.Close(ctx)
}
