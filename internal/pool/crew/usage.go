package crew

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// How often what members take is read. The kernel walks through all of a process's memory for it, and holds off the
// process's own changes of its mappings meanwhile; no request waits for it.
const (
	sampleEvery = 2 * time.Second
	sampleSoon  = 100 * time.Millisecond // after a member got ready, and between two readings at least
	// sampleShare bounds what reading costs: for so many times as long as a reading took there is none.
	sampleShare = 100
)

// sampling reads what members take until ctx ends. A newcomer brings the next reading forward, and never puts it off:
// where members come and go all the time there would be none.
func (c *Crew) sampling(ctx context.Context) {
	timer := time.NewTimer(sampleEvery)
	defer timer.Stop()
	earliest, next := time.Now(), time.Now().Add(sampleEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.newcomers:
			next = sooner(next, later(earliest, time.Now().Add(sampleSoon)))
		case <-timer.C:
			begin := time.Now()
			c.sample()
			pause := sampleShare * time.Since(begin)
			earliest = time.Now().Add(pause)
			next = later(earliest, time.Now().Add(sampleEvery))
		}
		timer.Reset(time.Until(next))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sample reads once, without a lock, and has the crew plan if it matters.
func (c *Crew) sample() {
	groups := &worker.Groups{}
	for _, m := range c.snapshot(up) {
		usage := m.worker.Usage(groups)
		c.mu.Lock()
		m.usage = usage
		c.mu.Unlock()
	}
	if c.limitsMemory() {
		c.Poke()
	}
}

func (c *Crew) limitsMemory() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recycling.MaxMemory > 0
}
