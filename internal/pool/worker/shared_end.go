package worker

import "syscall"

// Discard has the worker take no new calls, and end in the way that fits the reason when those that run have ended.
func (s *Shared) Discard(r Reason) {
	if r == ReasonExited {
		s.Worker.Discard(r)
		return
	}
	s.mu.Lock()
	if s.asked == nil {
		s.asked = &r
	}
	s.mu.Unlock()
	s.endIfAsked()
}

// Ending tells why the worker was asked to end; false while nobody has asked. It may have calls to finish first.
func (s *Shared) Ending() (Reason, bool) {
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	if asked != nil {
		return *asked, true
	}
	return s.Worker.Ending()
}

// endIfAsked ends a worker that was asked to end and that runs nothing that anybody waits for. A second time it does
// nothing.
func (s *Shared) endIfAsked() {
	s.mu.Lock()
	asked, stuck := s.asked, s.stuck > 0
	ready := asked != nil && s.running == 0
	s.mu.Unlock()
	if !ready {
		return
	}
	switch r := *asked; {
	case stuck || r == ReasonTimeout || r == ReasonCancelled:
		s.descend(r, []rung{
			{func() { s.proc.signalGroup(syscall.SIGTERM) }, termGrace},
			{func() { s.proc.signalGroup(syscall.SIGKILL) }, 0},
		})
	default:
		s.Worker.Discard(r)
	}
}
