package worker

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// Call is one operation for a worker.
type Call struct {
	Command string
	Payload []byte
	Program *pool.Program // nil: a plain command
	// Session and ProgramID are for the handler to see.
	Session, ProgramID string
	Batch              bool          // see pool.Request
	Stream             pool.Stream   // see pool.Request
	Idle               time.Duration // see pool.Request

	Start    time.Time // now; zero: the worker looks at the clock itself
	Deadline time.Time // required: the worker is given up at it
}

// CallOf is a request's call. start as in Call.
func CallOf(req *pool.Request, start, deadline time.Time) Call {
	return Call{
		Command: req.Command, Payload: req.Payload, Program: req.Program, Session: req.Session, ProgramID: req.ProgramID,
		Batch: req.Batch, Stream: req.Stream, Idle: req.Idle, Start: start, Deadline: deadline,
	}
}

// Outcome is how a Call ended.
type Outcome struct {
	Payload []byte        // the caller's to keep
	Service time.Duration // from first byte sent to last byte received; 0: never sent
	Failed  pool.Type     // see pool.Reply
	Err     *pool.Error
	// Discard is why the worker can't be used again; empty: it can. A worker is reusable only after a complete
	// frame with the request's id and the worker's generation, with nothing more behind it.
	Discard Reason
	// Held, if it isn't nil, means that the caller has its outcome and the worker isn't done with the call yet. The call
	// keeps its place in the worker until done is called, once, with what is to be discarded then. Only a Shared worker
	// holds calls.
	Held func(done func(Reason))
}

// Retriable reports whether another worker may run the same request: this one failed before any byte of it had
// been sent.
func (o *Outcome) Retriable() bool { return o.Err != nil && o.Discard != "" && !o.Err.Sent }

// RoundTrip sends one request and reads its reply, in the caller's own goroutine. It returns at the deadline or
// soon after ctx ends, whatever the worker does.
func (w *Worker) RoundTrip(ctx context.Context, c Call) Outcome {
	start := c.Start
	if start.IsZero() {
		start = time.Now()
	}
	meta := c.frame()
	w.request = frame.Frame{
		Kind: frame.Request, Flags: meta.Flags(), Generation: w.generation, Budget: c.Deadline.Sub(start), Meta: meta.Meta(),
	}
	if out := w.refuse(ctx, &c, start); out != nil {
		return *out
	}
	w.sent.n = 0
	w.sequence++
	if c.Stream != nil {
		return w.stream(ctx, &c, start)
	}
	var f frame.Frame
	if err := w.exchange(ctx, &c, start, &f); err != nil {
		return w.failed(ctx, &c, start, err)
	}
	w.answered = time.Now()
	return w.reply(&f, w.answered.Sub(start))
}

// refuse ends calls that must not reach the worker.
func (w *Worker) refuse(ctx context.Context, c *Call, now time.Time) *Outcome {
	switch {
	case ctx.Err() != nil:
		return &Outcome{Err: w.name(pool.NewCancelled(w.spec.Pool))}
	case !c.Deadline.After(now):
		return &Outcome{Err: pool.NewDeadlineExceeded(w.spec.Pool)}
	case c.tooLarge(w.maxPayload(), w.request.Meta):
		return &Outcome{Err: w.tooLargeError(c)}
	case w.exited():
		return &Outcome{Err: w.exitError(c.Command, 0), Discard: ReasonExited}
	}
	return nil
}

func (w *Worker) maxPayload() int {
	return w.spec.maxPayload()
}

// rest is how long a worker must have been idle for its pipe to be looked at before it is used. What one writes unasked
// just after its reply, and behind the look at what the reader has buffered then, shows by its id instead of a reply.
const rest = 100 * time.Microsecond

// exchange writes the request and reads one frame. A worker that has written something while it was idle is sent nothing.
func (w *Worker) exchange(ctx context.Context, c *Call, start time.Time, f *frame.Frame) error {
	if w.reader.Buffered() > 0 {
		return errUnsolicited
	}
	if err := w.memory.begin(); err != nil {
		return err
	}
	defer w.memory.end()
	if err := w.watch.begin(ctx, c.Deadline, start); err != nil {
		return err
	}
	if c.Program != nil {
		w.ahead = w.introduce(c.Program)
	}
	w.request.ID, w.request.Payload = w.sequence, c.Payload
	w.memory.put(&w.request)
	w.replyReader.ask, w.replyReader.look = w.ask, start.Sub(w.answered) > rest
	err := w.reader.Read(f)
	w.watch.done()
	w.replyReader.ask = nil
	w.ahead, w.request.Payload = nil, nil // an idle worker holds no memory of its callers'
	return err
}

