package worker

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// Ping asks a worker that has nothing to do whether it still answers, until deadline or until ctx ends. "": it does, or
// ctx has ended and it isn't known; else why it can't be used again.
func (w *Worker) Ping(ctx context.Context, deadline time.Time) Reason {
	if w.exited() {
		return ReasonExited
	}
	now := time.Now()
	w.request = frame.Frame{Kind: frame.Ping, Generation: w.generation}
	w.sent.n = 0
	w.sequence++
	var f frame.Frame
	err := w.exchange(ctx, &Call{Deadline: deadline}, now, &f)
	switch {
	case err == nil:
		w.answered = time.Now()
		return w.pong(&f)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return w.broken(err)
	case ctx.Err() != nil:
		return ReasonCancelled
	}
	return ReasonHung
}

// pong judges the answer to a ping.
func (w *Worker) pong(f *frame.Frame) Reason {
	if f.Kind != frame.Pong || f.ID != w.sequence || f.Generation != w.generation || w.reader.Buffered() > 0 {
		return ReasonProtocol
	}
	return ""
}

// broken tells an end of the process from an answer that isn't one.
func (w *Worker) broken(err error) Reason {
	if errors.Is(err, errUnsolicited) || errors.Is(err, frame.ErrMalformed) || errors.Is(err, frame.ErrTooLarge) {
		return ReasonProtocol
	}
	return ReasonExited
}

// Ping asks as Worker.Ping does, beside nothing: the worker has no call. Its answer comes as those of calls do.
func (s *Shared) Ping(ctx context.Context, deadline time.Time) Reason {
	p, refused := s.beginPing()
	if p == nil {
		return refused
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case out := <-p.done:
		return out.Discard
	case <-timer.C:
		return ReasonHung
	case <-ctx.Done():
		return ReasonCancelled
	}
}

// beginPing has a ping written. It isn't among those that hold up the worker's end.
func (s *Shared) beginPing() (*pending, Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.asked != nil:
		return nil, *s.asked
	case s.silent:
		return nil, ReasonExited
	}
	s.sequence++
	p := &pending{id: s.sequence, command: "ping", start: time.Now(), done: make(chan Outcome, 1), ping: true}
	s.calls[p.id] = p
	s.sendSmall(p, &frame.Frame{Kind: frame.Ping, Generation: s.generation, ID: p.id})
	return p, ""
}
