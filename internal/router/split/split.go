// Package split decides, request by request, which of them go to the canary: exactly, evenly, and without dice.
package split

import "sync/atomic"

// Whole is the weight that means every request; weights are hundredths of a percent.
const Whole = 10_000

// Scheduler is a Bresenham accumulator: of every Whole requests exactly weight are picked, evenly spread (10 % is
// every tenth). A weight that changes in mid-stream leaves the running total within one request of the sum of the
// weights that each request had. The zero value is ready; safe for concurrent use, and exact under it.
type Scheduler struct {
	owed atomic.Uint32 // share of a request owed to the canary, in 1/Whole; always below Whole
}

// Next reports whether the next request goes to the canary. Weight 0 never picks, Whole (or more) always does.
func (s *Scheduler) Next(weight uint32) bool {
	weight = min(weight, Whole)
	if weight == 0 {
		return false
	}
	for {
		owed := s.owed.Load()
		due := owed + weight
		pick := due >= Whole
		if pick {
			due -= Whole
		}
		if s.owed.CompareAndSwap(owed, due) {
			return pick
		}
	}
}