// sendRequest writes what exchange has prepared.
func (w *Worker) sendRequest() error {
	return w.writer.Write(append(w.ahead, &w.request)...)
}

// reply judges a complete frame.
func (w *Worker) reply(f *frame.Frame, service time.Duration) Outcome {
	out := Outcome{Service: service}
	if f.ID != w.sequence || f.Generation != w.generation {
		out.Discard = ReasonProtocol
		out.Err = w.sentError(pool.ResponseMismatch, "worker %s of pool %s answered request %d of generation %d instead of %d of %d, so it is replaced",
			w.id, w.spec.Pool, f.ID, f.Generation, w.sequence, w.generation)
		return out
	}
	switch {
	case f.Kind == frame.Result && len(f.Payload) > 0:
		w.reader.Own(f)
		out.Payload, out.Failed = f.Payload, pool.FailedOutputs(f.Meta)
	case f.Kind == frame.Error:
		out.Err, out.Discard = w.workerError(f.Payload)
	default:
		out.Err, out.Discard = w.noReply(f), ReasonProtocol
	}
	if w.reader.Buffered() > 0 {
		out.Discard = ReasonProtocol
	}
	if out.Discard == "" {
		w.served.Add(1)
	}
	return out
}

// noReply says why a frame is neither a Result nor an Error.
func (w *Worker) noReply(f *frame.Frame) *pool.Error {
	if f.Kind == frame.Result {
		return w.sentError(pool.DecodeError, "worker %s of pool %s answered with an empty result, so it is replaced", w.id, w.spec.Pool)
	}
	return w.sentError(pool.DecodeError, "worker %s of pool %s answered with a frame of kind %d, so it is replaced",
		w.id, w.spec.Pool, f.Kind)
}

// workerError decodes an Error frame; all four parts must be there.
func (w *Worker) workerError(payload []byte) (*pool.Error, Reason) {
	var e pool.Error
	if err := json.Unmarshal(payload, &e); err != nil || e.Category == "" || e.Type == "" || e.Message == "" || e.Context == nil {
		return w.sentError(pool.DecodeError, "worker %s of pool %s answered with an error that can't be read, so it is replaced",
			w.id, w.spec.Pool), ReasonProtocol
	}
	e.Sent = true
	return w.name(&e), ""
}

// failed explains a round trip that ended without a complete frame.
func (w *Worker) failed(ctx context.Context, c *Call, start time.Time, err error) Outcome {
	out := Outcome{}
	if w.sent.n > 0 {
		out.Service = time.Since(start)
	}
	switch {
	case errors.Is(err, errUnsolicited):
		out.Discard = ReasonProtocol
		out.Err = w.name(pool.NewError(pool.CommunicationError, pool.ResponseMismatch,
			"worker %s of pool %s wrote to its protocol pipe while it had nothing to do, so it is replaced", w.id, w.spec.Pool))
	case errors.Is(err, frame.ErrTooLarge):
		out.Discard = ReasonProtocol
		out.Err = w.sentError(pool.FrameTooLarge, "worker %s of pool %s answered with more than %d bytes, so it is replaced; return less",
			w.id, w.spec.Pool, w.maxPayload())
	case errors.Is(err, frame.ErrMalformed):
		out.Discard = ReasonProtocol
		out.Err = w.sentError(pool.DecodeError, "worker %s of pool %s answered with something that isn't a frame, so it is replaced",
			w.id, w.spec.Pool)
	case !errors.Is(err, os.ErrDeadlineExceeded) || w.exited():
		out.Discard = ReasonExited
		w.awaitExit()
		out.Err = w.exitError(c.Command, w.sent.n)
	case ctx.Err() != nil:
		out.Discard = ReasonCancelled
		out.Err = w.name(pool.NewCancelled(w.spec.Pool))
		w.logStack(c.Command, 0)
	default:
		out.Discard = ReasonTimeout
		out.Err = pool.NewCommandTimeout(w.spec.Pool, w.id, c.Command, c.Deadline.Sub(start)).With("stack", w.stack(0))
	}
	out.Err.Sent = w.sent.n > 0
	return out
}

