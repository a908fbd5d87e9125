package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// round is one pass: the input, and what follows from it at once. Rules change its copies of what the status keeps,
// never what they were given.
type round struct {
	Input
	assignment Assignment
	wanted     v1alpha1.SlotRevision // the spec's revision, in the slot that isn't the stable's
	progress   v1alpha1.RolloutStatus
	weight     Weight // of the canary, in the routers' configuration
	target     Weight // of the wanted revision, now
	applied    Weight
	first      bool
	notes      []Note
	unfinished bool // there is more to do as soon as this pass is over
}

func newRound(in Input) *round {
	r := &round{Input: in, first: in.Stable == nil}
	if r.first {
		r.assignment = First(in.Spec)
	} else {
		r.assignment = Assignment{Stable: *in.Stable, Canary: in.Canary}
	}
	r.undoPromotion()
	r.assignment.Stable.Proven = r.assignment.Stable.Proven || r.serves(&r.assignment.Stable)
	r.wanted = Place(revision.Of(in.Spec), OtherSlot(r.assignment.Stable.Slot))
	r.forgetOthers()
	r.weight, r.applied = r.weights()
	r.progress = located(in.Spec, r.assignment.Stable.Version, in.Rollout, r.wanted.Revision, r.given())
	r.target = target(in.Spec, r.assignment.Stable.Version, &r.progress)
	if r.toldCanary() && r.Told.Weight != r.Applied { // which these times are of
		r.progress.WeightSince, r.progress.StepSince = nil, nil
	}
	r.keepTime()
	return r
}

// forgetOthers drops what was decided about a revision that the spec doesn't ask for any more. So a block ends with
// another revision, with going back to the stable one too, and a hold that the analysis made ends with what it was
// made for.
func (r *round) forgetOthers() {
	if r.Blocked != r.wanted.Revision {
		r.Blocked = ""
	}
	if r.Hold != nil && r.Hold.Revision != "" && r.Hold.Revision != r.wanted.Revision {
		r.Hold = nil
	}
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

// given is the weight that every live pod gives to the revision that the spec wants: none where another is the canary.
func (r *round) given() Weight {
	if c := r.assignment.Canary; c == nil || c.Revision != r.wanted.Revision {
		return 0
	}
	return r.applied
}

// toldCanary tells whether the routers know the canary that the status names.
func (r *round) toldCanary() bool {
	return r.Told != nil && same(r.Told.Assignment.Canary, r.assignment.Canary)
}

// bringingIn tells whether the canary that is placed is the one that the spec wants, and isn't blocked.
func (r *round) bringingIn() bool {
	c := r.assignment.Canary
	return c != nil && c.Revision == r.wanted.Revision && !r.blocked()
}

// blocked tells whether the spec's revision was rolled back and must not be tried again.
func (r *round) blocked() bool { return r.Blocked != "" }

// same tells whether both are the same revision in the same slot.
func same(a, b *v1alpha1.SlotRevision) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Slot == b.Slot && a.Revision == b.Revision
}

// serves tells whether a revision has a worker in any live pod. One in a container that wasn't made for the revision proves
// nothing about it.
func (r *round) serves(placed *v1alpha1.SlotRevision) bool {
	return len(r.podsWith(func(p *Pod) bool { return p.Serves(placed) && p.Suits(placed) })) > 0
}

func (r *round) unacknowledged() []string {
	return r.podsWith(func(p *Pod) bool { return !p.Connected || !p.Acknowledged })
}

// decision keeps everything as it is and says where that stands.
func (r *round) decision(state State, action Action, blockers ...string) Decision {
	d := Decision{
		Assignment: r.assignment, Weight: r.weight, Desired: r.target, Applied: r.applied,
		State: state, Action: action, Blockers: blockers,
		Blocked: r.Blocked, Hold: r.Hold, Handled: r.Handled, Notes: r.notes,
	}
	if r.first && action == None {
		d.Action = StableSet
	}
	switch {
	case r.bringingIn():
		d.Rollout = &r.progress
	case d.Assignment.Canary != nil: // on its way out
		d.Desired = 0
	case r.wanted.Revision == d.Assignment.Stable.Revision:
		d.Weight, d.Desired, d.Applied = 0, Full, Full
	default: // the spec's revision isn't placed: paused, or rolled back
		d.Weight, d.Applied = 0, 0
	}
	if r.blocked() {
		d.Desired = 0
	}
	d.Again = r.again(&d)
	return d
}

// soon is after how long what is left to do for now is done.
const soon = 100 * time.Millisecond

// again is when time alone matters: at the next look, while a canary has traffic to look at. A step, too, ends at a look.
func (r *round) again(d *Decision) time.Duration {
	if r.unfinished {
		return soon
	}
	if d.Rollout == nil || d.Weight == 0 {
		return 0
	}
	grid, runs := Looks(d.Rollout)
	if !runs {
		return 0
	}
	return max(soon, grid.Next(r.Now).Sub(r.Now))
}

// begins is a time that something runs from, as a status keeps it: in whole seconds. Rounded up, so that nothing lasts
// shorter than declared.
func begins(now time.Time) *metav1.Time {
	return new(metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second)))
}

// happened is the time of an event, as a status keeps it.
func happened(now time.Time) metav1.Time { return metav1.NewTime(now.Truncate(time.Second)) }
