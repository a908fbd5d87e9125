package worker

import (
	"errors"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// write sends what is queued, until the worker has gone or nothing more is to be sent.
func (s *Shared) write() {
	defer close(s.written)
	for {
		next, ok := s.next()
		if !ok {
			return
		}
		data := next.encoded
		if len(next.ahead) > 0 {
			data = append(s.encoded(next.ahead...), data...)
		}
		n, err := s.requests.Write(data)
		if err != nil {
			s.unsent(next, n)
			return
		}
	}
}

// next waits for frames to be written; false: there will be none any more.
func (s *Shared) next() (outgoing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && !s.silent {
		s.wake.Wait()
	}
	if s.silent {
		return outgoing{}, false
	}
	next := s.queue[0]
	s.queue[0] = outgoing{} // a payload isn't kept by the queue's array
	s.queue = s.queue[1:]
	if next.call != nil {
		next.call.sent = true
	}
	return next, true
}

// unsent notes that nothing can be written any more. Whatever the reason, the reader finds the end of the worker, or
// calls find that no answer comes.
func (s *Shared) unsent(o outgoing, written int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
	if o.call != nil {
		o.call.sent = written > 0
	}
}

// read gives each answer to its call until the worker has ended, or has broken the protocol.
func (s *Shared) read() {
	for {
		var f frame.Frame
		if err := s.reader.Read(&f); err != nil {
			s.ended(err)
			return
		}
		if err := s.answered(&f); err != nil {
			s.broke(err)
			return
		}
	}
}

// answered hands an answer over, or drops it when its call was given up. The error is a breach of the protocol.
func (s *Shared) answered(f *frame.Frame) *pool.Error {
	s.mu.Lock()
	p := s.calls[f.ID] // which nobody but this goroutine takes out
	s.mu.Unlock()
	if p == nil || f.Generation != s.generation {
		return s.sentError(pool.ResponseMismatch, "worker %s of pool %s answered request %d of generation %d, which it hasn't, so it is replaced",
			s.id, s.spec.Pool, f.ID, f.Generation)
	}
	if f.Kind == frame.Chunk && p.stream != nil {
		s.reader.Own(f)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.keep(f, p)
	}
	out, err := s.outcome(f, p)
	if err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.calls, f.ID)
	tell := s.leave(p, out)
	s.mu.Unlock()
	tell()
	s.endIfAsked()
	return nil
}

// outcome judges a complete frame.
func (s *Shared) outcome(f *frame.Frame, p *pending) (out Outcome, broken *pool.Error) {
	out.Service = time.Since(p.start)
	if p.ping != (f.Kind == frame.Pong) {
		return out, s.sentError(pool.DecodeError, "worker %s of pool %s answered %s with a frame of kind %d, so it is replaced",
			s.id, s.spec.Pool, p.command, f.Kind)
	}
	switch {
	case f.Kind == frame.Pong:
	case f.Kind == frame.Result && len(f.Payload) > 0:
		s.reader.Own(f)
		out.Payload, out.Failed = f.Payload, pool.FailedOutputs(f.Meta)
	case f.Kind == frame.Error:
		var why Reason
		if out.Err, why = s.workerError(f.Payload); why != "" {
			return out, out.Err
		}
	default:
		return out, s.noReply(f)
	}
	return out, nil
}

// leave takes a call that has ended off the books and returns what tells its caller. The caller holds mu, and calls
// that without it.
func (s *Shared) leave(p *pending, out Outcome) (tell func()) {
	tell = func() {}
	switch {
	case p.ping:
		p.done <- out
		return tell
	case p.stuck: // it was told when its grace was over
		s.stuck--
		return tell
	case p.given != "":
		tell = p.settle(out.Discard)
	default:
		if out.Discard == "" {
			s.served.Add(1)
		}
		p.done <- out
	}
	s.running--
	return tell
}

// broke ends a worker that broke the protocol: nothing that it says can be trusted any more, so all its calls fail.
func (s *Shared) broke(err *pool.Error) {
	s.Kill(ReasonProtocol)
	s.failAll(func(*pending) Outcome { return Outcome{Err: err, Discard: ReasonProtocol} })
}

// ended explains the end of the stream to all calls.
func (s *Shared) ended(err error) {
	switch {
	case errors.Is(err, frame.ErrTooLarge):
		s.broke(s.sentError(pool.FrameTooLarge, "worker %s of pool %s answered with more than %d bytes, so it is replaced; return less",
			s.id, s.spec.Pool, s.maxPayload()))
	case errors.Is(err, frame.ErrMalformed):
		s.broke(s.sentError(pool.DecodeError, "worker %s of pool %s answered with something that isn't a frame, so it is replaced",
			s.id, s.spec.Pool))
	default:
		s.awaitExit()
		s.failAll(func(p *pending) Outcome {
			sent := 0
			if p.sent {
				sent = 1
			}
			return Outcome{Err: s.exitError(p.command, sent), Discard: ReasonExited}
		})
	}
}

// failAll ends every call, once it is known which of them can have reached the worker.
func (s *Shared) failAll(how func(*pending) Outcome) {
	s.hush()
	s.mu.Lock()
	tells := make([]func(), 0, len(s.calls))
	for id, p := range s.calls {
		out := how(p)
		out.Err = out.Err.With("pool", s.spec.Pool) // each its own
		out.Err.Sent = p.sent
		if p.sent {
			out.Service = time.Since(p.start)
		}
		delete(s.calls, id)
		tells = append(tells, s.leave(p, out))
	}
	s.mu.Unlock()
	for _, tell := range tells {
		tell()
	}
}

// hush ends the writer and waits until it has.
func (s *Shared) hush() {
	s.mu.Lock()
	s.silent = true
	s.wake.Signal()
	s.mu.Unlock()
	_ = s.requests.Close()
	<-s.written
}