// exitError says how the process ended. It has ended.
func (w *Worker) exitError(command string, sent int) *pool.Error {
	if r := w.ending.Load(); r != nil && *r == ReasonClosed {
		way := "ended its workers before the operation had begun; retry"
		if sent > 0 {
			way = "ended its workers before the operation had finished, which may have had an effect; raise spec.timeouts.drain"
		}
		e := w.name(pool.NewNotAvailable(w.spec.Pool, way))
		e.Sent = sent > 0
		return e
	}
	exit := w.Exit()
	if exit.Shortage != nil {
		return w.shortageError(*exit.Shortage, command, sent)
	}
	if exit.Overfill != nil {
		return w.overfillError(*exit.Overfill, command, sent)
	}
	e := w.sentError(pool.PortExited, "worker %s of pool %s %s during command %s and is replaced; its last output is in the slot's log",
		w.id, w.spec.Pool, exit, command)
	if exit.Signal != 0 {
		e.Context["signal"] = unix.SignalName(exit.Signal)
	} else {
		e.Context["exit_status"] = exit.Code
	}
	e.Context["oom"] = exit.OOM
	e.Sent = sent > 0
	return e
}

// shortageError tells what the memory guard did to the worker, and why.
func (w *Worker) shortageError(s Shortage, command string, sent int) *pool.Error {
	e := w.sentError(pool.PortExited, "worker %s of pool %s was ended during command %s and is replaced: it had %d MiB, the most of all, "+
		"when its container had %d MiB in use of %d; have the command take less memory, or raise spec.worker.resources.limits.memory",
		w.id, w.spec.Pool, command, s.Own>>20, s.Used>>20, s.Limit>>20)
	e.Context["signal"], e.Context["oom"] = unix.SignalName(unix.SIGKILL), true
	e.Context["memory_bytes"], e.Context["container_bytes"], e.Context["limit_bytes"] = s.Own, s.Used, s.Limit
	e.Sent = sent > 0
	return e
}

// overfillError tells what the files' guard did to the worker, and why.
func (w *Worker) overfillError(o Overfill, command string, sent int) *pool.Error {
	e := w.sentError(pool.PortExited, "worker %s of pool %s was ended during command %s and is replaced: it had %d MiB in files below /tmp, the most of all, "+
		"when the slot's workers had %d MiB of %d there; have the command remove what it doesn't need, or raise spec.worker.tmp.sizeLimit "+
		"(and spec.worker.resources.limits.ephemeral-storage, if that is set)",
		w.id, w.spec.Pool, command, o.Own>>20, o.Used>>20, o.Limit>>20)
	e.Context["signal"], e.Context["oom"] = unix.SignalName(unix.SIGKILL), false
	e.Context["own_bytes"], e.Context["tmp_bytes"], e.Context["limit_bytes"] = o.Own, o.Used, o.Limit
	e.Sent = sent > 0
	return e
}

func (w *Worker) sentError(t pool.Type, format string, args ...any) *pool.Error {
	e := w.name(pool.NewError(pool.CommunicationError, t, format, args...))
	e.Sent = true
	return e
}

// name adds which worker of which pool to an error's context.
func (w *Worker) name(e *pool.Error) *pool.Error {
	return e.With("pool", w.spec.Pool).With("worker", w.id)
}

func (w *Worker) exited() bool {
	select {
	case <-w.proc.done:
		return true
	default:
		return false
	}
}

// awaitExit waits for the status of a worker whose pipe has ended; one that closed it but lives on is killed.
func (w *Worker) awaitExit() {
	const natural = time.Second
	timer := time.NewTimer(natural)
	defer timer.Stop()
	select {
	case <-w.proc.done:
	case <-timer.C:
		w.Kill(ReasonProtocol)
		<-w.proc.done
	}
}

func (w *Worker) setDeadlines(t time.Time) error {
	return errors.Join(w.requests.SetWriteDeadline(t), w.replies.SetReadDeadline(t))
}
