package pooltest

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// script makes workers without a process: each operation is a function of its payload. It notices when two
// callers hold the same worker.
type script struct {
	run    func(ctx context.Context, payload []byte) []byte
	spoilt atomic.Int64 // so many operations to come find their worker useless, before anything is sent
	made   atomic.Int64
	shared atomic.Int64 // operations that found their worker taken
	peak   atomic.Int64 // operations at the same time, all workers together, at most
	inside atomic.Int64
	boot   time.Duration // of each start

	mu    sync.Mutex
	up    int          // workers that are ready and haven't been told to end; guarded by mu
	least int          // the lowest up after a worker was told to end; guarded by mu
	ended []retirement // guarded by mu
}

// retirement is a worker that was told to end, whoever ended it.
type retirement struct {
	served uint64
	at     time.Time
}

func (s *script) ready(ctx context.Context) error {
	if s.boot > 0 {
		timer := time.NewTimer(s.boot)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up++
	return ctx.Err()
}

func (s *script) retired(w *scripted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up--
	if len(s.ended) == 0 || s.up < s.least {
		s.least = s.up
	}
	s.ended = append(s.ended, retirement{w.served.Load(), time.Now()})
}

// retirements are those so far, and how many workers were left at least after one.
func (s *script) retirements() (ended []retirement, least int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended), s.least
}

func (s *script) launch() (crew.Worker, error) {
	return &scripted{script: s, id: "s-" + strconv.FormatInt(s.made.Add(1), 10), exited: make(chan struct{})}, nil
}

type scripted struct {
	script *script
	id     string
	taken  atomic.Bool
	served atomic.Uint64
	ending atomic.Pointer[worker.Reason]
	exited chan struct{}
}

var _ crew.Worker = (*scripted)(nil)

func (w *scripted) ID() string                                    { return w.id }
func (w *scripted) PID() int                                      { return os.Getpid() }
func (w *scripted) Ready(ctx context.Context) error               { return w.script.ready(ctx) }
func (w *scripted) Exited() <-chan struct{}                       { return w.exited }
func (w *scripted) Gone() <-chan struct{}                         { return w.exited }
func (w *scripted) Exit() worker.Exit                             { return worker.Exit{Signal: syscall.SIGKILL} }
func (w *scripted) Served() uint64                                { return w.served.Load() }
func (w *scripted) RSS() uint64                                   { return 0 }
func (w *scripted) Said() string                                  { return "" }
func (w *scripted) Usage(*worker.Groups) worker.Usage             { return worker.Usage{} }
func (w *scripted) Commands() []string                            { return nil }
func (w *scripted) Codec() string                                 { return "" }
func (w *scripted) Ping(context.Context, time.Time) worker.Reason { return "" }
func (w *scripted) Kill(r worker.Reason)                          { w.Discard(r) }

func (w *scripted) Discard(r worker.Reason) {
	if w.ending.CompareAndSwap(nil, &r) {
		w.script.retired(w)
		close(w.exited)
	}
}

func (w *scripted) Ending() (worker.Reason, bool) {
	if r := w.ending.Load(); r != nil {
		return *r, true
	}
	return "", false
}

// RoundTrip runs the script; a caller that gives up before makes the worker useless, as a real one.
func (w *scripted) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	if !w.taken.CompareAndSwap(false, true) {
		w.script.shared.Add(1)
	}
	defer w.taken.Store(false)
	if w.script.spoilt.Load() > 0 && w.script.spoilt.Add(-1) >= 0 {
		e := pool.NewError(pool.CommunicationError, pool.PortExited, "worker %s had ended", w.id).With("pool", name)
		return worker.Outcome{Err: e, Discard: worker.ReasonExited}
	}
	inside := w.script.inside.Add(1)
	defer w.script.inside.Add(-1)
	for peak := w.script.peak.Load(); inside > peak && !w.script.peak.CompareAndSwap(peak, inside); {
		peak = w.script.peak.Load()
	}
	start := time.Now()
	payload := w.script.run(ctx, c.Payload)
	if ctx.Err() != nil {
		e := pool.NewCancelled(name)
		e.Sent = true
		return worker.Outcome{Err: e, Discard: worker.ReasonCancelled}
	}
	w.served.Add(1)
	return worker.Outcome{Payload: payload, Service: max(1, time.Since(start))}
}

func nothing(context.Context, []byte) []byte { return nil }
