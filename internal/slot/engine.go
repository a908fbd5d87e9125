package slot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/guard"
	"github.com/dspex/workerpool-operator/internal/pool/serial"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

type builder func(context.Context, string, crew.Launch, pool.Limits, *slog.Logger) pool.Pool

// versions is the registry of pool implementations.
var versions = map[pool.Version]builder{
	pool.V1: func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		return serial.New(ctx, name, l, limits, log)
	},
	pool.V2: func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		if limits.Concurrency > 1 {
			return checkout.NewShared(ctx, name, l, limits, log)
		}
		return checkout.New(ctx, name, l, limits, log)
	},
}

// engine is a pool, what it was made for, and the requests inside.
type engine struct {
	name     string // of the WorkerPool, which like the revision never changes
	revision string
	config   slotproto.Config // guarded by the slot's lock until the engine is retired, and never changed after that
	pool     pool.Pool
	spec     atomic.Pointer[worker.Spec]
	zygote   *worker.Zygote // nil: workers aren't forked
	failures *failureLog
	stop     chan struct{} // ends the forwarding of changes
	now      chan struct{} // closed: drain no longer
	once     sync.Once

	mu       sync.Mutex
	inside   int  // guarded by mu
	draining bool // guarded by mu: no request enters any more
	emptied  chan struct{}
}

func (s *Slot) newEngine(ctx context.Context, cfg slotproto.Config) *engine {
	limits, _ := capped(cfg, s.opt.MaxWorkers)
	log := s.opt.Log.With("pool", cfg.Pool, "revision", cfg.Revision, "version", cfg.Version)
	e := &engine{name: poolName(cfg), revision: cfg.Revision, config: cfg, stop: make(chan struct{}), now: make(chan struct{}), emptied: make(chan struct{}), failures: newFailureLog(log)}
	e.spec.Store(s.spec(cfg))
	plain := versions[cfg.Version](ctx, cfg.Pool, e.launcher(s.opt.Host, log), limits, log)
	e.pool = guard.New(plain, cfg.Pool, limits, log)
	go e.forward(&s.changes)
	return e
}

// launcher starts workers one by one, or forks them from a zygote.
func (e *engine) launcher(host *worker.Host, log *slog.Logger) crew.Launch {
	start := func() (*worker.Worker, error) { return worker.Launch(host, e.spec.Load()) }
	concurrency := e.spec.Load().Concurrency
	if e.config.Worker.Preload == slotproto.PreloadZygote {
		e.zygote = worker.NewZygote(host, e.spec.Load(), log)
		start = e.zygote.Launch
	}
	return func() (crew.Worker, error) {
		w, err := start()
		switch {
		case err != nil:
			return nil, err // and no *worker.Worker that is nil in it
		case concurrency > 1:
			return worker.NewShared(w), nil
		}
		return w, nil
	}
}

// spec says how this configuration's workers are made. What the supervisor's own environment has for itself isn't
// theirs.
func (s *Slot) spec(cfg slotproto.Config) *worker.Spec {
	env := make([]string, 0, len(s.opt.Env)+len(cfg.Worker.Env))
	for _, e := range s.opt.Env {
		if !strings.HasPrefix(e, "WORKERPOOL_") {
			env = append(env, e)
		}
	}
	for _, e := range cfg.Worker.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	dir := s.opt.WorkingDir
	if own := cfg.Worker.WorkingDir; filepath.IsAbs(own) {
		dir = own
	} else {
		dir = filepath.Join(dir, own)
	}
	concurrency := cfg.Worker.Concurrency
	if cfg.Version == pool.V1 {
		concurrency = 1
	}
	return &worker.Spec{
		Concurrency: concurrency,
		Pool:        cfg.Pool, Slot: s.opt.Name, Marker: s.opt.Marker, Python: cfg.Worker.Python, PythonDir: s.opt.PythonDir,
		WorkingDir: dir, Memory: s.opt.WorkerMemory, Module: cfg.Worker.Module, Env: env, MaxPayload: s.opt.MaxPayload, InitTimeout: cfg.Start,
	}
}

// inactive names what a configuration has and its version doesn't do.
func inactive(cfg slotproto.Config) (sentences []string) {
	if cfg.Worker != nil && cfg.Worker.Concurrency > 1 && cfg.Version == pool.V1 {
		sentences = append(sentences, fmt.Sprintf(
			"worker.concurrency of %d is inactive under v1, which runs one operation at a time; it takes effect under v2", cfg.Worker.Concurrency))
	}
	return sentences
}

// runs reports whether cfg needs no new pool, only other limits.
func (e *engine) runs(cfg slotproto.Config) bool {
	return e.config.Pool == cfg.Pool && e.config.Revision == cfg.Revision && e.config.Version == cfg.Version &&
		reflect.DeepEqual(e.config.Worker, cfg.Worker)
}

