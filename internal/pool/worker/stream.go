package worker

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// stream is RoundTrip for a call whose result comes in chunks: it hands each to the caller before it reads the next, and
// gives the worker credit for what the caller has taken. So it holds one chunk at a time, and a worker that sent more than
// it has credit for would find its pipe full.
func (w *Worker) stream(ctx context.Context, c *Call, start time.Time) Outcome {
	sink, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	var window frame.Window
	var f frame.Frame
	first := *c
	first.Deadline = c.nextBy(start)
	err := w.exchange(ctx, &first, start, &f)
	for err == nil && w.isChunk(&f) {
		if c.Stream(sink, f.Payload) != nil || sink.Err() != nil {
			return w.untaken(ctx, c, start)
		}
		err = w.more(ctx, c, window.Take(f.Payload), &f)
	}
	if err != nil {
		return w.silent(ctx, c, w.failed(ctx, c, start, err))
	}
	w.answered = time.Now()
	return w.reply(&f, w.answered.Sub(start))
}

// nextBy is when a worker that is waited for since now has to have sent something.
func (c *Call) nextBy(now time.Time) time.Time {
	if by := now.Add(c.Idle); c.Idle > 0 && by.Before(c.Deadline) {
		return by
	}
	return c.Deadline
}

// isChunk tells whether a frame is one of the current stream's; whatever else there is, reply judges.
func (w *Worker) isChunk(f *frame.Frame) bool {
	return f.Kind == frame.Chunk && f.ID == w.sequence && f.Generation == w.generation
}

// more gives credit, if there is any to give, and reads the next frame.
func (w *Worker) more(ctx context.Context, c *Call, credit int, f *frame.Frame) error {
	now := time.Now()
	if err := w.watch.begin(ctx, c.nextBy(now), now); err != nil {
		return err
	}
	defer w.watch.done()
	if credit > 0 {
		// A worker that doesn't take it has ended, which the read tells, or has sent the end already.
		_ = w.writer.Write(frame.NewCredit(w.generation, w.sequence, credit))
	}
	return w.reader.Read(f)
}

// untaken ends a stream whose caller doesn't take it: it gave up, or took it so slowly that its time is over.
func (w *Worker) untaken(ctx context.Context, c *Call, start time.Time) Outcome {
	out := Outcome{Service: time.Since(start), Discard: ReasonCancelled, Err: w.name(pool.NewCancelled(w.spec.Pool))}
	if c.overdue(ctx) {
		out.Discard, out.Err = ReasonTimeout, pool.NewCommandTimeout(w.spec.Pool, w.id, c.Command, c.Deadline.Sub(start))
	}
	out.Err.Sent = true
	return out
}

// overdue tells whether the time of a call whose caller hasn't given up is over.
func (c *Call) overdue(ctx context.Context) bool {
	return ctx.Err() == nil && !time.Now().Before(c.Deadline)
}

// silent tells a timeout for want of the next chunk from that of the whole call.
func (w *Worker) silent(ctx context.Context, c *Call, out Outcome) Outcome {
	if out.Discard == ReasonTimeout && !c.overdue(ctx) {
		out.Err = pool.NewIdleTimeout(w.spec.Pool, w.id, c.Command, c.Idle)
		out.Err.Sent = w.sent.n > 0
	}
	return out
}
