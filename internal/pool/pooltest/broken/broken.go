// Package broken holds pools that are wrong on purpose, one fault each, and says which test of the contract has to
// fail for it and with which words. A test of the contract that no broken pool makes fail has shown nothing yet.
//
// Each is a right pool in a wrapper that changes one thing: what a caller asks and gets, what a worker does, who is
// next, or which figures are told. None of it is for use.
package broken

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Pool is a pool with one fault.
type Pool struct {
	Fault   string
	Version pool.Version  // of the right pool that it is made from
	Test    string        // of the contract, that fails for it
	Says    string        // a part of what that test says then
	Or      string        // what it says instead where the fault shows elsewhere first; "": it doesn't
	Limit   time.Duration // how long the test waits for what doesn't happen, longer than a right pool takes; 0: as long as ever
	make    func() fault
	build   func(pooltest.Factory) pooltest.Factory // instead of make
}

// says reports whether a failure of the test is of the fault.
func (p Pool) says(failure string) bool {
	return strings.Contains(failure, p.Says) || p.Or != "" && strings.Contains(failure, p.Or)
}

// fault is where a right pool is changed; what is nil stays right. Each pool that is made has its own.
type fault struct {
	limits    func(*pool.Limits) // before the right pool gets them
	launch    func(crew.Launch) crew.Launch
	trip      func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome
	do        func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error)
	configure func(right pool.Pool, limits pool.Limits)
	reset     func(right pool.Pool)
	pause     func(ctx context.Context, right pool.Pool) error
	resume    func(right pool.Pool)
	stats     func(*pool.Stats)
	close     func(ctx context.Context, right pool.Pool) error
}

// Pools returns all of them.
func Pools() []Pool {
	return slices.Concat(
		requests, workers, queues, figures, ends, recycling, sharing, memory, affinities, overdue, streams, health,
	)
}

// Factory makes the broken pool from what makes the right one.
func (p Pool) Factory(right pooltest.Factory) pooltest.Factory {
	if p.build != nil {
		return p.build(right)
	}
	return func(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		f := p.make()
		if f.launch != nil {
			launch = f.launch(launch)
		}
		if f.trip != nil {
			launch = f.tripping(launch)
		}
		return &wrapper{Pool: right(ctx, name, launch, f.limited(limits), log), fault: f}
	}
}

func (f *fault) limited(limits pool.Limits) pool.Limits {
	if f.limits != nil {
		f.limits(&limits)
	}
	return limits
}

// tripping makes workers whose round trips are the fault's.
func (f *fault) tripping(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		return tripper{w, f.trip}, nil
	}
}

type tripper struct {
	crew.Worker
	trip func(crew.Worker, context.Context, worker.Call) worker.Outcome
}

func (t tripper) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	return t.trip(t.Worker, ctx, c)
}

// wrapper is a right pool with a fault in front.
type wrapper struct {
	pool.Pool
	fault fault
}

func (w *wrapper) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	if w.fault.do != nil {
		return w.fault.do(ctx, w.Pool, req)
	}
	return w.Pool.Do(ctx, req)
}

func (w *wrapper) Configure(limits pool.Limits) {
	if w.fault.configure != nil {
		w.fault.configure(w.Pool, limits)
		return
	}
	w.Pool.Configure(w.fault.limited(limits))
}

func (w *wrapper) Pause(ctx context.Context) error {
	if w.fault.pause != nil {
		return w.fault.pause(ctx, w.Pool)
	}
	return w.Pool.Pause(ctx)
}

func (w *wrapper) Resume() {
	if w.fault.resume != nil {
		w.fault.resume(w.Pool)
		return
	}
	w.Pool.Resume()
}

func (w *wrapper) Reset() {
	if w.fault.reset != nil {
		w.fault.reset(w.Pool)
		return
	}
	w.Pool.Reset()
}

func (w *wrapper) Stats() pool.Stats {
	s := w.Pool.Stats()
	if w.fault.stats != nil {
		w.fault.stats(&s)
	}
	return s
}

func (w *wrapper) Close(ctx context.Context) error {
	if w.fault.close != nil {
		return w.fault.close(ctx, w.Pool)
	}
	return w.Pool.Close(ctx)
}
