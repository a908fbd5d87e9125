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

// recycling are faults in when workers are replaced with nothing wrong.
var recycling = []Pool{
	{
		Fault: "one request more than a worker may serve", Version: pool.V2, Test: "TestP85_MaxRequestsIsExact", Says: "after 4 requests, want 3",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Recycle.MaxRequests++ }} },
	},
	{
		Fault: "workers are recycled too early", Version: pool.V1, Test: "TestP85_P88_MaxRequestsIsJittered", Says: "want 40 to 50",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Recycle.MaxRequests /= 2 }} },
	},
	{
		Fault: "a limit of one request is none", Version: pool.V1, Test: "TestP85_OneRequestEach", Says: "were served by 2 processes",
		Limit: time.Second,
		make: func() fault {
			return fault{limits: func(l *pool.Limits) { l.Recycle.MaxRequests = max(0, l.Recycle.MaxRequests-1) }}
		},
	},
	{
		Fault: "the old serve on", Version: pool.V2, Test: "TestP86_MaxAge", Says: "recycled for its age", Limit: time.Second,
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Recycle.MaxAge = 0 }} },
	},
	{
		Fault: "the old end in the middle of an operation", Version: pool.V1, Test: "TestP86_MaxAge", Says: "the running operation ended with",
		Limit: 2 * time.Second,
		make:  impatient,
	},
	{
		Fault: "the idle stay", Version: pool.V1, Test: "TestP86_MaxIdle", Says: "recycled for its idleness", Limit: 3 * time.Second,
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Recycle.MaxIdle = 0 }} },
	},
	{
		Fault: "the busy are taken for idle", Version: pool.V2, Test: "TestP86_MaxIdle", Says: "although it wasn't idle", Limit: 3 * time.Second,
		make: func() fault {
			return fault{limits: func(l *pool.Limits) { l.Recycle.MaxAge, l.Recycle.MaxIdle = l.Recycle.MaxIdle, 0 }}
		},
	},
	{
		Fault: "memory of a worker's children isn't seen", Version: pool.V2, Test: "TestP86_MaxMemory", Says: "grow_child: the worker recycled",
		Limit: 4 * time.Second,
		make:  func() fault { return fault{launch: alone} },
	},
	{
		Fault: "all are recycled at once", Version: pool.V2, Test: "TestP87_RecyclingAllKeepsTheOthers", Says: "of 4 were ready",
		Limit: 5 * time.Second,
		make:  func() fault { return fault{launch: punctual, limits: ageless} },
	},
	{
		Fault: "a substitute comes after the one that it stands in for", Version: pool.V2, Test: "TestP87_RecyclingAllWithOverflowKeepsSize",
		Says: "want 4 with a substitute", Limit: 5 * time.Second,
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Overflow = 0 }} },
	},
	{
		Fault: "all start equal and end equal", Version: pool.V1, Test: "TestP88_EqualStartsDontRecycleTogether", Says: "were recycled within",
		Limit: 5 * time.Second,
		make:  func() fault { return fault{launch: punctual, limits: ageless} },
	},
	{
		Fault: "a reset ends who is busy", Version: pool.V2, Test: "TestP89_P90_ResetReplacesAllAndFailsNothing",
		Says: "the running operation ended with", Limit: 2 * time.Second,
		make: func() fault {
			b := &busy{}
			return fault{trip: b.trip(), reset: func(right pool.Pool) {
				right.Reset()
				b.kill()
			}}
		},
	},
	{
		Fault: "a reset forgets who is busy", Version: pool.V1, Test: "TestP89_P90_ResetReplacesAllAndFailsNothing",
		Says: "all workers replaced", Limit: 2 * time.Second,
		make: func() fault {
			b := &busy{}
			f := (&herd{spared: b.has}).fault()
			f.trip = b.trip()
			return f
		},
	},
	{
		Fault: "a reset replaces all at once", Version: pool.V2, Test: "TestP89_ResetUnderLoad", Says: "of 4 were ready",
		make: func() fault { return (&herd{}).fault() },
	},
	{
		Fault: "a pause doesn't wait for what runs", Version: pool.V2, Test: "TestP100_PauseDrainsAndHolds", Says: "while an operation runs",
		make: func() fault {
			return fault{pause: func(ctx context.Context, right pool.Pool) error {
				now, cancel := context.WithCancel(ctx)
				cancel()
				_ = right.Pause(now)
				return nil
			}}
		},
	},
	{
		Fault: "a pause holds nobody", Version: pool.V1, Test: "TestP100_PauseDrainsAndHolds", Says: "were run in the pause",
		make: func() fault {
			return fault{pause: func(ctx context.Context, right pool.Pool) error {
				err := right.Pause(ctx)
				right.Resume()
				return err
			}}
		},
	},
	{
		Fault: "the end of a pause forgets who waits", Version: pool.V2, Test: "TestP100_PauseDrainsAndHolds", Says: "served, in the order",
		Limit: time.Second,
		make:  func() fault { return fault{resume: func(pool.Pool) {}} },
	},
	{
		Fault: "a lazy pool is eager", Version: pool.V1, Test: "TestP1_LazyStartsNothingBeforeFirstUse", Says: "want 0, 2, 2, none",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Lazy = false }} },
	},
	{
		Fault: "each request of a burst has a worker started", Version: pool.V2, Test: "TestP3_LazyNeverExceedsSizeUnderABurst",
		Says: "workers, want 3",
		make: func() fault {
			return fault{limits: func(l *pool.Limits) { l.Size, l.QueueLimit = 60, l.QueueLimit-57 }}
		},
	},
	{
		Fault: "a lazy pool that can't start gives up", Version: pool.V2, Test: "TestP8_LazyGoesOnTrying", Says: "boot failure reported",
		Limit: 2 * time.Second,
		make:  func() fault { return fault{launch: giveUp} },
	},
	{
		Fault: "what a worker takes isn't told", Version: pool.V1, Test: "TestP98_FiguresOfAWorker", Says: "CPU seconds and open files",
		Limit: time.Second,
		make: func() fault {
			return telling(func(s *pool.Stats) {
				for i := range s.Workers {
					s.Workers[i].CPU = 0
				}
			})
		},
	},
}

