package crew

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// vitals are what has run out of its time since a member last answered anything. The crew's lock guards them.
type vitals struct {
	missed int       // operations and pings
	of     int       // members, when the first of them did
	since  time.Time // when that was
}

// miss notes one more, with so many members there.
func (v *vitals) miss(members int, now time.Time) {
	if v.missed == 0 {
		v.of, v.since = members, now
	}
	v.missed++
}

// hung tells whether nobody can be said to work: as many missed as there are members, without an answer in between, and
// none is still at an operation of before (busy), of which nothing is known until its own time is over.
func (v *vitals) hung(busy []time.Time) bool {
	if v.missed == 0 || v.missed < v.of {
		return false
	}
	for _, since := range busy {
		if since.Before(v.since) {
			return false
		}
	}
	return true
}

// hear notes whether any member has ended an operation well. The caller holds mu.
func (c *Crew) hear() {
	for m := range c.members {
		if m.worker == nil {
			continue
		}
		if served := m.worker.Served(); served != m.beat.served {
			m.beat.served = served
			c.vitals = vitals{}
		}
	}
}

// missed notes why a member was ended, which is on the books still. The caller holds mu.
func (c *Crew) missed(why worker.Reason, now time.Time) {
	c.hear()
	if why == worker.ReasonTimeout || why == worker.ReasonHung {
		c.vitals.miss(len(c.members), now)
		signal(c.beats)
	}
}

// unhealthy returns the state that no member answers; nil: one does, or may. The caller holds mu.
func (c *Crew) unhealthy() *pool.Unhealthy {
	c.hear()
	var busy []time.Time
	for m := range c.members {
		if m.state == up && !m.beat.busySince.IsZero() {
			busy = append(busy, m.beat.busySince)
		}
	}
	if !c.vitals.hung(busy) {
		return nil
	}
	return pool.NewUnhealthy(c.vitals.missed, c.vitals.since)
}
