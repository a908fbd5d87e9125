package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const (
	statusEvery = time.Second
	// statusGap keeps a burst of changes from becoming a burst of frames.
	statusGap = 20 * time.Millisecond
)

// control takes Configure, Cancel, Recall and Reset, and pushes Status, until the connection ends.
func (s *Server) control(ctx context.Context, p *peer) error {
	answers := make(chan *frame.Frame)
	ended := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		err := s.push(p, answers, ended)
		_ = p.conn.Close()
		written <- err
	}()
	err := s.readControl(ctx, p, answers, written)
	close(ended)
	if werr := <-written; err == nil {
		err = werr
	}
	return err
}

func (s *Server) readControl(ctx context.Context, p *peer, answers chan<- *frame.Frame, written chan error) error {
	for {
		var f frame.Frame
		if err := p.reader.Read(&f); err != nil {
			return err
		}
		var answer *frame.Frame
		var err error
		switch f.Kind {
		case frame.Configure:
			answer, err = s.configure(ctx, &f)
		case frame.Cancel:
			s.instances.cancel(p.session, f.ID)
			continue
		case frame.Recall:
			s.instances.recall(p.session, f.ID)
			continue
		case frame.Reset:
			s.slot.Reset()
			continue
		case frame.Ping:
			answer = &frame.Frame{Kind: frame.Pong, ID: f.ID}
		default:
			err = fmt.Errorf("a frame of kind %d on a control connection", f.Kind)
		}
		if err != nil {
			return err
		}
		select {
		case answers <- answer:
		case err := <-written:
			written <- err
			return err
		}
	}
}

func (s *Server) configure(ctx context.Context, f *frame.Frame) (*frame.Frame, error) {
	var cfg slotproto.Config
	if err := json.Unmarshal(f.Payload, &cfg); err != nil {
		return errorFrame(f.ID, pool.NewError(pool.RequestError, pool.InvalidPayload,
			"the configuration isn't one: %v", err).With("slot", s.slot.opt.Name), 0)
	}
	if failure := s.slot.Configure(ctx, cfg); failure != nil {
		return errorFrame(f.ID, failure, 0)
	}
	return &frame.Frame{Kind: frame.Result, ID: f.ID}, nil
}

// push is the connection's only writer.
func (s *Server) push(p *peer, answers <-chan *frame.Frame, ended <-chan struct{}) error {
	changed, cancel := s.slot.changes.listen()
	defer cancel()
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	due := time.NewTimer(0) // the first Status comes at once
	defer due.Stop()
	var last time.Time
	for {
		var err error
		select {
		case <-ended:
			return nil
		case answer := <-answers:
			if answer.Kind == frame.Result { // what is known of the slot when it has accepted is of what it accepted
				last, err = time.Now(), s.sendStatus(p)
			}
			err = errors.Join(err, p.send(answer))
		case <-changed:
			due.Reset(statusGap - min(statusGap, time.Since(last)))
		case <-due.C:
			last, err = time.Now(), s.sendStatus(p)
		case <-tick.C:
			err = s.sendStatus(p)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) sendStatus(p *peer) error {
	payload, err := json.Marshal(s.slot.Status())
	if err != nil {
		return err
	}
	return p.send(&frame.Frame{Kind: frame.Status, Payload: payload})
}
