package crew

import (
	"context"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// What follows is for members that serve several requests at the same time: their pool hands out places in them, and
// takes those back with Return. A member that is idle, as its Line tells the crew, has nobody at any of its places.

// Share runs one operation on a member beside others that have a place in it.
func (m *Member) Share(ctx context.Context, c worker.Call) worker.Outcome {
	out := m.worker.RoundTrip(ctx, c)
	if out.Service > 0 {
		m.requests.Add(1)
	}
	switch {
	case out.Err == nil:
		m.shared.Store(0)
	case out.Err.Infrastructure() && out.Err.Type != pool.CommandTimeout: // which is cancelled, and the worker shows how it takes that
		if m.shared.Add(1) >= maxFailures && out.Discard == "" {
			out.Discard = reasonFailing
		}
	}
	return out
}

// Leaving tells whether the member's process has ended, or is to end when its last operation has: it takes no more.
func (m *Member) Leaving() bool {
	if _, asked := m.worker.Ending(); asked {
		return true
	}
	select {
	case <-m.worker.Exited():
		return true
	default:
		return false
	}
}

// Spent reports whether a member that has so many operations running, at least one, may take no other before they
// have ended: because it is to be recycled, or would serve more requests than it may.
func (c *Crew) Spent(m *Member, running int) bool {
	most := c.maxRequests.Load()
	return m.worn.Load() || (most > 0 && m.requests.Load()+int64(running) >= earlier(most, m.random))
}

// Return ends the use of one place in a member, and reports whether the member serves on. Else it ends when its last
// operation has, as it can't be used again (discard) or isn't needed any more.
func (c *Crew) Return(m *Member, discard worker.Reason) (stays bool) {
	switch {
	case discard != "":
		c.end(m, discard)
	case m.Leaving():
	case c.tooMany.Load() && c.retire(m):
	case c.isWorn(m) && c.recycle(m):
	default:
		return true
	}
	return false
}

// Returned must be called when the Line has the place of a member that serves on; see offer and withdrawDead.
func (c *Crew) Returned(m *Member) {
	if c.tooMany.Load() {
		c.Poke()
	}
	c.withdrawDead(m)
}
