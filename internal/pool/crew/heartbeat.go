package crew

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// looksPerBeat is how often in a heartbeat members are looked at: one is sent its ping so much later at most.
const looksPerBeat = 4

// beat is what a member's heart has shown. The crew's lock guards it.
type beat struct {
	served    uint64    // operations that had ended well when it was last looked at
	requests  int64     // operations that had ended in whatever way
	busySince time.Time // since when it has been seen at the same operation; zero: it hasn't
	pinged    time.Time // when it was last sent a ping
	lent      bool      // it is being pinged, and isn't idle meanwhile
}

// beating looks at members' hearts until ctx ends: every so often, when one has missed a beat, and after that when one
// comes. Requests take no part in it.
func (c *Crew) beating(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.beats:
		case <-timer.C:
		}
		heartbeat, due := c.listen(time.Now())
		for _, m := range due {
			c.ping(ctx, m, heartbeat.Patience)
		}
		timer.Reset(heartbeat.Every / looksPerBeat)
	}
}

// listen notes what members did since it was last called, and returns those that are to show that they can serve. While
// requests wait there are none: whoever is idle is theirs.
func (c *Crew) listen(now time.Time) (h pool.Heartbeat, due []*Member) {
	resting, waiting := c.line.Resting(), c.line.Demand().Waiting
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hear()
	h = c.heartbeat
	for m := range c.members {
		since, idle := resting[m]
		m.beat.watch(m.requests.Load(), idle || m.state != up || m.beat.lent, now)
		if idle && waiting == 0 && c.isDue(m, since, now) {
			due = append(due, m)
		}
	}
	return h, due
}

// watch notes since when the member has been at one operation.
func (b *beat) watch(requests int64, idle bool, now time.Time) {
	switch {
	case idle:
		b.busySince = time.Time{}
	case b.busySince.IsZero() || requests != b.requests:
		b.busySince = now
	}
	b.requests = requests
}

// isDue tells whether an idle member is to be pinged: as nothing was heard of it for a heartbeat, or of anyone since some
// missed theirs. The caller holds mu.
func (c *Crew) isDue(m *Member, idleSince, now time.Time) bool {
	if c.vitals.missed > 0 && m.beat.pinged.Before(c.vitals.since) {
		return true
	}
	return !now.Before(later(idleSince, m.beat.pinged).Add(c.heartbeat.Every))
}

// ping takes the member out of its Line, if it is idle still, and asks it in the background.
func (c *Crew) ping(ctx context.Context, m *Member, patience time.Duration) {
	c.mu.Lock()
	m.beat.lent, m.beat.pinged = true, time.Now()
	c.mu.Unlock()
	if !c.line.Lend(m) {
		c.mu.Lock()
		m.beat.lent = false
		c.mu.Unlock()
		return
	}
	ctx = context.WithoutCancel(ctx) // an answer that is under way is waited for: half a ping makes a worker useless
	c.running.Go(func() { c.pinged(m, m.worker.Ping(ctx, time.Now().Add(patience)), patience) })
}

// pinged gives a member back, as if it had been idle all the time; or ends it, as it can't be used again (found).
func (c *Crew) pinged(m *Member, found worker.Reason, patience time.Duration) {
	if found == worker.ReasonHung {
		c.log.Warn("worker is replaced, as it had nothing to do and didn't answer", "worker", m.worker.ID(), "after", patience.String())
	}
	c.mu.Lock()
	m.beat.lent = false
	closed := c.closed
	recovered := found == "" && c.vitals.missed > 0
	if recovered {
		c.vitals = vitals{}
	}
	c.mu.Unlock()
	switch {
	case found != "":
		c.end(m, found)
	case closed:
		c.end(m, worker.ReasonClosed)
	case c.tooMany.Load() && c.retire(m):
	case c.isWorn(m) && c.recycle(m):
	default:
		if !c.line.Restore(m) {
			c.line.Offer(m)
		}
		c.Returned(m)
		if m.worn.Load() { // a plan that would have recycled it may have looked for it just before
			c.Poke()
		}
	}
	if recovered {
		signal(c.changed)
	}
}
