package crew

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Checkin ends the use of a member, and reports whether it stays: it goes back to the Line, or ends because it can't be
// used again (discard) or isn't needed any more.
func (c *Crew) Checkin(m *Member, discard worker.Reason) (stays bool) {
	switch {
	case discard != "":
		c.end(m, discard)
	case c.tooMany.Load() && c.retire(m):
	case c.isWorn(m) && c.recycle(m):
	default:
		c.offer(m)
		c.withdrawDead(m)
		return true
	}
	return false
}

// offer brings m to the Line. A plan that found too many members may have looked for idle ones just before, and
// nothing else would make the crew look again.
func (c *Crew) offer(m *Member) {
	c.line.Offer(m)
	if c.tooMany.Load() {
		c.Poke()
	}
}

// withdrawDead takes m out if its process ended, and was struck off, while m was busy: nobody else would.
func (c *Crew) withdrawDead(m *Member) {
	select {
	case <-m.worker.Exited():
		c.line.Withdraw(m)
	default:
	}
}

// retire ends m if there are more members than size and overflow allow, and reports whether it did.
func (c *Crew) retire(m *Member) bool {
	c.mu.Lock()
	f := c.census()
	surplus := f.live-f.ending > c.size+c.overflow
	if surplus {
		m.state = ending
	}
	c.mu.Unlock()
	if surplus {
		m.worker.Discard(worker.ReasonRetired)
	}
	return surplus
}

// Broken returns why no member can serve, when starts fail and no member is up; else nil.
func (c *Crew) Broken() *pool.BootFailure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.boot.report == nil {
		return nil
	}
	for m := range c.members {
		if m.state == up {
			return nil
		}
	}
	report := *c.boot.report
	return &report
}

// Fill writes the crew's figures into s, whose Ready the pool has set already. Busy is whoever is neither starting
// nor idle: those being ended too, so that the three add up to the live processes. A crew that is complete makes no
// plans, so it is here that a reported failure ends once a member has proved good.
func (c *Crew) Fill(s *pool.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.noteProven(now)
	c.settle(c.census(), now)
	s.Startup = c.startup()
	s.Desired = c.size
	s.Spawned, s.Destroyed, s.Crashed = c.spawned, c.destroyed, c.crashed
	s.Exits = maps.Clone(c.exits)
	s.Commands = c.commands
	starts := c.starts
	s.Start = &starts
	s.Boot = c.boot.state(now)
	s.Unhealthy = c.unhealthy()
	s.CPU = c.cpu
	for m := range c.members {
		s.CPU += m.usage.CPU
		if m.state == starting {
			s.Starting++
		}
	}
	if c.lazy && !c.boot.failing {
		s.Unstarted = max(0, c.size-len(c.members))
	}
	s.Ready = min(s.Ready, len(c.members)-s.Starting)
	s.Busy = len(c.members) - s.Starting - s.Ready
	s.Overflow = max(0, len(c.members)-c.size)
}

// Workers lists the live processes, oldest first; what is beyond size is overflow. idle holds the idle members.
func (c *Crew) Workers(idle map[*Member]time.Time) []pool.WorkerStats {
	c.mu.Lock()
	members := slices.Collect(maps.Keys(c.members))
	slices.SortFunc(members, func(a, b *Member) int { return a.startedAt.Compare(b.startedAt) })
	size := c.size
	stats := make([]pool.WorkerStats, 0, len(members))
	workers := make([]Worker, 0, len(members))
	for i, m := range members {
		if m.worker == nil {
			continue
		}
		_, resting := idle[m]
		codec := ""
		if m.state != starting {
			codec = m.worker.Codec()
		}
		stats = append(stats, pool.WorkerStats{
			ID: m.worker.ID(), PID: m.worker.PID(), State: stateName(m.state, resting), Codec: codec, Overflow: i >= size, Requests: m.worker.Served(),
			PSS: m.usage.PSS, USS: m.usage.USS, Swap: m.usage.Swap, CPU: m.usage.CPU.Seconds(), FDs: m.usage.FDs,
		})
		workers = append(workers, m.worker)
	}
	c.mu.Unlock()
	for i, w := range workers {
		stats[i].RSS = w.RSS()
	}
	return stats
}

func stateName(s state, idle bool) string {
	switch {
	case s == starting:
		return "Starting"
	case s == up && idle:
		return "Ready"
	}
	return "Busy"
}

// lastPatience is how long Close waits for killed processes to be gone after its context has ended: only one that
// hangs inside the kernel takes longer.
const lastPatience = 5 * time.Second

// Close ends all members: idle ones politely, those still busy at once, those that start by the end of their
// context. The pool has stopped handing out members.
// When ctx ends, whatever is left is killed. It returns when no process is left, or the cause why one is.
func (c *Crew) Close(ctx context.Context) error {
	if c.refuse() {
		c.stop()
		for _, m := range c.snapshot(up) {
			c.dismiss(m)
		}
		go func() {
			c.running.Wait()
			close(c.done)
		}()
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	for _, m := range c.snapshot(up, ending) {
		m.worker.Kill(worker.ReasonClosed)
	}
	timer := time.NewTimer(lastPatience)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return cmp.Or(context.Cause(ctx), context.DeadlineExceeded)
	}
}

// refuse makes the crew take no new member; true for the first call.
func (c *Crew) refuse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.closed
	c.frozen, c.closed = true, true
	return first
}

// snapshot returns the members in one of the states.
func (c *Crew) snapshot(states ...state) (members []*Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range c.members {
		if slices.Contains(states, m.state) {
			members = append(members, m)
		}
	}
	return members
}

// dismiss ends a member; one that is being pinged is ended in order when it has answered.
func (c *Crew) dismiss(m *Member) {
	if c.line.Withdraw(m) {
		c.end(m, worker.ReasonClosed)
		return
	}
	c.mu.Lock()
	lent := m.beat.lent
	c.mu.Unlock()
	if !lent {
		m.worker.Kill(worker.ReasonClosed)
	}
}
