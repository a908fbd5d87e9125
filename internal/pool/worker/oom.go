package worker

import "github.com/dspex/workerpool-operator/internal/cgroup"

// oomCounter tells whether the kernel has killed a process of this container for lack of memory. Without a readable
// counter it never reports any.
type oomCounter struct {
	memory cgroup.Memory
	seen   uint64
}

func newOOMCounter(m cgroup.Memory) *oomCounter {
	c := &oomCounter{memory: m}
	c.seen, _ = m.Kills()
	return c
}

// killed reports whether the counter has moved since it was last asked, and takes one kill off.
func (c *oomCounter) killed() bool {
	n, ok := c.memory.Kills()
	if !ok || n <= c.seen {
		return false
	}
	c.seen++
	return true
}
