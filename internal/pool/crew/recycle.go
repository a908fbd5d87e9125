package crew

import (
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// spread is by which part of its limit a member may be recycled earlier, so that those that started together, and are
// used alike, don't all go at the same time. A limit below 5 requests leaves no room for it.
const spread = 0.2

// earlier is a member's own limit; random is in [0, 1).
func earlier[T ~int64](limit T, random float64) T {
	return limit - T(float64(limit)*spread*random)
}

// wear is what makes a member worn, apart from the time.
type wear struct {
	random   float64
	requests int64
	stale    bool
	own      uint64 // bytes of memory that are its process group's alone; 0: unknown
	readyAt  time.Time
	idle     time.Time // since when; now: it isn't
}

// due tells why the member is to be recycled; "": it isn't yet, and will be at next if nothing happens (zero: never).
// A member that has served nothing isn't recycled for its memory: its successor would need as much.
func (w wear) due(r pool.Recycle, now time.Time) (why string, next time.Time) {
	switch {
	case w.stale:
		return "reset", next
	case r.MaxRequests > 0 && w.requests >= earlier(int64(r.MaxRequests), w.random):
		return "maxRequests", next
	case r.MaxMemory > 0 && w.own > r.MaxMemory && w.requests > 0:
		return "maxMemory", next
	}
	for _, limit := range []struct {
		why  string
		most time.Duration
		from time.Time
	}{{"maxAge", r.MaxAge, w.readyAt}, {"maxIdle", r.MaxIdle, w.idle}} {
		if limit.most <= 0 {
			continue
		}
		at := limit.from.Add(earlier(limit.most, w.random))
		if !at.After(now) {
			return limit.why, time.Time{}
		}
		next = sooner(next, at)
	}
	return "", next
}

// sooner is the first of two times; zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Reset has all members that there are recycled, those too that are starting.
func (c *Crew) Reset() {
	c.mu.Lock()
	for m := range c.members {
		m.stale = true
	}
	c.mu.Unlock()
	c.Poke()
}

// resting returns the idle members when it matters since when they are.
func (c *Crew) resting() map[*Member]time.Time {
	c.mu.Lock()
	matters := c.recycling.MaxIdle > 0
	c.mu.Unlock()
	if !matters {
		return nil
	}
	return c.line.Resting()
}

// wornOut returns the members that are up and to be recycled, the oldest first, and when the next one will be. What
// a checkin can't see, as it has no time to look, it marks. The caller holds mu.
func (c *Crew) wornOut(resting map[*Member]time.Time, now time.Time) (worn []*Member, next time.Time) {
	for m := range c.members {
		if m.state != up {
			continue
		}
		since, idle := resting[m]
		if !idle {
			since = now // at the earliest: checkins don't make a crew plan
		}
		why, at := c.wearOf(m, since).due(c.recycling, now)
		m.worn.Store(why != "" && why != "maxIdle")
		if why != "" {
			worn = append(worn, m)
		}
		next = sooner(next, at)
	}
	slices.SortFunc(worn, func(a, b *Member) int { return a.readyAt.Compare(b.readyAt) })
	return worn, next
}

// wearOf a member; the caller holds mu.
func (c *Crew) wearOf(m *Member, idle time.Time) wear {
	return wear{random: m.random, requests: m.requests.Load(), stale: m.stale, own: m.usage.Own(), readyAt: m.readyAt, idle: idle}
}

// recycleIdle ends up to n of the worn members, those that are idle.
func (c *Crew) recycleIdle(worn []*Member, n int) {
	for _, m := range worn {
		if n == 0 {
			return
		}
		if !c.line.Withdraw(m) {
			continue // busy: it ends at its checkin
		}
		if !c.recycle(m) { // another one has gone since the plan was made
			c.offer(m)
			c.withdrawDead(m)
			return
		}
		n--
	}
}

// isWorn is for checkins: it takes no lock.
func (c *Crew) isWorn(m *Member) bool {
	most := c.maxRequests.Load()
	return m.worn.Load() || (most > 0 && m.requests.Load() >= earlier(most, m.random))
}

// recycle ends a worn member that nobody else has, and reports whether it did: one that has served all the requests
// that it may is ended in any case, another one if those that remain are enough. Else it serves on until they are.
func (c *Crew) recycle(m *Member) bool {
	c.mu.Lock()
	most := int64(c.recycling.MaxRequests)
	goes := (most > 0 && m.requests.Load() >= most) || c.census().spare() > 0
	if goes {
		m.state = ending
	}
	c.mu.Unlock()
	if goes {
		m.worker.Discard(worker.ReasonRecycled)
		signal(c.changed)
	} else if !m.worn.Swap(true) {
		c.Poke() // to start a substitute
	}
	return goes
}
