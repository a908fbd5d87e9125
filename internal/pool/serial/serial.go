// Package serial is V1: one owner through which every operation passes, one at a time, first come, first served.
// Its size is a number of warm standbys: the owner takes the worker that has been idle longest, so that each is
// used in turn and a broken one is noticed, but never two at once. Overflow has no effect.
//
// It is the plain twin of package checkout: what must be the same in both is tested by running both.
package serial

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/affinity"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Pool is V1. It implements pool.Pool.
type Pool struct {
	name  string
	crew  *crew.Crew
	line  line
	quit  chan struct{}
	owner sync.WaitGroup
}

var _ pool.Pool = (*Pool)(nil)

// New makes a pool and starts limits.Size workers at once. name is the WorkerPool's, for errors. ctx isn't kept
// beyond its values: a pool ends by Close.
func New(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Pool {
	p := &Pool{
		name: name, quit: make(chan struct{}), line: newLine(name, limits),
	}
	p.crew = crew.New(ctx, launch, p.line, log)
	p.owner.Go(p.own)
	p.crew.Configure(withoutOverflow(limits))
	return p
}

// own runs operations, one at a time.
func (p *Pool) own() {
	for {
		op, m := p.line.next()
		if op == nil {
			select {
			case <-p.line.work:
				continue
			case <-p.quit:
				return
			}
		}
		out := op.run(m)
		again := out.Retriable() && p.line.putBack(op)
		if stays := p.crew.Checkin(m, out.Discard); !stays {
			p.line.Left(m)
		}
		if !again {
			op.done <- out
		}
	}
}

// Do queues one operation and waits for its end.
func (p *Pool) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	wish := p.line.Wish(req.Affinity)
	reply, err := p.do(ctx, req, wish)
	p.line.Fulfil(wish, reply.Service > 0)
	p.line.Meter.Observe(reply, err)
	if err != nil {
		return reply, err
	}
	return reply, nil
}

func (p *Pool) do(ctx context.Context, req pool.Request, wish *affinity.Wish) (reply pool.Reply, err *pool.Error) {
	submitted := time.Now()
	budget, err := p.line.Enter(req, submitted)
	if err != nil {
		return reply, err
	}
	defer p.line.Leave()
	run := func(m *crew.Member) worker.Outcome {
		now := time.Now()
		reply.Wait = now.Sub(submitted)
		out := m.RoundTrip(ctx, worker.CallOf(&req, now, budget.OperationUntil(now)))
		out.Err = budget.Explain(out.Err, now)
		return out
	}
	out, err := p.turn(ctx, budget, &operation{Wish: wish, since: submitted, run: run, done: make(chan worker.Outcome, 1)})
	if err != nil {
		reply.Wait = time.Since(submitted)
		return reply, err
	}
	reply.Payload, reply.Service, reply.Failed = out.Payload, out.Service, out.Failed
	return reply, out.Err
}

// turn waits for the owner to run op.
func (p *Pool) turn(ctx context.Context, b pool.Budget, op *operation) (worker.Outcome, *pool.Error) {
	if err := p.line.enqueue(op); err != nil {
		return worker.Outcome{}, err
	}
	p.crew.Need()
	if broken := p.crew.Broken(); broken != nil {
		return p.giveUp(op, pool.NewBroken(p.name, broken))
	}
	timer := time.NewTimer(time.Until(b.WaitUntil()))
	defer timer.Stop()
	select {
	case out, ran := <-op.done:
		return p.ended(out, ran)
	case <-timer.C:
		return p.giveUp(op, b.WaitError(p.name))
	case <-ctx.Done():
		return p.giveUp(op, pool.NewCancelled(p.name))
	case <-b.Recalled():
		return p.giveUp(op, pool.NewRecalled(p.name))
	}
}

// giveUp leaves the queue with err. An operation that is running already ends by its own deadline or context; should
// its member turn out to be dead, it isn't run by another.
func (p *Pool) giveUp(op *operation, err *pool.Error) (worker.Outcome, *pool.Error) {
	if p.line.abandon(op) {
		return worker.Outcome{}, err
	}
	out, ran := <-op.done
	if out.Retriable() {
		return worker.Outcome{}, err
	}
	return p.ended(out, ran)
}

// ended judges what came out of an operation's channel.
func (p *Pool) ended(out worker.Outcome, ran bool) (worker.Outcome, *pool.Error) {
	if !ran {
		return out, pool.NewShuttingDown(p.name)
	}
	return out, nil
}

// Configure changes the limits; see pool.Pool.
func (p *Pool) Configure(limits pool.Limits) {
	p.line.Configure(limits)
	p.crew.Configure(withoutOverflow(limits))
}

// withoutOverflow are the limits of a crew that never has more than size.
func withoutOverflow(limits pool.Limits) pool.Limits {
	limits.Overflow = 0
	return limits
}

// Reset replaces all workers; see pool.Pool.
func (p *Pool) Reset() { p.crew.Reset() }

// Pause holds all requests that have no worker; see pool.Pool.
func (p *Pool) Pause(ctx context.Context) error {
	select {
	case <-p.line.Pause():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Resume ends a pause; see pool.Pool.
func (p *Pool) Resume() {
	p.line.resume()
	p.crew.Poke()
}

// Changed receives (coalesced) when workers come, get ready or go.
func (p *Pool) Changed() <-chan struct{} { return p.crew.Changed() }

// Stats returns the figures.
func (p *Pool) Stats() pool.Stats { return p.line.Stats(pool.V1, p.crew) }

// Close ends the pool; see pool.Pool.
func (p *Pool) Close(ctx context.Context) error {
	emptied, first := p.line.Close()
	p.crew.Freeze()
	select {
	case <-emptied:
	case <-ctx.Done():
	}
	err := p.crew.Close(ctx)
	if first {
		close(p.quit)
	}
	p.owner.Wait()
	return err
}
