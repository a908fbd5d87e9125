package worker

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// inbox is where the chunks of one stream wait for their caller. Credit bounds it, so the worker's only reader fills it
// without waiting for anybody.
type inbox struct {
	chunks [][]byte      // guarded by the worker's lock
	window frame.Window  // guarded by the worker's lock
	filled chan struct{} // chunks has some; room for one
}

// keep puts a chunk, which is the caller's own, into its call's inbox, where those of a call that was given up stay until
// its answer. The caller holds mu; the error is a breach of the protocol.
func (s *Shared) keep(f *frame.Frame, p *pending) *pool.Error {
	if !p.stream.window.Receive(f.Payload) {
		return s.sentError(pool.ResponseMismatch, "worker %s of pool %s sent more of a stream than it had credit for, so it is replaced",
			s.id, s.spec.Pool)
	}
	p.stream.chunks = append(p.stream.chunks, f.Payload)
	select {
	case p.stream.filled <- struct{}{}:
	default:
	}
	return nil
}

// receive is RoundTrip's wait for a call whose result comes in chunks: it hands them to the caller until the answer, and
// returns when that has all. Waiting for the worker has its own limit; waiting for the caller has only the call's.
func (s *Shared) receive(ctx context.Context, p *pending, c *Call) Outcome {
	sink, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	timer := time.NewTimer(time.Until(c.nextBy(p.start)))
	defer timer.Stop()
	for {
		select {
		case out := <-p.done:
			return s.finish(ctx, sink, p, c, out)
		case <-p.stream.filled:
			if !s.handOver(sink, p, c) {
				return s.refused(ctx, p, c)
			}
			timer.Reset(time.Until(c.nextBy(time.Now())))
		case <-timer.C:
			err := pool.NewIdleTimeout(s.spec.Pool, s.id, c.Command, c.Idle)
			if c.overdue(ctx) {
				err = pool.NewTaskTimeout(s.spec.Pool, s.id, c.Command, c.Deadline.Sub(p.start))
			}
			return s.finish(ctx, sink, p, c, s.giveUp(p, ReasonTimeout, err))
		case <-ctx.Done():
			return s.finish(ctx, sink, p, c, s.giveUp(p, ReasonCancelled, s.name(pool.NewCancelled(s.spec.Pool))))
		}
	}
}

// handOver gives the caller the chunks that have come, and the worker credit for those; false: the caller takes no more.
func (s *Shared) handOver(sink context.Context, p *pending, c *Call) bool {
	for chunk, some := s.nextChunk(p); some; chunk, some = s.nextChunk(p) {
		if c.Stream(sink, chunk) != nil || sink.Err() != nil {
			return false
		}
		s.giveBack(p, chunk)
	}
	return true
}

func (s *Shared) nextChunk(p *pending) (chunk []byte, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p.stream.chunks) == 0 {
		return nil, false
	}
	chunk, p.stream.chunks[0] = p.stream.chunks[0], nil
	p.stream.chunks = p.stream.chunks[1:]
	return chunk, true
}

// giveBack returns the credit of a chunk that the caller has taken. A call that is answered needs none.
func (s *Shared) giveBack(p *pending, chunk []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if credit := p.stream.window.Take(chunk); credit > 0 && s.calls[p.id] == p {
		s.sendSmall(nil, frame.NewCredit(s.generation, p.id, credit))
	}
}

// finish hands over what came ahead of an answer, be that an error. Of a call that was given up nothing more is handed over.
func (s *Shared) finish(ctx, sink context.Context, p *pending, c *Call, out Outcome) Outcome {
	if out.Held == nil && !s.handOver(sink, p, c) && out.Err == nil {
		out.Payload, out.Err = nil, s.untakenError(ctx, p, c)
	}
	return out
}

// refused ends a stream whose caller doesn't take it, although it may have been answered just now.
func (s *Shared) refused(ctx context.Context, p *pending, c *Call) Outcome {
	err, why := s.untakenError(ctx, p, c), ReasonCancelled
	if err.Type == pool.CommandTimeout {
		why = ReasonTimeout
	}
	out := s.giveUp(p, why, err)
	if out.Err == nil {
		out.Payload, out.Err = nil, err
	}
	return out
}

// untakenError is what a caller gets that doesn't take its stream: it gave up, or its time is over.
func (s *Shared) untakenError(ctx context.Context, p *pending, c *Call) *pool.Error {
	err := s.name(pool.NewCancelled(s.spec.Pool))
	if c.overdue(ctx) {
		err = pool.NewTaskTimeout(s.spec.Pool, s.id, c.Command, c.Deadline.Sub(p.start))
	}
	err.Sent = true
	return err
}
