package rollout

import (
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Unrecorded is a rollback that routers act upon, and that the status doesn't have: they are told before it is written.
type Unrecorded struct {
	v1alpha1.RollbackStatus
	// Token is the retry token that had been handled when it was decided.
	Token string
	// Back is the revision that it went back to, as its slot; nil: that can't be described any more. It is used when the status
	// says that the canary was promoted: then that was written, and no router was told of it.
	Back *v1alpha1.SlotRevision
}

// clockSkew is by how much the clocks of two leaders may differ. A rollback that is further ahead is an error of a router.
const clockSkew = time.Minute

// Newest returns the last rollback of those that the status doesn't have; nil: it has them all. A retry token that was handled
// since has ended a rollback.
func Newest(known []Unrecorded, last *v1alpha1.RollbackStatus, handled string, now time.Time) *Unrecorded {
	var newest *Unrecorded
	for i := range known {
		u := &known[i]
		switch {
		case u.Token != handled, u.Time.After(now.Add(clockSkew)):
		case last != nil && !last.Time.Before(&u.Time):
		case newest == nil || newest.Time.Before(&u.Time):
			newest = u
		}
	}
	return newest
}

// undoPromotion: what is the stable by the status was rolled back by the routers, which were never told of its promotion.
func (r *round) undoPromotion() {
	u := r.Unrecorded
	if u == nil || u.Back == nil || r.first || r.assignment.Canary != nil || r.assignment.Stable.Revision != u.Revision {
		return
	}
	rolledBack, back := r.assignment.Stable, *u.Back
	back.Slot, back.Proven = OtherSlot(rolledBack.Slot), true
	r.assignment = Assignment{Stable: back, Canary: &rolledBack}
}

// takeOver records a rollback that the routers act upon already, of this leader or of an earlier one, before anything else is
// decided: no one raises what they were told to leave.
func (r *round) takeOver() (Decision, bool) {
	u := r.Unrecorded
	if u == nil || r.first {
		return Decision{}, false
	}
	if c := r.assignment.Canary; c != nil && c.Revision == u.Revision {
		r.give(0)
	}
	if r.wanted.Revision == u.Revision && r.assignment.Stable.Revision != u.Revision {
		r.Blocked = u.Revision
		if r.heldByPolicy() {
			r.Hold = nil
		}
	}
	d := r.stand(Rollback)
	d.Rollback = u.DeepCopy()
	return d, true
}
