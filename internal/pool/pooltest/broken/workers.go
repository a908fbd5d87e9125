package broken

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// workers are faults in what is done with workers.
var workers = []Pool{
	{
		Fault: "a late reply is the next caller's", Version: pool.V2, Test: "TestP27_LateReply", Says: "the reply of another request",
		make: func() fault { return fault{launch: late} },
	},
	{
		Fault: "deadlines don't end operations", Version: pool.V1, Test: "TestP30_Stopped", Says: "want timeout_error/command_timeout",
		Limit: time.Second,
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				c.Deadline = c.Deadline.Add(time.Hour)
				return w.RoundTrip(ctx, c)
			}}
		},
	},
	{
		Fault: "waiting isn't part of the budget", Version: pool.V2, Test: "TestP28_OneBudget", Says: "the budget for waiting and operation was",
		make: func() fault {
			var limits pool.Limits
			return fault{
				limits: func(l *pool.Limits) { limits = *l },
				trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
					c.Deadline = time.Now().Add(limits.Operation)
					return w.RoundTrip(ctx, c)
				},
			}
		},
	},
	{
		Fault: "cancelling doesn't reach the worker", Version: pool.V1, Test: "TestP29_CancelledOperation", Says: "want request_error/cancelled",
		Limit: time.Second,
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				return w.RoundTrip(context.WithoutCancel(ctx), c)
			}}
		},
	},
	{
		Fault: "two callers share a worker", Version: pool.V2, Test: "TestP17_NeverSharedByTwoCallers", Says: "operations found their worker taken",
		make: func() fault { return fault{launch: twice} },
	},
	{
		Fault: "an exception costs a worker", Version: pool.V2, Test: "TestP44_PythonExceptionKeepsWorker", Says: "was replaced by",
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				out := w.RoundTrip(ctx, c)
				if out.Err != nil {
					out.Discard = worker.ReasonProtocol
				}
				return out
			}}
		},
	},
	{
		Fault: "a queue timeout costs a worker", Version: pool.V1, Test: "TestP24_QueueTimeoutLeavesQueueAndWorker", Says: "was replaced by",
		make: queueTimeoutKills,
	},
	{
		Fault: "no other worker is tried when nothing was sent", Version: pool.V2, Test: "TestP37_UnsolicitedWhileIdle", Says: "response_mismatch",
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				out := w.RoundTrip(ctx, c)
				if out.Err != nil {
					out.Err.Sent = true // so that no other worker is tried
				}
				return out
			}}
		},
	},
	{
		Fault: "a death is noticed at the next request only", Version: pool.V2, Test: "TestP72_KilledWhileIdle",
		Says: "the dead one replaced, without traffic", Limit: time.Second,
		make: func() fault { return fault{launch: unnoticed} },
	},
	{
		Fault: "a worker that broke the protocol is used again", Version: pool.V1, Test: "TestP42_RandomBytesFailOnlyTheirOperation",
		Says: "echo: ", Limit: time.Second,
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				out := w.RoundTrip(ctx, c)
				if out.Discard == worker.ReasonProtocol || out.Discard == worker.ReasonTimeout {
					out.Discard = ""
				}
				return out
			}}
		},
	},
	{
		Fault: "a crash fails later operations too", Version: pool.V2, Test: "TestP75_ConstantKilling", Says: "failed with",
		make: func() fault { return contagious(16) },
	},
	{
		Fault: "a crash of a shared worker fails later operations too", Version: pool.V2, Test: "TestP75_ConstantKillingOfSharedWorkers",
		Says: "failed with", make: func() fault { return contagious(32) },
	},
	{
		Fault: "something is left of each recycled worker", Version: pool.V1, Test: "TestP99_NothingGrows", Says: "no more goroutines",
		Limit: 2 * time.Second, make: leaky,
	},
	{
		Fault: "a crash counts as retirement", Version: pool.V1, Test: "TestP80_CrashLoop", Says: "boot failure reported", Limit: time.Second,
		make: func() fault { return fault{launch: asked} },
	},
	{
		Fault: "only so many are ever replaced", Version: pool.V2, Test: "TestP74_KillOneHalfAll", Says: "ready workers", Limit: time.Second,
		make: func() fault { return fault{launch: exhausted} },
	},
	{
		Fault: "one start waits for another", Version: pool.V1, Test: "TestP2_StartsOverlap", Says: "ready workers", Limit: 2 * time.Second,
		make: func() fault { return fault{launch: oneByOne} },
	},
}

// late makes workers that are used again after a timeout, whatever is under way.
func late(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		return &lateWorker{Worker: w}, err
	}
}

type lateWorker struct {
	crew.Worker
	pending chan worker.Outcome // the reply that is under way; nil: none
}

