package slot

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// totals count workers, and the CPU time that they used.
type totals struct {
	spawned, destroyed, crashed uint64
	cpu                         time.Duration
}

func (t totals) plus(s pool.Stats) totals {
	return totals{t.spawned + s.Spawned, t.destroyed + s.Destroyed, t.crashed + s.Crashed, t.cpu + s.CPU}
}

// keptRevisions is how many revisions' workers are told apart after their pools have ended.
const keptRevisions = 4

// tally counts the workers of all pools of the slot's life, and by revision those of the pools that ended last. The zero
// value is ready.
type tally struct {
	all totals
	of  map[string]totals
	// order of the revisions in of: the one whose pool ended last is the last.
	order []string
}

// add counts a pool that has ended.
func (t *tally) add(revision string, s pool.Stats) {
	if t.of == nil {
		t.of = map[string]totals{}
	}
	t.all, t.of[revision] = t.all.plus(s), t.of[revision].plus(s)
	t.order = append(slices.DeleteFunc(t.order, func(r string) bool { return r == revision }), revision)
	for len(t.order) > keptRevisions {
		delete(t.of, t.order[0])
		t.order = t.order[1:]
	}
}

// census adds pools that are there to those that have ended.
type census struct {
	all totals
	of  map[string]slotproto.RevisionWorkers
}

func (t *tally) census() census {
	c := census{all: t.all, of: make(map[string]slotproto.RevisionWorkers, len(t.of))}
	for revision, sum := range t.of {
		c.of[revision] = slotproto.RevisionWorkers{
			Revision: revision, Spawned: sum.spawned, Destroyed: sum.destroyed, Crashed: sum.crashed, CPU: sum.cpu.Seconds(),
		}
	}
	return c
}

// add counts a pool that is there, and what its workers hold.
func (c *census) add(revision string, s pool.Stats) {
	c.all = c.all.plus(s)
	w := c.of[revision]
	w.Revision, w.Live, w.Places = revision, w.Live+len(s.Workers), w.Places+places(s)
	w.Spawned, w.Destroyed, w.Crashed = w.Spawned+s.Spawned, w.Destroyed+s.Destroyed, w.Crashed+s.Crashed
	w.CPU += s.CPU.Seconds()
	for _, process := range s.Workers {
		w.Memory += process.PSS + process.Swap
		w.FDs += process.FDs
	}
	c.of[revision] = w
}

// places are how many requests a pool's workers can serve at the same time.
func places(s pool.Stats) int {
	if s.Version == pool.V2 {
		return len(s.Workers) * max(1, s.Limits.Concurrency)
	}
	return len(s.Workers)
}

// fill puts it all into a status.
func (c *census) fill(status *slotproto.Status) {
	status.Spawned, status.Destroyed, status.Crashed = c.all.spawned, c.all.destroyed, c.all.crashed
	status.CPU = c.all.cpu.Seconds()
	status.Revisions = slices.SortedFunc(maps.Values(c.of), func(a, b slotproto.RevisionWorkers) int {
		return cmp.Compare(a.Revision, b.Revision)
	})
	for _, w := range status.Revisions {
		status.Memory += w.Memory
		status.FDs += w.FDs
	}
}
