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

// Shared is V2 with workers that serve several requests at the same time: callers check places in workers out. All
// else is as in Pool, whose parts it is made of.
type Shared struct {
	Pool
	places *places
}

var _ pool.Pool = (*Shared)(nil)

// NewShared makes a pool as New does. launch makes workers that serve limits.Concurrency requests at the same time,
// which can't be changed later.
func NewShared(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) *Shared {
	gate := affinity.NewGate(name, limits)
	p := &Shared{Pool: Pool{name: name, line: line{gate}}, places: &places{Gate: gate, each: max(1, limits.Concurrency)}}
	gate.Freed = p.places.serve
	p.crew = crew.New(ctx, launch, p.places, log)
	p.places.crew = p.crew
	p.Configure(limits)
	return p
}

// Do runs one operation in the caller's goroutine.
func (p *Shared) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	wish := p.line.Wish(req.Affinity)
	reply, err := p.do(ctx, req, wish)
	p.line.Fulfil(wish, reply.Service > 0)
	p.line.Meter.Observe(reply, err)
	if err != nil {
		return reply, err
	}
	return reply, nil
}

func (p *Shared) do(ctx context.Context, req pool.Request, wish *affinity.Wish) (reply pool.Reply, err *pool.Error) {
	submitted := time.Now()
	budget, err := p.line.Enter(req, submitted)
	if err != nil {
		return reply, err
	}
	defer p.line.Leave()
	place, m, err := p.places.take(wish, submitted, false)
	for {
		if place != nil {
			m, err = p.wait(ctx, budget, place)
		}
		now := time.Now()
		reply.Wait = now.Sub(submitted)
		if err != nil {
			return reply, err
		}
		out := m.Share(ctx, worker.CallOf(&req, time.Time{}, budget.OperationUntil(now)))
		if !out.Retriable() {
			p.checkin(m, out)
			reply.Payload, reply.Service, reply.Failed = out.Payload, out.Service, out.Failed
			return reply, out.Err
		}
		// Back in its place before the dead member is replaced: else somebody else would get the new one.
		dead := m
		place, m, err = p.places.take(wish, submitted, true)
		p.give(dead, out.Discard)
	}
}

// wait returns a member in which a place is the caller's until it gives it back.
func (p *Shared) wait(ctx context.Context, b pool.Budget, place *list.Element) (*crew.Member, *pool.Error) {
	p.crew.Poke()
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

// giveUp leaves the line with err. A place that was handed over at the same moment goes back.
func (p *Shared) giveUp(place *list.Element, err *pool.Error) (*crew.Member, *pool.Error) {
	if m := p.line.abandon(place); m != nil {
		p.give(m, "")
	}
	return nil, err
}

// checkin gives the caller's place back, at once or when the worker is done with the call.
func (p *Shared) checkin(m *crew.Member, out worker.Outcome) {
	if out.Held == nil {
		p.give(m, out.Discard)
		return
	}
	out.Held(func(left worker.Reason) { p.give(m, left) })
}

func (p *Shared) give(m *crew.Member, discard worker.Reason) {
	stays := p.crew.Return(m, discard)
	p.places.vacate(m, stays)
	if stays {
		p.crew.Returned(m)
	}
}

// Resume ends a pause; see pool.Pool.
func (p *Shared) Resume() {
	p.places.resume()
	p.crew.Poke()
}
