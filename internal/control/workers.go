package control

import (
	"math"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// workers are those that a slot says it has had of a revision since it started.
type workers struct {
	live, places                int
	spawned, destroyed, crashed uint64
	memory, openFDs             uint64 // of the live ones
	cpu                         time.Duration
}

// add leaves CPU time out, of which only what is new matters.
func (w workers) add(o workers) workers {
	return workers{
		w.live + o.live, w.places + o.places, w.spawned + o.spawned, w.destroyed + o.destroyed, w.crashed + o.crashed,
		w.memory + o.memory, w.openFDs + o.openFDs, 0,
	}
}

// bound is far above whatever a slot can have or, in nanoseconds, its workers use between two reports, and so low that
// sums over many slots don't overflow.
const bound = math.MaxInt64 >> 20

// workersOf are a slot's by revision. What isn't a revision's name, or is too much, is left out.
func workersOf(reports []*controlpb.RevisionWorkers) map[string]workers {
	out := map[string]workers{}
	for _, r := range reports {
		if len(out) == maxRevisions {
			break
		}
		if !hash.MatchString(r.GetRevision()) {
			continue
		}
		out[r.GetRevision()] = workers{
			live: int(r.GetLive()), places: max(int(r.GetPlaces()), int(r.GetLive())), spawned: min(r.GetSpawned(), bound), destroyed: min(r.GetDestroyed(), bound),
			crashed: min(r.GetCrashed(), bound), memory: min(r.GetMemoryBytes(), bound), openFDs: min(r.GetOpenFds(), bound),
			cpu: time.Duration(min(r.GetCpuMs(), math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond,
		}
	}
	return out
}

// spend counts the CPU time that a slot's workers used between two of its reports, where there is traffic that it goes
// with: figures are of revisions that serve.
func (f figures) spend(before, after map[string]workers, in period) {
	for revision, w := range after {
		old, known := before[revision]
		if r, serves := f[revision]; serves && known && w.cpu > old.cpu {
			used := min(w.cpu-old.cpu, bound)
			for _, part := range in.portions() {
				r.cell(part.number).cpu += part.ofTime(used)
			}
		}
	}
}

// staffed adds the workers of all pods' slots to the figures of the revisions that serve.
func (p *poolState) staffed(figures map[string]Figures) map[string]Figures {
	sums := map[string]workers{}
	for _, pod := range p.pods {
		for _, slot := range pod.slots {
			for revision, w := range slot.workers {
				sums[revision] = sums[revision].add(w)
			}
		}
	}
	for revision, f := range figures {
		w := sums[revision]
		f.Live, f.Places, f.Spawned, f.Destroyed, f.Crashed = w.live, w.places, w.spawned, w.destroyed, w.crashed
		f.Memory, f.OpenFDs = w.memory, w.openFDs
		figures[revision] = f
	}
	return figures
}
