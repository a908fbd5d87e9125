package worker

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// cancelGrace is how long a task may take from its Cancel frame to its end. One that takes longer has its worker
// replaced.
const cancelGrace = time.Second

// Shared is a Worker that serves several calls at the same time, as many as its Spec's Concurrency; whoever hands them
// out sees to it that there are no more. Each call waits for its own answer, by its id; one goroutine reads them all,
// and one writes, so that a caller who gives up never leaves half a frame behind.
//
// A call that is given up is cancelled by a frame, and holds its place until the worker has answered that (which is
// dropped) or cancelGrace is over. After the latter, as after any Discard, the worker takes no new calls; it ends when
// those that run have. It is never sent a SIGINT, as that would hit any of them.
type Shared struct {
	*Worker
	grace   time.Duration                              // cancelGrace, but in tests
	encode  func([]byte, *frame.Frame) ([]byte, error) // frame.Append, but in tests
	written chan struct{}                              // closed when the writer has ended

	// mu guards what follows, and Worker's sequence and programs. Who holds a pool's lock may wait for it, so no payload is
	// copied, encoded or decoded while it is held.
	mu      sync.Mutex
	wake    *sync.Cond // queue or silent has changed
	calls   map[uint64]*pending
	queue   []outgoing
	silent  bool    // nothing is written any more
	asked   *Reason // why it is to end; nil: it isn't
	running int     // calls that hold up its end: all but the stuck ones
	stuck   int     // calls that outlived their grace
}

// pending is a call that the worker hasn't answered.
type pending struct {
	id      uint64
	command string
	start   time.Time
	done    chan Outcome // room for the one that is ever sent, unless the caller has given up before
	stream  *inbox       // nil: the call isn't a stream
	ping    bool         // it is no call, and a Pong answers it

	// Guarded by the worker's lock.
	sent  bool        // some of it may have reached the worker
	given Reason      // why its caller has given up; "": it waits
	grace *time.Timer // once it was given up
	stuck bool        // it outlived its grace
	over  bool        // with the verdict below
	left  Reason      // what is to be done with the worker: nothing, or a Discard
	held  func(Reason)
}

// outgoing is some whole frames; call is the one that they begin, if they do.
type outgoing struct {
	ahead   []*frame.Frame // go first; what is in them never changes
	encoded []byte
	call    *pending
}