func (w *lateWorker) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	if w.pending == nil {
		w.pending = make(chan worker.Outcome, 1)
		go func(pending chan worker.Outcome, deadline time.Time) {
			c := c
			c.Deadline = deadline.Add(time.Hour)
			pending <- w.Worker.RoundTrip(ctx, c)
		}(w.pending, c.Deadline)
	}
	timer := time.NewTimer(time.Until(c.Deadline))
	defer timer.Stop()
	select {
	case out := <-w.pending:
		w.pending = nil
		return out
	case <-timer.C:
		e := pool.NewCommandTimeout("tested", w.ID(), c.Command, time.Second)
		e.Sent = true
		return worker.Outcome{Err: e, Service: time.Second}
	}
}

// twice gives every second member the worker of the one before.
func twice(launch crew.Launch) crew.Launch {
	var mu sync.Mutex
	var before crew.Worker
	return func() (w crew.Worker, err error) {
		mu.Lock()
		defer mu.Unlock()
		if before != nil {
			w, before = before, nil
			return w, nil
		}
		before, err = launch()
		return before, err
	}
}

// contagious lets a crash fail the next operations as well, so many, whoever runs them.
func contagious(next int64) fault {
	var sick atomic.Pointer[worker.Outcome]
	var left atomic.Int64
	return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
		if out := sick.Load(); out != nil && left.Add(-1) >= 0 {
			return worker.Outcome{Err: out.Err}
		}
		out := w.RoundTrip(ctx, c)
		if out.Discard == worker.ReasonExited {
			left.Store(next)
			sick.Store(&out)
		}
		return out
	}}
}

// leaky has a goroutine watch each worker, until the pool is closed.
func leaky() fault {
	closed := make(chan struct{})
	return fault{
		launch: func(launch crew.Launch) crew.Launch {
			return func() (crew.Worker, error) {
				go func() { <-closed }()
				return launch()
			}
		},
		close: func(ctx context.Context, right pool.Pool) error {
			close(closed)
			return right.Close(ctx)
		},
	}
}

// asked makes workers that say of any end of theirs that it had been asked for.
func asked(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		return obedient{w}, nil
	}
}

type obedient struct{ crew.Worker }

func (obedient) Ending() (worker.Reason, bool) { return worker.ReasonRetired, true }

// exhausted starts five workers and no more.
func exhausted(launch crew.Launch) crew.Launch {
	var started atomic.Int64
	return func() (crew.Worker, error) {
		if started.Add(1) > 5 {
			return nil, errors.New("no more")
		}
		return launch()
	}
}

func queueTimeoutKills() fault {
	var mu sync.Mutex
	condemned := false
	return fault{
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			reply, err := right.Do(ctx, req)
			if e, ok := err.(*pool.Error); ok && e.Type == pool.CheckoutTimeout { //nolint:errorlint // the contract
				mu.Lock()
				condemned = true
				mu.Unlock()
			}
			return reply, err
		},
		trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
			out := w.RoundTrip(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			if condemned {
				out.Discard, condemned = worker.ReasonTimeout, false
			}
			return out
		},
	}
}

// unnoticed makes workers whose end shows only when they are used, or told to end.
func unnoticed(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		u := &unnoticedWorker{Worker: w, looked: make(chan struct{}), exited: make(chan struct{})}
		go func() {
			<-u.looked
			<-w.Exited()
			close(u.exited)
		}()
		return u, nil
	}
}

type unnoticedWorker struct {
	crew.Worker
	once   sync.Once
	looked chan struct{}
	exited chan struct{}
}

func (w *unnoticedWorker) look() { w.once.Do(func() { close(w.looked) }) }

func (w *unnoticedWorker) Exited() <-chan struct{} { return w.exited }

func (w *unnoticedWorker) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	w.look()
	return w.Worker.RoundTrip(ctx, c)
}

func (w *unnoticedWorker) Discard(r worker.Reason) {
	w.look()
	w.Worker.Discard(r)
}

func (w *unnoticedWorker) Kill(r worker.Reason) {
	w.look()
	w.Worker.Kill(r)
}

// oneByOne starts no worker before the one before is ready.
func oneByOne(launch crew.Launch) crew.Launch {
	var one sync.Mutex
	return func() (crew.Worker, error) {
		one.Lock()
		w, err := launch()
		if err != nil {
			one.Unlock()
			return nil, err
		}
		return &queuedStart{w, one.Unlock}, nil
	}
}

type queuedStart struct {
	crew.Worker
	next func()
}

func (w *queuedStart) Ready(ctx context.Context) error {
	defer w.next()
	return w.Worker.Ready(ctx)
}
