package slot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/guard"
)

// requestFlags are those that a Request from the router may have.
const requestFlags = frame.FlagProgram | frame.FlagContext | frame.FlagBatch | frame.FlagStream | frame.FlagAffinity | frame.FlagIdempotent

// data serves one request at a time until the connection ends. A request's program may come just ahead of it.
func (s *Server) data(ctx context.Context, p *peer) error {
	var ahead *pool.Program
	for {
		var f frame.Frame
		if err := p.reader.Read(&f); err != nil {
			if errors.Is(err, frame.ErrTooLarge) {
				return errors.Join(err, s.refuse(p, err))
			}
			return err
		}
		if f.Kind == frame.Program && f.Flags == 0 {
			p.reader.Own(&f)
			ahead = s.programs.keep(string(f.Meta), f.Payload)
			continue
		}
		if f.Kind == frame.Ping && f.Flags == 0 {
			if err := s.pong(p, f.ID); err != nil {
				return err
			}
			continue
		}
		if f.Kind == frame.Credit && f.Flags == 0 { // of a stream that has ended: it and the answer passed each other
			continue
		}
		if f.Kind != frame.Request || f.Flags&^requestFlags != 0 {
			return fmt.Errorf("a frame of kind %d with flags %#x on a data connection", f.Kind, f.Flags)
		}
		reply, err := s.serve(ctx, p, &f, ahead)
		if err != nil {
			return err
		}
		ahead = nil
		if err := p.send(reply); err != nil {
			return err
		}
	}
}

// pong answers a router that wants to know whether requests would be: it goes the way of one up to the pool.
func (s *Server) pong(p *peer, id uint64) error {
	if e, err := s.slot.enter(); err == nil {
		e.leave()
	}
	return p.send(&frame.Frame{Kind: frame.Pong, ID: id})
}

// refuse answers a request that can't be read; the stream is out of step after it.
func (s *Server) refuse(p *peer, reason error) error {
	f, err := errorFrame(0, pool.NewError(pool.RequestError, pool.FrameTooLarge,
		"the slot refused the request: %v; send less, or a reference to the data", reason).With("slot", s.slot.opt.Name), 0)
	if err != nil {
		return err
	}
	return p.send(f)
}

// serve runs one request and returns its answer. ahead: the program that came ahead of it; nil: none did.
func (s *Server) serve(ctx context.Context, p *peer, f *frame.Frame, ahead *pool.Program) (*frame.Frame, error) {
	call := f.Call()
	affinity, err := affinityOf(&call)
	if err != nil {
		return nil, err
	}
	program, held := s.programs.find(call.Hash, ahead)
	if !held {
		return errorFrame(f.ID, pool.NewError(pool.SystemError, pool.ProgramNotHeld,
			"slot %s doesn't hold the program that the request names", s.slot.opt.Name).With("slot", s.slot.opt.Name), 0)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	recall := make(chan struct{})
	end, ok := s.instances.begin(p.session, f.ID, stops{cancel: cancel, recall: sync.OnceFunc(func() { close(recall) })})
	if !ok {
		return errorFrame(f.ID, pool.NewError(pool.ResourceError, pool.NotAvailable,
			"slot %s has lost the router's control connection, and so runs nothing more of this connection; open another",
			s.slot.opt.Name).With("slot", s.slot.opt.Name), 0)
	}
	defer end()
	if call.Stream {
		p.reader.Own(f) // it is read from meanwhile
	}
	req := pool.Request{
		ID: f.ID, Command: call.Command, Payload: f.Payload, Program: program, Session: call.Session, ProgramID: call.Program,
		Batch: call.Batch, Affinity: affinity, Idle: call.Idle, Recall: recall,
	}
	if call.Idempotent {
		ctx = guard.Idempotent(ctx)
	}
	if f.Budget > 0 {
		req.Deadline = time.Now().Add(f.Budget)
	}
	if call.Stream {
		return s.stream(ctx, cancel, p, req)
	}
	reply, failure := s.slot.Do(ctx, req)
	return answer(f.ID, reply, failure)
}

// answer is the last frame of a request.
func answer(id uint64, reply pool.Reply, failure *pool.Error) (*frame.Frame, error) {
	if failure != nil {
		return errorFrame(id, failure, reply.Service)
	}
	return &frame.Frame{Kind: frame.Result, ID: id, Budget: reply.Service, Meta: []byte(reply.Failed), Payload: reply.Payload}, nil
}

// affinityOf reads what a call says of the worker that it wants: its session's.
func affinityOf(call *frame.Call) (pool.Affinity, error) {
	mode := pool.AffinityMode(call.Affinity)
	switch {
	case mode == pool.AffinityNone:
		return pool.Affinity{}, nil
	case !mode.Known():
		return pool.Affinity{}, fmt.Errorf("a request with affinity %q", mode)
	case call.Session == "":
		return pool.Affinity{}, fmt.Errorf("a request with affinity %s and without a session", mode)
	}
	return pool.Affinity{Key: call.Session, Mode: mode}, nil
}
