package broken

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// ends are faults in how a pool, or a part of it, is ended.
var ends = []Pool{
	{
		Fault: "Close leaves who is inside hanging", Version: pool.V1, Test: "TestP9_ShutdownEndsQueuedSparesRunning", Says: pooltest.Hangs,
		Limit: 1500 * time.Millisecond,
		make:  hanging,
	},
	{
		Fault: "Close gives no grace", Version: pool.V2, Test: "TestP9_ShutdownEndsQueuedSparesRunning", Says: "running operation ended with",
		make: func() fault {
			return fault{close: func(ctx context.Context, right pool.Pool) error {
				now, cancel := context.WithCancel(ctx)
				cancel()
				return right.Close(now)
			}}
		},
	},
	{
		Fault: "Close can't be called twice", Version: pool.V2, Test: "TestP12_ShutdownIdempotentAndBounded", Says: "closed already",
		make: func() fault {
			var closed atomic.Bool
			return fault{close: func(ctx context.Context, right pool.Pool) error {
				if closed.Swap(true) {
					return errors.New("closed already")
				}
				return right.Close(ctx)
			}}
		},
	},
	{
		Fault: "Close waits for ever", Version: pool.V1, Test: "TestP12_ShutdownIdempotentAndBounded", Says: "with a grace of 300 ms",
		Limit: 2500 * time.Millisecond,
		make: func() fault {
			return fault{close: func(ctx context.Context, right pool.Pool) error { return right.Close(context.WithoutCancel(ctx)) }}
		},
	},
	{
		Fault: "scaling down kills who is busy", Version: pool.V2, Test: "TestP92_ScaleDownSparesBusy", Says: "the running operation ended with",
		Limit: 5 * time.Second,
		make:  killing,
	},
	{
		Fault: "scaling down waits for traffic", Version: pool.V1, Test: "TestP92_ScaleDownSparesBusy", Says: "idle ones retired",
		Limit: 1500 * time.Millisecond,
		make: func() fault {
			return fault{configure: func(right pool.Pool, limits pool.Limits) {
				limits.Size = max(limits.Size, right.Stats().Limits.Size)
				right.Configure(limits)
			}}
		},
	},
}

// hanging never tells callers of a pool that is being closed how their operation ended.
func hanging() fault {
	closing := make(chan struct{})
	var once sync.Once
	return fault{
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			reply, err := right.Do(ctx, req)
			select {
			case <-closing:
				<-ctx.Done()
			default:
			}
			return reply, err
		},
		close: func(ctx context.Context, right pool.Pool) error {
			once.Do(func() { close(closing) })
			return right.Close(ctx)
		},
	}
}

// killing ends all workers that are busy when the pool gets smaller.
func killing() fault {
	b := &busy{}
	return fault{
		trip: b.trip(),
		configure: func(right pool.Pool, limits pool.Limits) {
			smaller := limits.Size < right.Stats().Limits.Size
			right.Configure(limits)
			if smaller {
				b.kill()
			}
		},
	}
}

// busy knows which workers run an operation.
type busy struct {
	workers sync.Map // of crew.Worker
}

func (b *busy) trip() func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
	return func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
		b.workers.Store(w, true)
		defer b.workers.Delete(w)
		return w.RoundTrip(ctx, c)
	}
}

func (b *busy) has(w crew.Worker) bool {
	_, found := b.workers.Load(w)
	return found
}

func (b *busy) kill() {
	for w := range b.workers.Range {
		w.(crew.Worker).Kill(worker.ReasonTimeout)
	}
}

// sideBySide is as many V1 pools of one worker as there should be standbys.
func sideBySide(right pooltest.Factory) pooltest.Factory {
	return func(ctx context.Context, name string, launch crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		p := &several{}
		one := limits
		one.Size, one.Overflow = 1, 0
		for range limits.Size {
			p.pools = append(p.pools, right(ctx, name, launch, one, log))
		}
		return p
	}
}

type several struct {
	pools []pool.Pool
	turn  atomic.Uint64
}

func (p *several) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	return p.pools[p.turn.Add(1)%uint64(len(p.pools))].Do(ctx, req)
}

func (p *several) Configure(limits pool.Limits) {
	for _, one := range p.pools {
		one.Configure(limits)
	}
}

func (p *several) Pause(ctx context.Context) (err error) {
	for _, one := range p.pools {
		err = errors.Join(err, one.Pause(ctx))
	}
	return err
}

func (p *several) Resume() {
	for _, one := range p.pools {
		one.Resume()
	}
}

func (p *several) Reset() {
	for _, one := range p.pools {
		one.Reset()
	}
}

func (p *several) Changed() <-chan struct{} { return p.pools[0].Changed() }

func (p *several) Stats() (s pool.Stats) {
	for _, one := range p.pools {
		of := one.Stats()
		s.Ready, s.Starting, s.Busy, s.Queued = s.Ready+of.Ready, s.Starting+of.Starting, s.Busy+of.Busy, s.Queued+of.Queued
	}
	return s
}

func (p *several) Close(ctx context.Context) (err error) {
	for _, one := range p.pools {
		err = errors.Join(err, one.Close(ctx))
	}
	return err
}