// NewShared makes w, which isn't Ready yet, one that serves several calls.
func NewShared(w *Worker) *Shared {
	s := &Shared{Worker: w, grace: cancelGrace, encode: frame.Append, written: make(chan struct{}), calls: map[uint64]*pending{}}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// Ready waits until the worker can serve; see Worker.Ready.
func (s *Shared) Ready(ctx context.Context) error {
	if err := s.Worker.Ready(ctx); err != nil {
		return err
	}
	_ = s.setDeadlines(time.Time{}) // it fails only when the process has ended, which the reader finds
	go s.write()
	go s.read()
	return nil
}

// RoundTrip runs one call beside others. It returns at the deadline or when ctx ends, whatever the worker does; the
// Outcome's Held then tells when the worker is done with it.
func (s *Shared) RoundTrip(ctx context.Context, c Call) Outcome {
	start := c.Start
	if start.IsZero() {
		start = time.Now()
	}
	if out := s.refuseCall(ctx, &c, start); out != nil {
		return *out
	}
	p, out := s.begin(&c, start)
	if out != nil {
		return *out
	}
	if p.stream != nil {
		return s.receive(ctx, p, &c)
	}
	timer := time.NewTimer(c.Deadline.Sub(start))
	defer timer.Stop()
	select {
	case out := <-p.done:
		return out
	case <-timer.C:
		err := pool.NewTaskTimeout(s.spec.Pool, s.id, c.Command, c.Deadline.Sub(start)).With("stack", s.stack(p.id))
		return s.giveUp(p, ReasonTimeout, err)
	case <-ctx.Done():
		s.logStack(c.Command, p.id)
		return s.giveUp(p, ReasonCancelled, s.name(pool.NewCancelled(s.spec.Pool)))
	}
}

// refuseCall ends calls that must not reach the worker, whatever its state.
func (s *Shared) refuseCall(ctx context.Context, c *Call, now time.Time) *Outcome {
	meta := c.frame()
	switch {
	case ctx.Err() != nil:
		return &Outcome{Err: s.name(pool.NewCancelled(s.spec.Pool))}
	case !c.Deadline.After(now):
		return &Outcome{Err: pool.NewDeadlineExceeded(s.spec.Pool)}
	case c.tooLarge(s.maxPayload(), meta.Meta()):
		return &Outcome{Err: s.tooLargeError(c)}
	case s.exited():
		return &Outcome{Err: s.exitError(c.Command, 0), Discard: ReasonExited}
	}
	return nil
}

// begin has the call written. A worker that is to end takes none.
func (s *Shared) begin(c *Call, start time.Time) (*pending, *Outcome) {
	p, out := s.number(c, start)
	if out != nil {
		return nil, out
	}
	meta := c.frame()
	encoded := s.encoded(&frame.Frame{
		Kind: frame.Request, Flags: meta.Flags(), Generation: s.generation, ID: p.id, Budget: c.Deadline.Sub(start),
		Meta: meta.Meta(), Payload: c.Payload,
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil || s.silent { // meanwhile
		return nil, s.endingOutcome()
	}
	var ahead []*frame.Frame
	if c.Program != nil {
		ahead = s.introduce(c.Program)
	}
	s.calls[p.id] = p
	s.running++
	s.send(outgoing{ahead, encoded, p})
	return p, nil
}

// number makes a call of the next id, unless the worker takes none.
func (s *Shared) number(c *Call, start time.Time) (*pending, *Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil || s.silent {
		return nil, s.endingOutcome()
	}
	s.sequence++
	p := &pending{id: s.sequence, command: c.Command, start: start, done: make(chan Outcome, 1)}
	if c.Stream != nil {
		p.stream = &inbox{filled: make(chan struct{}, 1)}
	}
	return p, nil
}

// encoded returns frames that were found to fit the format.
func (s *Shared) encoded(frames ...*frame.Frame) []byte {
	size := 0
	for _, f := range frames {
		size += frame.HeaderSize + len(f.Meta) + len(f.Payload)
	}
	data := make([]byte, 0, size)
	for _, f := range frames {
		data, _ = s.encode(data, f)
	}
	return data
}

// endingOutcome refuses a call because the worker takes none any more; another one may. The caller holds mu.
func (s *Shared) endingOutcome() *Outcome {
	why := ReasonExited
	if s.asked != nil {
		why = *s.asked
	}
	return &Outcome{Err: s.name(pool.NewNotAvailable(s.spec.Pool, "is replacing the worker; retry")), Discard: why}
}

// send queues frames for the writer, in one piece. The caller holds mu.
func (s *Shared) send(o outgoing) {
	s.queue = append(s.queue, o)
	s.wake.Signal()
}

// sendSmall queues a frame without a payload worth mentioning. The caller holds mu.
func (s *Shared) sendSmall(p *pending, f *frame.Frame) {
	data, _ := frame.Append(nil, f)
	s.send(outgoing{encoded: data, call: p})
}

// giveUp ends the wait for an answer, unless that has just come.
func (s *Shared) giveUp(p *pending, why Reason, err *pool.Error) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case out := <-p.done: // it is sent under mu
		return out
	default:
	}
	p.given = why
	p.grace = time.AfterFunc(s.grace, func() { s.outstay(p) })
	s.sendSmall(nil, &frame.Frame{Kind: frame.Cancel, Generation: s.generation, ID: p.id})
	err.Sent = true // or it is on its way
	return Outcome{Service: time.Since(p.start), Err: err, Held: func(done func(Reason)) { s.hold(p, done) }}
}

// hold calls done once the worker is done with a call that was given up.
func (s *Shared) hold(p *pending, done func(Reason)) {
	s.mu.Lock()
	over, left := p.over, p.left
	p.held = done
	s.mu.Unlock()
	if over {
		done(left)
	}
}

// settle notes that the worker is done with a call that was given up, and returns what tells its caller. The caller
// holds mu, and calls that without it.
func (p *pending) settle(left Reason) (tell func()) {
	p.over, p.left = true, left
	p.grace.Stop()
	if held := p.held; held != nil {
		return func() { held(left) }
	}
	return func() {}
}

// outstay quarantines the worker for a call that outlived its grace: it takes no new ones, and ends when the others
// have.
func (s *Shared) outstay(p *pending) {
	s.mu.Lock()
	if p.over {
		s.mu.Unlock()
		return
	}
	p.stuck = true
	s.stuck++
	s.running--
	tell := p.settle(p.given)
	s.mu.Unlock()
	s.Discard(p.given)
	tell()
}
