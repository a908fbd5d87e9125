package controllers

import (
	"context"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

// lower tells the routers at once what takes traffic off a canary, before anything is asked of the API server, which may not
// answer. All else that was decided they are told once it is recorded.
func (r *WorkerPoolReconciler) lower(_ context.Context, p *pass) error {
	told, back := p.memory.told, p.decision.Rollback
	if back != nil {
		p.memory.unrecorded = &rollout.Unrecorded{RollbackStatus: *back, Token: p.decision.Handled.Retry, Back: p.back(back.ToRevision)}
	}
	if told == nil || !takesOff(told, &p.decision) {
		return nil
	}
	r.Fleet.Lower(p.key, uint32(p.decision.Weight), snapshot.RolledBack(back))
	p.memory.told = &rollout.Told{Assignment: told.Assignment, Weight: p.decision.Weight}
	if back != nil {
		p.memory.rolledBack = p.now
	}
	if p.findings != nil {
		p.memory.comparison.looked(p.findings)
	}
	return nil
}

// takesOff reports whether a decision gives the canary of the routers less.
func takesOff(told *rollout.Told, d *rollout.Decision) bool {
	is, was := d.Assignment.Canary, told.Assignment.Canary
	return is != nil && was != nil && is.Revision == was.Revision && is.Slot == was.Slot && d.Weight < told.Weight
}

// back is a revision as rollout places it; nil when its text isn't there. Whose slot it gets, rollout says.
func (p *pass) back(revision string) *v1alpha1.SlotRevision {
	text, stored := p.texts[revision]
	if !stored {
		return nil
	}
	return new(rollout.Place(text, rollout.SlotA))
}

// rollbacksOf are those that this leader decided, and those that routers were told of, by whichever leader.
func (p *pass) rollbacksOf(view control.PoolView) []rollout.Unrecorded {
	var known []rollout.Unrecorded
	if p.memory.unrecorded != nil {
		known = append(known, *p.memory.unrecorded)
	}
	for _, pod := range view.Pods {
		b := pod.RolledBack
		if b == nil {
			continue
		}
		u := rollout.Unrecorded{Token: b.TripToken, Back: p.back(b.ToRevision)}
		u.Revision, u.From, u.To, u.ToRevision = b.Revision, v1alpha1.PoolVersion(b.From), v1alpha1.PoolVersion(b.To), b.ToRevision
		u.Weight, u.Reason, u.Evidence = b.Weight, b.Reason, b.Evidence
		u.Time.Time = b.At
		known = append(known, u)
	}
	return known
}
