// Package rollout decides which revision runs in which slot and how much traffic it gets. It is pure: facts in, a
// decision with its reason out; it knows no client, no context and no clock.
package rollout

import (
	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// The two slots of every pod.
const (
	SlotA = "a"
	SlotB = "b"
)

// Assignment says which revision each slot has, the same in every pod of the pool. A slot that is neither the
// stable's nor the canary's is idle.
type Assignment struct {
	Stable v1alpha1.SlotRevision
	Canary *v1alpha1.SlotRevision
}

// Current is the assignment that a pool has now: what its status says, or its first one when it has none yet. A pod
// that is injected before the pool's first visit and the reconciler come to the same answer.
func Current(pool *v1alpha1.WorkerPool) Assignment {
	if pool.Status.Stable == nil {
		return First(&pool.Spec)
	}
	return Assignment{Stable: *pool.Status.Stable, Canary: pool.Status.Canary.DeepCopy()}
}

// CurrentWeight is the canary's weight that a new pod of a pool may start with: what all live pods have acknowledged,
// and no more than the spec now allows, which the pods may not have been told yet. A canary that isn't the spec's
// revision any more, or that was rolled back, gets nothing.
func CurrentWeight(pool *v1alpha1.WorkerPool) Weight {
	s := &pool.Status
	wanted := revision.Of(&pool.Spec).Hash()
	if s.Stable == nil || s.Canary == nil || s.Canary.Revision != wanted || s.BlockedRevision == wanted {
		return 0
	}
	applied := StoredWeight(s.Weight.Applied)
	progress := located(&pool.Spec, s.Stable.Version, s.Rollout, wanted, applied)
	return min(applied, target(&pool.Spec, s.Stable.Version, &progress))
}

// Next is the revision that a pool's idle slot gets at the next visit; nil: none, or there is no idle slot. A pod that is
// made between a change of the spec and that visit is made for it, and needn't be made once more.
func Next(pool *v1alpha1.WorkerPool) *revision.Text {
	s := &pool.Status
	wanted := revision.Of(&pool.Spec)
	idle := s.Stable != nil && s.Canary == nil
	held := pool.Spec.Paused || s.Hold != nil || s.BlockedRevision == wanted.Hash()
	if !idle || held || wanted.Hash() == s.Stable.Revision {
		return nil
	}
	return &wanted
}

// First is the assignment of a pool that has never served. A canary of v2 needs something to be compared with, so
// its stable is the same worker on v1; everything else starts as the stable. A spec that is paused starts no canary.
func First(spec *v1alpha1.WorkerPoolSpec) Assignment {
	text := revision.Of(spec)
	if spec.PoolVersion != v1alpha1.PoolV2 || SpecWeight(spec) == Full {
		return Assignment{Stable: Place(text, SlotA)}
	}
	first := Assignment{Stable: Place(text.On(v1alpha1.PoolV1), SlotA)}
	if !spec.Paused {
		first.Canary = new(Place(text, SlotB))
	}
	return first
}

// Place is a revision in a slot.
func Place(t revision.Text, slot string) v1alpha1.SlotRevision {
	return v1alpha1.SlotRevision{
		Version: t.PoolVersion, Revision: t.Hash(), Slot: slot, Image: t.Worker.Image, EnvFrom: t.Worker.Sources(),
	}
}

// OtherSlot is the slot that isn't the given one.
func OtherSlot(slot string) string {
	if slot == SlotA {
		return SlotB
	}
	return SlotA
}

// In returns what a slot runs; nil when it is idle.
func (a Assignment) In(slot string) *v1alpha1.SlotRevision {
	switch {
	case a.Stable.Slot == slot:
		return &a.Stable
	case a.Canary != nil && a.Canary.Slot == slot:
		return a.Canary
	}
	return nil
}

// equal tells whether both place the same revisions in the same slots.
func (a Assignment) equal(b Assignment) bool {
	return same(&a.Stable, &b.Stable) && same(a.Canary, b.Canary)
}

// Texts returns the revisions that the first assignment needs, so that they can be stored before they serve.
func (a Assignment) Texts(spec *v1alpha1.WorkerPoolSpec) revision.Texts {
	texts := revision.Texts{}
	text := revision.Of(spec)
	for _, t := range []revision.Text{text, text.On(v1alpha1.PoolV1), text.On(v1alpha1.PoolV2)} {
		if h := t.Hash(); h == a.Stable.Revision || (a.Canary != nil && h == a.Canary.Revision) {
			texts[h] = t
		}
	}
	return texts
}
