package broken

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// affinities are faults in who serves a request that asks for its key's worker.
var affinities = []Pool{
	{
		Fault: "affinity is accepted and does nothing", Version: pool.V1, Test: "TestP68_KeysComeBackToTheirWorkers", Says: "not by its worker",
		make: remade(pool.AffinityHint, pool.AffinityNone),
	},
	{
		Fault: "affinity is accepted and does nothing, by V2", Version: pool.V2, Test: "TestP68_KeysComeBackToTheirWorkers", Says: "not by its worker",
		make: remade(pool.AffinityStrictNow, pool.AffinityNone),
	},
	{
		Fault: "a hint waits", Version: pool.V2, Test: "TestP68_HintFallsBack", Says: "timeout_error/deadline_exceeded", Limit: time.Second,
		make: remade(pool.AffinityHint, pool.AffinityStrict),
	},
	{
		Fault: "strict takes any worker", Version: pool.V2, Test: "TestP68_StrictWaits", Says: "one waiting beside an idle worker", Limit: time.Second,
		make: remade(pool.AffinityStrict, pool.AffinityHint),
	},
	{
		Fault: "strict-now waits", Version: pool.V1, Test: "TestP68_StrictNowIsRefusedWhileItsWorkerIsBusy", Says: "timeout_error/checkout_timeout",
		Limit: time.Second,
		make:  remade(pool.AffinityStrictNow, pool.AffinityStrict),
	},
	{
		Fault: "strict-now takes any worker", Version: pool.V2, Test: "TestP68_StrictNowIsRefusedWhileItsWorkerIsBusy", Says: "want resource_error/worker_busy",
		make: remade(pool.AffinityStrictNow, pool.AffinityHint),
	},
	{
		Fault: "a strict request blocks those behind it", Version: pool.V2, Test: "TestP18_StrictWaiterBlocksNoOther", Says: "timeout_error/checkout_timeout",
		Limit: time.Second,
		make:  blocking,
	},
	{
		Fault: "keys keep workers that are dead", Version: pool.V1, Test: "TestP69_AffinityGoesWithItsWorker", Says: "timeout_error/checkout_timeout",
		make: faithful,
	},
	{
		Fault: "who waits for a worker waits on when that dies", Version: pool.V2, Test: "TestP69_WhoWaitsForAWorkerThatDiesTakesAny",
		Says: "timeout_error/checkout_timeout",
		make: faithful,
	},
	{
		Fault: "who waits for a worker isn't counted", Version: pool.V2, Test: "TestP31_WhoWaitsForAWorkerCounts", Says: "want resource_error/queue_full",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.QueueLimit++ }} },
	},
	{
		Fault: "a key that moves leaves its waiters behind", Version: pool.V2, Test: "TestP68_KeyThatMovesTakesItsWaitersAlong",
		Says: "timeout_error/deadline_exceeded", Limit: time.Second,
		make: staying,
	},
}

// remade makes pools that take one mode for another.
func remade(mode, as pool.AffinityMode) func() fault {
	return func() fault {
		return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			if req.Affinity.Mode == mode {
				req.Affinity.Mode = as
			}
			return right.Do(ctx, req)
		}}
	}
}

// onStart is the key of a context's func(crew.Worker) *pool.Error, which is told who a request begins with, and may refuse.
type onStart struct{}

func starting(ctx context.Context, w crew.Worker, c worker.Call) worker.Outcome {
	if tell, ok := ctx.Value(onStart{}).(func(crew.Worker) *pool.Error); ok {
		if err := tell(w); err != nil {
			return worker.Outcome{Err: err}
		}
	}
	return w.RoundTrip(ctx, c)
}

// blocking lets nobody in before the one who came before has a worker.
func blocking() fault {
	const patience = 300 * time.Millisecond
	var outside atomic.Int64
	door := make(chan struct{}, 1)
	return fault{
		trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome { return starting(ctx, w, c) },
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			outside.Add(1)
			defer outside.Add(-1)
			select {
			case door <- struct{}{}:
			case <-time.After(patience):
				return pool.Reply{}, pool.NewCheckoutTimeout("tested", patience)
			}
			outside.Add(-1)
			defer outside.Add(1)
			open := sync.OnceFunc(func() { <-door })
			defer open()
			began := func(crew.Worker) *pool.Error { open(); return nil }
			return right.Do(context.WithValue(ctx, onStart{}, began), req)
		},
		stats: func(s *pool.Stats) { s.Queued += int(outside.Load()) },
	}
}

// faithful gives each key the first worker that serves it for good: whether it lives or not, no other one does.
func faithful() fault {
	var mu sync.Mutex
	homes := map[string]crew.Worker{}
	return fault{
		trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome { return starting(ctx, w, c) },
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			began := func(w crew.Worker) *pool.Error {
				mu.Lock()
				defer mu.Unlock()
				if home, known := homes[req.Affinity.Key]; known && home != w {
					return pool.NewCheckoutTimeout("tested", time.Second)
				}
				homes[req.Affinity.Key] = w
				return nil
			}
			if req.Affinity.Mode != pool.AffinityNone {
				ctx = context.WithValue(ctx, onStart{}, began)
			}
			return right.Do(ctx, req)
		},
	}
}

// staying forgets that hints give a key another worker.
func staying() fault {
	return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
		if req.Affinity.Mode == pool.AffinityHint {
			req.Affinity = pool.Affinity{}
		}
		return right.Do(ctx, req)
	}}
}
