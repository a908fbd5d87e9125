package slottest

import (
	"errors"
	"io"
	"net"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// Forget drops the programs that were sent, as a slot does that holds too many.
func (s *Slot) Forget() { s.set(func() { clear(s.programs) }) }

// Bodies returns how many programs were ever sent.
func (s *Slot) Bodies() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies
}

// Knows makes the slot's workers report these commands, and tells the router.
func (s *Slot) Knows(commands ...string) {
	s.set(func() { s.commands = commands })
	s.Report()
}

func (s *Slot) serveData(conn net.Conn, r *frame.Reader, w *frame.Writer) {
	s.set(func() { s.opened++ })
	for {
		var f frame.Frame
		if err := r.Read(&f); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				s.t.Logf("slot %s: data connection: %v", s.Name, err)
			}
			return
		}
		if f.Kind == frame.Program {
			s.set(func() { s.programs[string(f.Meta)] = string(f.Payload); s.bodies++ })
			continue
		}
		call, raw, held := s.note(&f)
		switch {
		case !held:
			e := pool.NewError(pool.SystemError, pool.ProgramNotHeld, "slot %s doesn't hold it", s.Name)
			if w.Write(&frame.Frame{Kind: frame.Error, ID: f.ID, Payload: encode(e)}) != nil {
				return
			}
		case raw != nil:
			raw(conn, call)
		case w.Write(s.run(call)) != nil:
			return
		}
	}
}

// note reads a request, and keeps it among the calls unless its program isn't held.
func (s *Slot) note(f *frame.Frame) (call Call, raw func(net.Conn, Call), held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := f.Call()
	fixed, held := s.programs[told.Hash]
	call = Call{
		ID: f.ID, Command: told.Command, Payload: string(f.Payload), Budget: f.Budget, Program: told.Hash, Fixed: fixed,
		Session: told.Session, ProgramID: told.Program, Affinity: told.Affinity, Idempotent: told.Idempotent,
		Revision: s.lastConfigLocked().Revision,
	}
	if held = held || told.Hash == ""; held {
		s.calls = append(s.calls, call)
	}
	return call, s.raw, held
}
