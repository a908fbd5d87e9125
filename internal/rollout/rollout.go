package rollout

import (
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// State names where a rollout stands.
type State string

// States. All but Promoted and CanaryPinned are on the way, or stuck.
const (
	// Promoted: the spec's revision is the stable one and serves alone.
	Promoted State = "Promoted"
	// CanaryPinned: the canary has the weight that the spec wants, below 100, in every live pod. It holds.
	CanaryPinned State = "CanaryPinned"
	// CanaryDropping: a canary that the spec no longer wants is taken off the traffic before its slot is used again.
	CanaryDropping State = "CanaryDropping"
	// CanaryProgressing: the routers were told a new weight and not all have acknowledged it.
	CanaryProgressing State = "CanaryProgressing"
	// WaitingForWorkers: the canary's workers aren't ready in every live pod.
	WaitingForWorkers State = "WaitingForWorkers"
	// WaitingForPods: no pod is there in which the canary could get a share.
	WaitingForPods State = "NoPods"
	// Unacknowledged: a live pod is unreachable, or hasn't the configuration in force; weights aren't raised.
	Unacknowledged State = "Unacknowledged"
	// WorkerBootFailed: the canary's workers don't start; weights aren't raised and the stable serves on.
	WorkerBootFailed State = "WorkerBootFailed"
	// PodsOutdated: a live pod's slot hasn't the image that the canary wants; the canary isn't started.
	PodsOutdated State = "PodsOutdated"
)

// Action is what a decision newly does.
type Action string

// Actions. Most decisions do nothing new.
const (
	None          Action = ""
	StableSet     Action = "StableSet"     // the first revision serves
	CanaryStarted Action = "CanaryStarted" // a slot is given the canary
	WeightChanged Action = "WeightChanged"
	CanaryDropped Action = "CanaryDropped" // its slot is idle
	Promotion     Action = "Promoted"      // the canary is the stable, the other slot idles
)

// Decision is what the routers are to be told, and why.
type Decision struct {
	// Assignment is recorded in the status before the routers are told of it.
	Assignment Assignment
	// Idle keeps the canary's slot without workers though the canary is placed.
	Idle bool
	// Weight of the canary that the routers are told.
	Weight Weight
	// Desired is the weight that the spec wants in the end; Applied what every live pod has acknowledged. Both are
	// Full when the stable serves alone.
	Desired, Applied Weight
	State            State
	Action           Action
	// Blockers are the pods that hold the rollout up, where there are any.
	Blockers []string

	// Rollout, Blocked, Hold and Handled go into the status.
	Rollout *v1alpha1.RolloutStatus
	Blocked string
	Hold    *v1alpha1.HoldStatus
	Handled v1alpha1.HandledTokens
	// Rollback is set by the decision that rolls back, and by it alone.
	Rollback *v1alpha1.RollbackStatus
	// Notes tell what became of tokens, and what a DryRun would have done; for events.
	Notes []Note
	// Again is after how long time alone can change the decision; 0: never.
	Again time.Duration
}

// Note is something to tell that is no state.
type Note struct{ Reason, Message string }

// Decide is the whole rollout: the first rule that speaks wins.
func Decide(in Input) Decision {
	r := newRound(in)
	for _, rule := range []func(*round) (Decision, bool){
		(*round).replaceUnproven,
		(*round).settled,
		(*round).dropUnwanted,
		(*round).place,
		(*round).lower,
		(*round).holdForPods,
		(*round).holdForImages,
		(*round).holdForBoot,
		(*round).holdForAcknowledgement,
		(*round).holdForWorkers,
		(*round).promote,
		(*round).raise,
	} {
		if d, speaks := rule(r); speaks {
			return d
		}
	}
	return r.decision(CanaryPinned, None)
}

// round is one pass: the input, and what follows from it at once.
type round struct {
	Input
	assignment Assignment
	wanted     v1alpha1.SlotRevision // the spec's revision, in the slot that isn't the stable's
	weight     Weight                // of the canary, in the routers' configuration
	target     Weight                // of the wanted revision
	applied    Weight
	first      bool
}

func newRound(in Input) *round {
	r := &round{Input: in, first: in.Stable == nil}
	if r.first {
		r.assignment = First(in.Spec)
	} else {
		r.assignment = Assignment{Stable: *in.Stable, Canary: in.Canary}
	}
	r.assignment.Stable.Proven = r.assignment.Stable.Proven || r.serves(&r.assignment.Stable)
	r.wanted = Place(revision.Of(in.Spec), OtherSlot(r.assignment.Stable.Slot))
	r.target = target(in.Spec, r.assignment.Stable.Version)
	r.weight, r.applied = r.weights()
	return r
}

// target is what the spec wants for its revision. Going back to v1 is a rollback by hand: all of it, at once.
func target(spec *v1alpha1.WorkerPoolSpec, stable v1alpha1.PoolVersion) Weight {
	if spec.PoolVersion == v1alpha1.PoolV1 && stable != v1alpha1.PoolV1 {
		return Full
	}
	return SpecWeight(spec)
}

// weights returns the canary's weight in the routers' configuration, and the one that every live pod has acknowledged.
func (r *round) weights() (told, applied Weight) {
	if r.first || r.assignment.Canary == nil {
		return 0, 0
	}
	if !r.toldCanary() {
		return r.Applied, r.Applied
	}
	if len(r.Pods) == 0 || len(r.unacknowledged()) > 0 {
		return r.Told.Weight, r.Applied
	}
	return r.Told.Weight, r.Told.Weight
}

// toldCanary tells whether the routers know the canary that the status names.
func (r *round) toldCanary() bool {
	return r.Told != nil && same(r.Told.Assignment.Canary, r.assignment.Canary)
}

// same tells whether both are the same revision in the same slot.
func same(a, b *v1alpha1.SlotRevision) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Slot == b.Slot && a.Revision == b.Revision
}

// serves tells whether a revision has a worker in any live pod. One that runs in an image that isn't the revision's
// proves nothing about it.
func (r *round) serves(placed *v1alpha1.SlotRevision) bool {
	return len(r.podsWith(func(p *Pod) bool { return p.Serves(placed) && p.HasImage(placed) })) > 0
}

func (r *round) unacknowledged() []string {
	return r.podsWith(func(p *Pod) bool { return !p.Connected || !p.Acknowledged })
}

// decision keeps everything as it is and says where that stands.
func (r *round) decision(state State, action Action, blockers ...string) Decision {
	d := Decision{
		Assignment: r.assignment, Weight: r.weight, Desired: r.target, Applied: r.applied,
		State: state, Action: action, Blockers: blockers,
	}
	if r.first && action == None {
		d.Action = StableSet
	}
	if d.Assignment.Canary == nil {
		d.Weight, d.Desired, d.Applied = 0, Full, Full
	}
	return d
}