func (e *engine) configure(cfg slotproto.Config, maxWorkers int) {
	if reflect.DeepEqual(e.config, cfg) {
		return
	}
	e.config = cfg
	limits, _ := capped(cfg, maxWorkers)
	e.limitStarts(cfg.Start)
	e.pool.Configure(limits)
}

// limitStarts has workers that are started from now on take no longer.
func (e *engine) limitStarts(limit time.Duration) {
	spec := *e.spec.Load()
	spec.InitTimeout = limit
	e.spec.Store(&spec)
	if e.zygote != nil {
		e.zygote.Use(&spec)
	}
}

func (e *engine) forward(to *hub) {
	for {
		select {
		case <-e.pool.Changed():
			to.notify()
		case <-e.stop:
			return
		}
	}
}

func (e *engine) enter() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inside++
}

func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inside--
	e.signalEmptied()
}

// signalEmptied is called whenever inside or draining has changed; the caller holds mu.
func (e *engine) signalEmptied() {
	if e.draining && e.inside == 0 {
		close(e.emptied)
	}
}

// closePatience is how long idle workers may take to end, once their pool's requests have ended.
const closePatience = 8 * time.Second

// drain waits until all requests inside have ended, waiting ones too, at most for the drain timeout; then it ends
// the pool. No request enters any more.
func (e *engine) drain(ctx context.Context) error {
	e.mu.Lock()
	e.draining = true
	e.signalEmptied()
	e.mu.Unlock()
	timer := time.NewTimer(e.config.Drain)
	defer timer.Stop()
	patience := closePatience
	select {
	case <-e.emptied:
	case <-timer.C:
		patience = 0
	case <-e.now:
		patience = 0
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer close(e.stop)
	defer e.failures.close()
	if e.zygote != nil {
		e.zygote.Close() // first, as a start that waits for it would hold up the pool's end
	}
	return e.pool.Close(ctx)
}

// hurry ends a drain now. Idempotent.
func (e *engine) hurry() { e.once.Do(func() { close(e.now) }) }

// capped fits a configuration's workers into what the container allows: overflow shrinks first, then size. Cut tells
// whether workers are missing for it; under V1, whose overflow is inactive, none is when only overflow shrinks.
func capped(cfg slotproto.Config, maxWorkers int) (limits pool.Limits, cut bool) {
	limits = pool.Limits{
		Size: cfg.Size, Overflow: cfg.Overflow, QueueLimit: cfg.Queue, Checkout: cfg.Checkout, Operation: cfg.Op, Drain: cfg.Drain,
		Start: cfg.Start, Recycle: cfg.Recycle, Lazy: cfg.Lazy,
	}
	if cfg.Worker != nil {
		limits.Concurrency = cfg.Worker.Concurrency
	}
	if maxWorkers <= 0 {
		return limits, false
	}
	limits.Size = min(cfg.Size, maxWorkers)
	limits.Overflow = min(cfg.Overflow, maxWorkers-limits.Size)
	return limits, limits.Size < cfg.Size || (limits.Overflow < cfg.Overflow && cfg.Version != pool.V1)
}

// validate names the first thing that is wrong with a configuration.
func validate(c slotproto.Config) *pool.Error {
	if c.Worker == nil {
		return nil
	}
	problem := ""
	switch {
	case c.Pool == "":
		problem = "pool has no name"
	case versions[c.Version] == nil:
		problem = "version is " + string(c.Version) + ", not v1 or v2"
	case c.Worker.Module == "":
		problem = "worker.module is empty"
	case c.Worker.Preload != "" && c.Worker.Preload != slotproto.PreloadZygote:
		problem = "worker.preload is " + string(c.Worker.Preload) + ", which this slot doesn't know"
	case c.Worker.Concurrency < 0:
		problem = "worker.concurrency is negative"
	case c.Size < 1:
		problem = "size is below 1"
	case c.Overflow < 0 || c.Queue < 0:
		problem = "overflow or queueLimit is negative"
	case c.Checkout <= 0 || c.Op <= 0 || c.Drain < 0 || c.Start < 0:
		problem = "a timeout is missing or negative"
	case c.Recycle.MaxRequests < 0 || c.Recycle.MaxAge < 0 || c.Recycle.MaxIdle < 0:
		problem = "a limit of worker.recycle is negative"
	default:
		return nil
	}
	return pool.NewError(pool.RequestError, pool.InvalidPayload, "configuration of pool %s refused: %s; correct the WorkerPool",
		poolName(c), problem).With("pool", c.Pool)
}

func asPoolError(err error) *pool.Error {
	var e *pool.Error
	if errors.As(err, &e) {
		return e
	}
	return pool.NewError(pool.SystemError, pool.Internal, "%v", err)
}
