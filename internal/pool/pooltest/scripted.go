package pooltest

import (
	"context"
	"os"
	"strconv"
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

func (w *scripted) ID() string                      { return w.id }
func (w *scripted) PID() int                        { return os.Getpid() }
func (w *scripted) Ready(ctx context.Context) error { return ctx.Err() }
func (w *scripted) Exited() <-chan struct{}         { return w.exited }
func (w *scripted) Gone() <-chan struct{}           { return w.exited }
func (w *scripted) Exit() worker.Exit               { return worker.Exit{Signal: syscall.SIGKILL} }
func (w *scripted) Served() uint64                  { return w.served.Load() }
func (w *scripted) RSS() uint64                     { return 0 }
func (w *scripted) Commands() []string              { return nil }
func (w *scripted) Kill(r worker.Reason)            { w.Discard(r) }

func (w *scripted) Discard(r worker.Reason) {
	if w.ending.CompareAndSwap(nil, &r) {
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
