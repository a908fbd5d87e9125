// Package status says how a pool is: counts, figures and conditions, one setter per condition. It is pure, and Ready
// is only ever a summary of what the others know.
package status

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Input is everything that a status is made of.
type Input struct {
	// Pool with its status as it is.
	Pool *v1alpha1.WorkerPool
	// Decision of this pass.
	Decision rollout.Decision
	// Pods that carry the pool's label and aren't finished or terminating.
	Pods []Pod
	// Leaving are the pods that are being deleted, and Uncreated the workloads that want pods and have none. Unlisted is why
	// these aren't known; empty: they are.
	Leaving   int
	Uncreated []Uncreated
	Unlisted  string
	// Figures of the last minute by revision.
	Figures map[string]Figures
	// Looks are the analysis' at the canary.
	Looks Looks
	// Problem is why no decision could be put into practice; empty: there is none.
	Problem string
	// Now is when this is, for transition times.
	Now time.Time
}

// Pod is what a status needs to know of a pod.
type Pod struct {
	rollout.Pod
	UID types.UID
	// Workload that made it.
	Workload Workload
	// Injected: it has this pool's sidecars. Live: it is injected and running.
	Injected, Live bool
	// Joining: it has been running for so short a time that its router may still be on its way.
	Joining bool
	// Settled: it had the current configuration in force when its stream ended, moments ago.
	Settled bool
	// Refusal is why its router refused the current configuration; empty: it didn't.
	Refusal string
	// Workers by slot.
	Workers map[string]Workers
	// Kills are, by slot, the last ones of its container for lack of memory.
	Kills map[string]Kill
	// Busy workers of both slots.
	Busy int
	// Heard is when its last report came; zero: none did. Silent: that is longer ago than reports may take.
	Heard  time.Time
	Silent bool
	// Waits are, by container, what its sidecars wait for that don't run.
	Waits map[string]Wait
}

// Workers are what a slot says of its workers.
type Workers struct {
	Desired int // after capping
	Serving int // ready and busy ones
	Max     int // that the container's limits allow; 0: no limit
	Capped  bool
	// BootMessage and BootTraceback tell why they don't start; empty: they do.
	BootMessage, BootTraceback string
	// Unhealthy is why none of them can be said to work, though there are processes; empty: they work.
	Unhealthy string
	// Startup is how their starts get on; zero: none has lasted for long, and as many start as are missing.
	Startup Startup
	// Hangs is why the slot itself, whose container runs, is taken to hang; empty: it answers.
	Hangs string
	// ForkRefused is why workers are spawned though the pool wants them forked; empty: they aren't.
	ForkRefused string
}

// Startup is how a slot's workers' starts get on.
type Startup struct {
	Since time.Time     // when the worker began that has been starting longest; zero: none has for long
	Limit time.Duration // of one start
	Pace  string        // why few start at the same time; empty: as many as are missing do
}

// Kill is the end of a slot's container for lack of memory.
type Kill struct {
	At       time.Time
	Restarts int32 // of the container since its pod was made, for whatever reason
}

// Figures are a revision's over the last minute.
type Figures struct {
	Version string
	Span    time.Duration // that counts and sums speak for, a minute at most
	analysis.Counts
	P50, P95, P99 time.Duration
	Service       time.Duration // mean time that a request kept a worker busy; 0: none did
	Busy          time.Duration // that requests kept workers busy, all together
	CPU           time.Duration // that workers used
	// Workers of all pods' slots: Live ones now, and those that have been since the slots started.
	Live                        int
	Places                      int // requests that the live ones serve at the same time, at most
	Spawned, Destroyed, Crashed uint64
	Memory, OpenFDs             uint64 // of the live ones
}

// Looks are what the analysis saw of the canary since this process leads.
type Looks struct {
	// Last look; nil: none yet.
	Last *analysis.Result
	// Failed is the last one that found the canary worse than allowed, unless it has passed one since; nil: none.
	Failed *analysis.Result
	// Needed is how many executed requests each side must have.
	Needed uint64
}

// where returns the pods for which a fact holds.
func (in *Input) where(fact func(*Pod) bool) []*Pod {
	var pods []*Pod
	for i := range in.Pods {
		if fact(&in.Pods[i]) {
			pods = append(pods, &in.Pods[i])
		}
	}
	return pods
}

func (in *Input) live() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live })
}

func (in *Input) notInjected() []*Pod {
	return in.where(func(p *Pod) bool { return !p.Injected })
}

// withSidecars returns the pods that have this pool's sidecars, running or not: an image that doesn't exist keeps a pod from
// ever running.
func (in *Input) withSidecars() []*Pod {
	return in.where(func(p *Pod) bool { return p.Injected })
}

func (in *Input) outdated() []*Pod {
	return in.where(func(p *Pod) bool { return p.Injected && in.Decision.Assignment.Outdated(&p.Pod) })
}

func (in *Input) unreachable() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && !p.Connected && !p.Joining })
}

// unheard returns the live pods of which nothing is known as they are now.
func (in *Input) unheard() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && (!p.Connected || p.Stale) && !p.rejoining() })
}

func (in *Input) unacknowledged() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && !p.rejoining() && (!p.Connected || !p.Acknowledged) })
}

// rejoining tells of a pod that changes its stream, as each does when its token is renewed: it serves on with the
// current configuration, and what it reported a moment ago is still so.
func (p *Pod) rejoining() bool { return p.Joining && p.Settled && !p.Connected && !p.Silent }

func (in *Input) refusing() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && p.Connected && p.Refusal != "" })
}

// stale returns the pods that are connected and send no figures.
func (in *Input) stale() []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && p.Connected && p.Stale })
}

// tripped returns the pods whose routers took the canary off their traffic by themselves.
func (in *Input) tripped() []*Pod {
	c := in.Decision.Assignment.Canary
	return in.where(func(p *Pod) bool {
		return c != nil && p.Live && p.Tripped != nil && !p.Tripped.ReportOnly && p.Tripped.Revision == c.Revision
	})
}

// blocked tells whether the spec's revision was rolled back and isn't tried again by itself.
func (in *Input) blocked() bool {
	return in.Decision.Blocked != "" && in.Decision.Blocked == revision.Of(&in.Pool.Spec).Hash()
}

// placed returns the stable and, when it is started and not on its way out, the canary.
func (in *Input) placed() []*v1alpha1.SlotRevision {
	if c := in.Decision.Assignment.Canary; c != nil && (in.Decision.Idle || in.Decision.Blocked == c.Revision) {
		return []*v1alpha1.SlotRevision{&in.Decision.Assignment.Stable}
	}
	return in.assigned()
}

// assigned returns the stable and, when there is one, the canary, started or not.
func (in *Input) assigned() []*v1alpha1.SlotRevision {
	a := &in.Decision.Assignment
	if a.Canary == nil {
		return []*v1alpha1.SlotRevision{&a.Stable}
	}
	return []*v1alpha1.SlotRevision{&a.Stable, a.Canary}
}

// without returns the live pods in which a revision has no worker.
func (in *Input) without(r *v1alpha1.SlotRevision) []*Pod {
	return in.where(func(p *Pod) bool { return p.Live && !p.Serves(r) && !p.Runs(r) })
}

// serving is the revision that gets the traffic that no canary gets.
func (in *Input) serving() *v1alpha1.SlotRevision {
	if c := in.Decision.Assignment.Canary; c != nil && in.Decision.Applied == rollout.Full {
		return c
	}
	return &in.Decision.Assignment.Stable
}
