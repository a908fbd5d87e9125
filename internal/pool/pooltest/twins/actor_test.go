package twins

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// operation is a request, and what a worker does with it.
type operation struct {
	Kind     string        // echo, raise, crash, babble, litter
	Service  time.Duration // until the worker does it
	Deadline time.Duration // of the request, from its submission; 0: none
	Cancel   time.Duration // when the caller gives up; 0: never
	Affinity pool.Affinity
}

// stage makes workers that act what their requests say, in the bubble's time.
type stage struct {
	made atomic.Int64
	last atomic.Pointer[actor] // the one that ended an operation last
}

func (s *stage) launch() (crew.Worker, error) {
	return &actor{stage: s, id: "w-" + strconv.FormatInt(s.made.Add(1), 10), exited: make(chan struct{})}, nil
}

// killLast ends whoever served last, as a crash. One that has served nothing yet would count as a failed start, whose
// back-off is random.
func (s *stage) killLast() {
	if a := s.last.Load(); a != nil && a.Served() > 0 {
		a.end("")
	}
}

type actor struct {
	stage  *stage
	id     string
	served atomic.Uint64
	unread bool // whoever has it checked out: it wrote something that nobody asked for
	exited chan struct{}

	mu     sync.Mutex
	ended  bool          // guarded by mu
	reason worker.Reason // guarded by mu; empty: it ended by itself
}

func (a *actor) ID() string                                    { return a.id }
func (a *actor) Commands() []string                            { return nil }
func (a *actor) Codec() string                                 { return "" }
func (a *actor) PID() int                                      { return 0 }
func (a *actor) Ready(context.Context) error                   { return nil }
func (a *actor) Exited() <-chan struct{}                       { return a.exited }
func (a *actor) Gone() <-chan struct{}                         { return a.exited }
func (a *actor) Exit() worker.Exit                             { return worker.Exit{Code: 9} }
func (a *actor) Served() uint64                                { return a.served.Load() }
func (a *actor) RSS() uint64                                   { return 0 }
func (a *actor) Said() string                                  { return "" }
func (a *actor) Usage(*worker.Groups) worker.Usage             { return worker.Usage{} }
func (a *actor) Discard(r worker.Reason)                       { a.end(r) }
func (a *actor) Ping(context.Context, time.Time) worker.Reason { return "" }
func (a *actor) Kill(r worker.Reason)                          { a.end(r) }

func (a *actor) end(r worker.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.ended, a.reason = true, r
		close(a.exited)
	}
}

func (a *actor) Ending() (worker.Reason, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reason, a.reason != ""
}

func (a *actor) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	start := time.Now()
	var op operation
	if err := json.Unmarshal(c.Payload, &op); err != nil {
		panic(err)
	}
	switch {
	case ctx.Err() != nil:
		return worker.Outcome{Err: pool.NewCancelled(name)}
	case !c.Deadline.After(start):
		return worker.Outcome{Err: pool.NewDeadlineExceeded(name)}
	case a.unread:
		return worker.Outcome{Err: a.failure(pool.ResponseMismatch, "wrote unasked", false), Discard: worker.ReasonProtocol}
	}
	defer a.stage.last.Store(a)
	out := a.act(ctx, op, c)
	out.Service = time.Since(start)
	if out.Discard == "" {
		a.served.Add(1)
	}
	return out
}

func (a *actor) act(ctx context.Context, op operation, c worker.Call) worker.Outcome {
	work, deadline := time.NewTimer(op.Service), time.NewTimer(time.Until(c.Deadline))
	defer work.Stop()
	defer deadline.Stop()
	select {
	case <-work.C:
	case <-deadline.C:
		e := pool.NewCommandTimeout(name, a.id, c.Command, op.Service)
		e.Sent = true
		return worker.Outcome{Err: e, Discard: worker.ReasonTimeout}
	case <-ctx.Done():
		e := pool.NewCancelled(name)
		e.Sent = true
		return worker.Outcome{Err: e, Discard: worker.ReasonCancelled}
	case <-a.exited:
		return worker.Outcome{Err: a.failure(pool.PortExited, "ended", true), Discard: worker.ReasonExited}
	}
	switch op.Kind {
	case "raise":
		return worker.Outcome{Err: a.failure(pool.PythonError, "raised", true)}
	case "crash":
		a.end("")
		return worker.Outcome{Err: a.failure(pool.PortExited, "crashed", true), Discard: worker.ReasonExited}
	case "babble":
		return worker.Outcome{Err: a.failure(pool.DecodeError, "babbled", true), Discard: worker.ReasonProtocol}
	case "litter":
		a.unread = true
	}
	return worker.Outcome{Payload: c.Payload}
}

func (a *actor) failure(t pool.Type, what string, sent bool) *pool.Error {
	e := pool.NewError(pool.CommunicationError, t, "worker %s %s", a.id, what).With("pool", name)
	e.Sent = sent
	return e
}
