package crew

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Member is a worker of a crew.
type Member struct {
	random    float64      // in [0, 1), its own for its life: how much earlier than others it is recycled
	requests  atomic.Int64 // that reached its process
	worn      atomic.Bool  // it is to be recycled as soon as others can do without it
	idle      bool         // it is in its Line's Idle; guarded by that's owner
	idleSince time.Time    // likewise
	freeSince time.Time    // whoever has it checked out
	failures  int          // in a row; whoever has it checked out
	shared    atomic.Int32 // failures in a row of a member that several callers have checked out

	// Guarded by the crew's lock.
	worker    Worker // nil until its process is started
	state     state
	offered   bool // it has been brought to the Line since it is up
	crowd     int  // how many started at the same time, itself included, at the most
	startedAt time.Time
	readyAt   time.Time
	usage     worker.Usage // as it was last read
	stale     bool         // a reset came after its start
	beat      beat
}

type state uint8

const (
	starting state = iota
	up             // idle or busy, as its Line knows
	ending
)

// maxFailures is how many failures of the infrastructure in a row end a worker that could be used again after each.
// Most such failures (a timeout, a crash, a broken frame) end it at once; these are the errors of its own machinery
// that it reports in good form.
const maxFailures = 3

// reasonFailing is why it is ended then.
const reasonFailing worker.Reason = "failing"

// ID is its worker's, unique within its pool's slot. For members that have been offered.
func (m *Member) ID() string { return m.worker.ID() }

// RoundTrip runs one operation on a member that the caller has checked out. The call's Start is required.
func (m *Member) RoundTrip(ctx context.Context, c worker.Call) worker.Outcome {
	out := m.worker.RoundTrip(ctx, c)
	m.freeSince = c.Start.Add(out.Service)
	if out.Service > 0 {
		m.requests.Add(1)
	}
	switch {
	case out.Err == nil:
		m.failures = 0
	case out.Err.Infrastructure():
		m.failures++
	}
	if m.failures >= maxFailures && out.Discard == "" {
		out.Discard = reasonFailing
	}
	return out
}

// FreeSince is when its last operation ended; now, when it has had none. For whoever has it checked out.
func (m *Member) FreeSince() time.Time {
	if m.freeSince.IsZero() {
		return time.Now()
	}
	return m.freeSince
}
