package slottest

import "github.com/dspex/workerpool-operator/internal/frame"

// servePings answers a router that looks whether requests would be answered.
func (s *Slot) servePings(r *frame.Reader, w *frame.Writer) {
	for {
		var f frame.Frame
		if err := r.Read(&f); err != nil {
			return
		}
		s.mu.Lock()
		deaf := s.unanswering
		s.mu.Unlock()
		if !deaf && w.Write(&frame.Frame{Kind: frame.Pong, ID: f.ID}) != nil {
			return
		}
	}
}

// Quiet makes the slot report nothing, or again, on its control connections.
func (s *Slot) Quiet(quiet bool) { s.set(func() { s.quiet = quiet }) }

// Unanswering makes the slot answer no probes, or again: as if its data path hung.
func (s *Slot) Unanswering(unanswering bool) { s.set(func() { s.unanswering = unanswering }) }