// impatient ends whoever is busy when a limit to the age comes.
func impatient() fault {
	f := killing()
	end := f.configure
	f.configure = func(right pool.Pool, limits pool.Limits) {
		if limits.Recycle.MaxAge == 0 {
			right.Configure(limits)
			return
		}
		limits.Size--
		end(right, limits)
	}
	return f
}

// alone makes workers of whose process group the leader alone is looked at.
func alone(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		return loner{w}, nil
	}
}

type loner struct{ crew.Worker }

func (w loner) Usage(*worker.Groups) worker.Usage { return worker.Usage{USS: w.RSS()} }

// herd ends its workers all at once.
type herd struct {
	spared  func(crew.Worker) bool // nil: none
	mu      sync.Mutex
	workers []crew.Worker // guarded by mu
}

func (h *herd) fault() fault {
	return fault{
		launch: func(launch crew.Launch) crew.Launch {
			return func() (crew.Worker, error) {
				w, err := launch()
				h.mu.Lock()
				defer h.mu.Unlock()
				h.workers = append(h.workers, w)
				return w, err
			}
		},
		reset: func(pool.Pool) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, w := range h.workers {
				if h.spared == nil || !h.spared(w) {
					w.Discard(worker.ReasonRecycled)
				}
			}
		},
	}
}

// giveUp has every start after the first wait for ever.
func giveUp(launch crew.Launch) crew.Launch {
	var tried atomic.Bool
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil || !tried.Swap(true) {
			return w, err
		}
		return hesitant{w}, nil
	}
}

type hesitant struct{ crew.Worker }

func (w hesitant) Ready(ctx context.Context) error {
	<-ctx.Done()
	return w.Worker.Ready(ctx)
}

// scriptedAge is the age that the contract gives its scripted workers.
const scriptedAge = 500 * time.Millisecond

func ageless(l *pool.Limits) { l.Recycle.MaxAge = 0 }

// punctual makes workers that end when they are old, whatever the others do.
func punctual(launch crew.Launch) crew.Launch {
	var mu sync.Mutex
	var first time.Time
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if first.IsZero() {
			first = time.Now()
		}
		age := time.Since(first).Truncate(scriptedAge) + scriptedAge
		time.AfterFunc(time.Until(first.Add(age)), func() { w.Discard(worker.ReasonRecycled) })
		return w, nil
	}
}
