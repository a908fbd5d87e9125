package slotclient

import (
	"errors"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// maxSent is how many programs are remembered as sent to a slot: more than it holds, so that it is the slot which
// forgets first, and says so.
const maxSent = 4096

// ahead returns what goes ahead of a request of that program: the program itself unless the slot, whose container may
// have restarted since, was sent it in this session.
func (c *Client) ahead(s *session, p *pool.Program) []*frame.Frame {
	if p == nil {
		return nil
	}
	c.mu.Lock()
	_, sent := s.programs.Get(p.Hash)
	if !sent {
		s.programs.Put(p.Hash, struct{}{}, 1)
	}
	c.mu.Unlock()
	if sent {
		return nil
	}
	return introduce(p)
}

func introduce(p *pool.Program) []*frame.Frame {
	return []*frame.Frame{{Kind: frame.Program, Meta: []byte(p.Hash), Payload: p.Body}}
}

// notHeld: the slot has dropped a program, or hasn't read it yet on another connection. It ran nothing.
func notHeld(err error) bool {
	if err == nil {
		return false
	}
	var e *pool.Error
	return errors.As(err, &e) && e.Type == pool.ProgramNotHeld && !e.Sent
}
