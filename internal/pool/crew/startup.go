package crew

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// startup returns how starts get on; nil: none is under way, and no member is missing. The caller holds mu.
func (c *Crew) startup() *pool.Startup {
	var oldest *Member
	for m := range c.members {
		if m.state == starting && (oldest == nil || m.startedAt.Before(oldest.startedAt)) {
			oldest = m
		}
	}
	s := &pool.Startup{Limit: cmp.Or(c.startLimit, worker.DefaultInitTimeout)}
	if oldest == nil && c.census().missing() == 0 {
		return nil
	}
	s.Pace = c.pace.text(c.boot.failing)
	if oldest != nil {
		s.Since = oldest.startedAt
		if oldest.worker != nil {
			s.Line = oldest.worker.Said()
		}
	}
	return s
}

// failed drops a member that never got ready.
func (c *Crew) failed(m *Member, err error) {
	boot := worker.BootError{Message: err.Error()}
	if b := (*worker.BootError)(nil); errors.As(err, &b) {
		boot = *b
	}
	c.mu.Lock()
	c.remove(m)
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.exits[string(worker.ReasonBoot)]++
	crowded := boot.Crowd != "" && m.crowd > 1
	if crowded {
		c.pace.slower(m.crowd, boot.Crowd, m.startedAt, time.Now())
	}
	attempts, next := c.bootFailed(failure{err: boot, started: m.startedAt, crowded: crowded})
	pace := c.pace.text(true)
	c.mu.Unlock()
	c.log.Error("worker failed to start", "reason", boot.Message, "attempts", attempts, "next", next, "pace", pace)
}

// diedYoung counts a member that ended by itself as soon as it was ready as a failed start, if it has done nothing. The
// caller holds mu.
func (c *Crew) diedYoung(m *Member, what string, now time.Time) {
	c.boot.crashed(what, c.size, now)
	if m.worker.Served() == 0 {
		c.bootFailed(failure{err: worker.BootError{Message: what}, started: m.startedAt, crashing: true})
	}
}

// bootFailed counts a failed start. The caller holds mu.
func (c *Crew) bootFailed(f failure) (attempts int, next time.Time) {
	now := time.Now()
	c.noteProven(now)
	c.boot.failed(f, now, rand.Float64())
	return c.boot.attempts, c.boot.notBefore
}

// noteProven forgets failed starts once a member that was started after them has shown that it works. The caller holds mu.
func (c *Crew) noteProven(now time.Time) {
	if c.boot.rounds == 0 {
		return
	}
	for m := range c.members {
		if m.state == up && c.boot.provenBy(m.startedAt, m.readyAt, m.worker.Served() > 0, now) {
			c.boot.proven()
			signal(c.changed)
			return
		}
	}
}

// settle ends the report of failed starts when nobody misses a member any more; see bootLog. The caller holds mu.
func (c *Crew) settle(f facts, now time.Time) (again time.Time) {
	before := c.boot.report
	again = c.boot.settle(f.starting == 0 && f.missing() == 0, now)
	if c.boot.report != before {
		signal(c.changed)
	}
	return again
}

// crowd notes how many members start at the same time. The caller holds mu.
func (c *Crew) crowd() {
	var beside []*Member
	for m := range c.members {
		if m.state == starting {
			beside = append(beside, m)
		}
	}
	for _, m := range beside {
		m.crowd = max(m.crowd, len(beside))
	}
}
