package rollout

import (
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
)

// Input is everything that a decision is made of.
type Input struct {
	Spec *v1alpha1.WorkerPoolSpec
	// Stable and Canary are what was decided before, as the status keeps it; Stable nil: nothing yet.
	Stable, Canary *v1alpha1.SlotRevision
	// Applied is the canary's weight that every live pod had acknowledged when the status was written. A leader
	// that has told the routers nothing yet starts from it, so that a change of leader moves no traffic.
	Applied Weight
	// Told is what this leader told the routers last; nil before its first visit.
	Told *Told
	// Pods are the live ones: injected for this pool, running, not terminating.
	Pods []Pod
	// Coming are injected and don't run yet. They hold nothing but a canary's start in a container that wasn't made for it:
	// by the time they run, the others may be giving it traffic.
	Coming []Pod

	// Now is when this is.
	Now time.Time
	// Rollout, Blocked, Hold and Handled are what was decided before, as the status keeps it.
	Rollout *v1alpha1.RolloutStatus
	Blocked string
	Hold    *v1alpha1.HoldStatus
	Handled v1alpha1.HandledTokens
	// Tokens are what the pool's annotations say now; empty: not there.
	Tokens v1alpha1.HandledTokens
	// Unrecorded is a rollback that the routers act upon already; nil: the status has them all.
	Unrecorded *Unrecorded
	// Findings are the analysis' at the look that is due now; nil: none is due, or there is nothing to compare.
	Findings *analysis.Result
}

// Told is what the routers were told.
type Told struct {
	Assignment Assignment
	Weight     Weight
}

// Pod is what is known of a live pod.
type Pod struct {
	Name string
	// Connected: its router has a stream to the leader.
	Connected bool
	// Acknowledged: it has in force what the routers were told last.
	Acknowledged bool
	// Unreported: what is known of its slots is from before it had in force what the routers were told last, or from before
	// its present stream.
	Unreported bool
	// Stale: it is connected, and its figures haven't come for longer than telemetry may take.
	Stale bool
	// Tripped is its router's own decision against a canary; nil: there is none.
	Tripped *Trip
	// Slots holds the last report of each slot by name.
	Slots map[string]Slot
	// Images are, by slot, the revisions' images that its container is good for; "" is the operator's own worker
	// image. A slot that is absent is taken to be good for all.
	Images map[string][]string
	// EnvFrom is, by slot, what its container has variables from since its injection, as SlotRevision's; absent: nothing.
	EnvFrom map[string]string
	// OtherMounts: its slots have other volumes than the spec wants.
	OtherMounts bool
}

// Slot is what a slot reported.
type Slot struct {
	// Revision that it runs; empty: idle.
	Revision string
	// Serving workers can take a request or are serving one; Up when they are as many as they should be, where those of a
	// lazy pool that requests would start count as well. A gap that lasts for less than a worker's replacement takes
	// doesn't end Up.
	Serving int
	Up      bool
	// BootFailing: its workers don't start.
	BootFailing bool
}

// Runs tells whether the pod's slot has all workers of the revision that is placed in it.
func (p *Pod) Runs(placed *v1alpha1.SlotRevision) bool {
	s := p.Slots[placed.Slot]
	return s.Revision == placed.Revision && s.Up
}

// Serves tells whether the pod's slot has at least one worker of the revision that is placed in it.
func (p *Pod) Serves(placed *v1alpha1.SlotRevision) bool {
	s := p.Slots[placed.Slot]
	return s.Revision == placed.Revision && s.Serving > 0
}

// FailsToBoot tells whether the pod's slot can't start the workers of the revision that is placed in it.
func (p *Pod) FailsToBoot(placed *v1alpha1.SlotRevision) bool {
	s := p.Slots[placed.Slot]
	return s.Revision == placed.Revision && s.BootFailing
}

// Suits tells whether the pod's slot was made for what is placed in it. What its container has can't change while the
// pod lives.
func (p *Pod) Suits(placed *v1alpha1.SlotRevision) bool {
	return p.HasImage(placed) && p.HasEnvFrom(placed) && !p.OtherMounts
}

// HasEnvFrom tells whether the pod's slot has the variables that the revision wants, and no others.
func (p *Pod) HasEnvFrom(placed *v1alpha1.SlotRevision) bool {
	return p.EnvFrom[placed.Slot] == placed.EnvFrom
}

// HasImage tells whether the pod's slot has the image of what is placed in it.
func (p *Pod) HasImage(placed *v1alpha1.SlotRevision) bool {
	images, known := p.Images[placed.Slot]
	return !known || slices.Contains(images, placed.Image)
}

// Outdated tells whether one of the pod's slots wasn't made for its revision.
func (a Assignment) Outdated(p *Pod) bool {
	return !p.Suits(&a.Stable) || (a.Canary != nil && !p.Suits(a.Canary))
}

// podsWith returns the names of the pods for which a fact holds.
func (in *Input) podsWith(fact func(*Pod) bool) []string {
	var names []string
	for i := range in.Pods {
		if fact(&in.Pods[i]) {
			names = append(names, in.Pods[i].Name)
		}
	}
	return names
}
