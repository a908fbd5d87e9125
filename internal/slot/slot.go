// Package slot is the supervisor of one slot: it serves requests from the router with a pool of Python workers,
// which pool being whatever the router last configured, and changes pools without losing a request. It never ends
// for anything that Python does: what can't be started is a state that it reports.
package slot

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// Options of a slot that don't change during its life.
type Options struct {
	Name       string // "a" or "b"
	Socket     string // absolute path of its unix socket
	Marker     string // of its workers' processes; see Marker
	PythonDir  string // folder with poolworker's __main__.py
	WorkingDir string // absolute; of workers that don't say their own (the image's WORKDIR)
	Env        []string

	MaxWorkers   int           // what the container's limits allow; 0: no limit
	WorkerMemory uint64        // what one worker may take, in bytes; 0: no limit
	MaxPayload   int           // bytes; 0: frame.DefaultMaxPayload
	InitTimeout  time.Duration // of a worker's start, where the configuration has no limit; 0: worker.DefaultInitTimeout
	Host         *worker.Host
	Log          *slog.Logger
}

// Slot runs at most one pool, and drains those that were replaced. All methods are safe for concurrent use.
type Slot struct {
	opt     Options
	changes hub

	// mu guards what follows. Configure holds it while it makes a pool, so that configurations apply in order.
	mu      sync.Mutex
	config  slotproto.Config
	current *engine // nil while idle
	closed  bool
	past    tally // of pools that have ended
	retired map[*engine]struct{}
	drains  sync.WaitGroup // one for each of retired
}

// New returns an idle slot.
func New(opt Options) *Slot {
	return &Slot{opt: opt, retired: map[*engine]struct{}{}}
}

// Do runs one request in the pool that is configured now. A failure is always an *pool.Error that names the slot.
func (s *Slot) Do(ctx context.Context, req pool.Request) (pool.Reply, *pool.Error) {
	e, err := s.enter()
	if err != nil {
		return pool.Reply{}, err.With("slot", s.opt.Name)
	}
	defer e.leave()
	select {
	case <-req.Recall: // it came before the request did
		return pool.Reply{}, pool.NewRecalled(e.name).With("slot", s.opt.Name)
	default:
	}
	reply, failure := e.pool.Do(ctx, req)
	switch {
	case failure != nil:
		failed := asPoolError(failure)
		e.failures.note(req.Command, failed)
		return reply, failed.With("slot", s.opt.Name)
	case reply.Failed != "":
		e.failures.note(req.Command, batchFailure(&reply))
	}
	return reply, nil
}

// enter returns the current pool, which isn't closed before leave.
func (s *Slot) enter() (*engine, *pool.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, pool.NewShuttingDown(poolName(s.config))
	}
	if s.current == nil {
		return nil, pool.NewNotAvailable(poolName(s.config), "has no workers in slot "+s.opt.Name+", which is idle; send to the other slot")
	}
	s.current.enter()
	return s.current, nil
}

func poolName(c slotproto.Config) string {
	if c.Pool == "" {
		return "(not configured)"
	}
	return c.Pool
}

// Configure makes cfg the desired state; the same one twice is a no-op. Requests go to a new pool at once; those
// inside the old one finish there, within the old one's drain timeout. Limits change without a new pool.
func (s *Slot) Configure(ctx context.Context, cfg slotproto.Config) *pool.Error {
	if err := validate(cfg); err != nil {
		return err.With("slot", s.opt.Name)
	}
	cfg.Start = cmp.Or(cfg.Start, s.opt.InitTimeout, worker.DefaultInitTimeout)
	switch changed, err := s.apply(ctx, cfg); {
	case err != nil:
		return err.With("slot", s.opt.Name)
	case changed: // a log that is slow to write holds up no request
		s.opt.Log.Info("slot configured", "pool", cfg.Pool, "revision", cfg.Revision, "version", cfg.Version, "size", cfg.Size)
		for _, sentence := range inactive(cfg) {
			s.opt.Log.Warn(sentence, "pool", cfg.Pool, "revision", cfg.Revision)
		}
	}
	s.changes.notify()
	return nil
}

// apply makes cfg the desired state, and reports whether it needed more than other limits.
func (s *Slot) apply(ctx context.Context, cfg slotproto.Config) (changed bool, _ *pool.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, pool.NewShuttingDown(cfg.Pool)
	}
	old := s.current
	s.config = cfg
	switch {
	case cfg.Worker == nil:
		s.current = nil
	case old != nil && old.runs(cfg):
		old.configure(cfg, s.opt.MaxWorkers)
		return false, nil
	default:
		s.current = s.newEngine(ctx, cfg)
	}
	if old != nil {
		s.retire(ctx, old)
	}
	return true, nil
}

// Reset has all workers of the current pool replaced, one after the other; no request fails for it.
func (s *Slot) Reset() {
	s.mu.Lock()
	e := s.current
	if e != nil {
		e.pool.Reset()
	}
	s.mu.Unlock()
	if e != nil {
		s.opt.Log.Info("workers are replaced, as the router asks for", "pool", e.name, "revision", e.revision)
	}
}

// retire drains and closes a pool in the background. The caller holds mu.
func (s *Slot) retire(ctx context.Context, e *engine) {
	s.retired[e] = struct{}{}
	ctx = context.WithoutCancel(ctx)
	s.drains.Go(func() {
		err := e.drain(ctx)
		stats := e.pool.Stats()
		s.mu.Lock()
		delete(s.retired, e)
		s.past.add(e.revision, stats)
		s.mu.Unlock()
		s.changes.notify()
		if err != nil {
			s.opt.Log.Error("workers are still alive after their pool was closed", "revision", e.revision, "error", err)
		}
	})
}

// Close drains the pool, takes no more requests, and leaves no process behind. It is bounded by the drain timeout
// and by ctx.
func (s *Slot) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	old := s.current
	s.current = nil
	if old != nil {
		s.retire(ctx, old)
	}
	cut := make([]*engine, 0, len(s.retired))
	for e := range s.retired {
		cut = append(cut, e)
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		for _, e := range cut {
			e.hurry()
		}
	})
	defer stop()
	s.drains.Wait()
}
