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

// sampling reads what members take until ctx ends.
func (c *Crew) sampling(ctx context.Context) {
	timer := time.NewTimer(sampleSoon)
	defer timer.Stop()
	var earliest time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.newcomers:
			timer.Reset(max(sampleSoon, time.Until(earliest)))
			continue
		case <-timer.C:
		}
		begin := time.Now()
		c.sample()
		pause := sampleShare * time.Since(begin)
		earliest = time.Now().Add(pause)
		timer.Reset(max(sampleEvery, pause))
	}
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
