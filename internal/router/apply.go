package router

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

// acceptTimeout bounds how long a snapshot waits for the slots to take their configuration; they answer at once,
// and start workers afterwards.
const acceptTimeout = 2 * time.Second

// Apply puts a leader's snapshot in force, or says why it isn't: then the one before still is, except that a weight
// which the refused one lowers is lowered all the same. A slot that requests will go to must have accepted its
// configuration before the table names it; a slot that goes idle is told after the table has left it, so that no
// request meets a slot that is being emptied.
func (r *Router) Apply(ctx context.Context, s *controlpb.Snapshot) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if err := state.CheckOrder(state.PositionOf(s), r.Position()); err != nil {
		return err
	}
	if err := state.Validate(s); err != nil {
		return err
	}
	s, err := state.KeepRollback(s, r.kept.Load())
	if err != nil {
		return err
	}
	r.lowerWeightLocked(s)
	if err := r.configureServing(ctx, s); err != nil {
		return err
	}
	r.swapLocked(s)
	r.configureIdle(s)
	r.saveLocked(s)
	return nil
}

// start puts s in force without waiting for the slots: requests wait for them instead. For the snapshot that a
// router begins with.
func (r *Router) start(s *controlpb.Snapshot) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if r.table.Load() != nil {
		return nil // the operator's came first
	}
	l := limitsOf(s)
	for _, slot := range s.GetSlots() {
		if _, err := r.slots[slot.GetName()].Configure(slotConfig(r.cfg.Pool, slot, l)); err != nil {
			return err
		}
	}
	r.swapLocked(s)
	return nil
}

// Position returns where the newest snapshot stands that was ever put in force in this pod: what is on disk fences an
// old leader even before it is in force again.
func (r *Router) Position() state.Position { return state.PositionOf(r.kept.Load()) }

// Kept returns the newest snapshot that was ever put in force in this pod, nil when none was.
func (r *Router) Kept() *controlpb.Snapshot { return r.kept.Load() }

// lowerWeightLocked lowers the canary's weight at once when s gives the same canary less, or ends it: a rollback
// must not wait for a slot. Caller must hold applying.
func (r *Router) lowerWeightLocked(s *controlpb.Snapshot) {
	if lowered := r.lowerWeight(s); lowered != nil {
		r.saveLocked(lowered)
	}
}

// lowerWeight returns the snapshot that is in force with a lower weight, nil when nothing is lowered. At no weight the
// stable also gets what waits for the canary's workers.
func (r *Router) lowerWeight(s *controlpb.Snapshot) *controlpb.Snapshot {
	r.routing.Lock()
	defer r.routing.Unlock()
	t := r.table.Load()
	if t == nil || t.canary == nil {
		return nil
	}
	weight := weightOf(t.canary, s)
	if weight >= t.weight {
		return nil
	}
	lowered := *t
	lowered.weight = weight
	lowered.snapshot = proto.CloneOf(t.snapshot)
	lowered.snapshot.CanaryWeight = weight
	if s.GetRolledBack() != nil {
		lowered.snapshot.RolledBack = s.GetRolledBack()
	}
	if weight == 0 {
		r.takeBackLocked(&lowered)
	}
	r.installLocked(&lowered)
	return lowered.snapshot
}

// weightOf returns the share that s gives to what is the canary now.
func weightOf(c *target, s *controlpb.Snapshot) uint32 {
	switch slot := slotOf(s, c.slot.Name()); {
	case slot.GetRevision().GetHash() != c.revision:
		return 0
	case s.GetStable() == c.slot.Name():
		return ^uint32(0) // it is promoted
	case s.GetCanary() == c.slot.Name():
		return s.GetCanaryWeight()
	}
	return 0
}

// configureServing tells every slot that has a revision, then waits until all of them have accepted.
func (r *Router) configureServing(ctx context.Context, s *controlpb.Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	l := limitsOf(s)
	numbers := map[string]uint64{}
	for _, slot := range s.GetSlots() {
		if slot.GetRevision() == nil {
			continue
		}
		number, err := r.slots[slot.GetName()].Configure(slotConfig(r.cfg.Pool, slot, l))
		if err != nil {
			return err
		}
		numbers[slot.GetName()] = number
	}
	for _, name := range slotNames {
		if number, told := numbers[name]; told {
			if err := r.slots[name].Accepted(ctx, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// configureIdle tells the slots without a revision to stop their workers. It waits for nothing: they serve nobody.
func (r *Router) configureIdle(s *controlpb.Snapshot) {
	l := limitsOf(s)
	for _, slot := range s.GetSlots() {
		if slot.GetRevision() != nil {
			continue
		}
		if _, err := r.slots[slot.GetName()].Configure(slotConfig(r.cfg.Pool, slot, l)); err != nil {
			r.log.Error("slot can't be told to go idle", "slot", slot.GetName(), "error", err)
		}
	}
}

// swapLocked makes s what requests are routed by; caller must hold applying.
func (r *Router) swapLocked(s *controlpb.Snapshot) {
	r.routing.Lock()
	defer r.routing.Unlock()
	t := &table{
		snapshot: s,
		stable:   r.targetOf(s, s.GetStable()),
		canary:   r.targetOf(s, s.GetCanary()),
		weight:   s.GetCanaryWeight(),
		match:    matchOf(s.GetMatch()),
		sticky:   s.GetStickiness() == controlpb.Stickiness_STICKINESS_SESSION,
		limits:   limitsOf(s),
	}
	r.holdTripLocked(t)
	before := r.table.Load()
	r.installLocked(t)
	if before == nil || !proto.Equal(before.snapshot, s) {
		r.log.Info("snapshot in force", "epoch", s.GetEpoch(), "sequence", s.GetSequence(),
			"stable", s.GetStable(), "canary", s.GetCanary(), "weight", s.GetCanaryWeight(), "tripped", t.trip != nil)
	}
}

func (r *Router) targetOf(s *controlpb.Snapshot, name string) *target {
	slot := slotOf(s, name)
	if slot == nil {
		return nil
	}
	version := pool.Version(slot.GetRevision().GetVersion())
	hash := slot.GetRevision().GetHash()
	workers := int(slot.GetSize()) + int(slot.GetOverflow())
	running := workers * max(1, int(slot.GetRevision().GetConcurrency())) // under v1 too: its queue is as long as v2's
	return &target{
		slot: r.slots[name], revision: hash, version: version, counters: r.ledger.of(hash, version),
		workers: workers, places: placesOf(running, limitsOf(s)), inside: r.inside[name],
	}
}

func slotOf(s *controlpb.Snapshot, name string) *controlpb.Slot {
	for _, slot := range s.GetSlots() {
		if slot.GetName() == name {
			return slot
		}
	}
	return nil
}

// installLocked publishes t and wakes the requests that wait for a change; caller must hold routing.
func (r *Router) installLocked(t *table) {
	r.table.Store(t)
	r.news.broadcast()
}

// saveLocked keeps s on disk, so that a restarted router begins with it; caller must hold applying. A failure is
// logged and no more: the snapshot is in force, and the operator sends it again after a restart.
func (r *Router) saveLocked(s *controlpb.Snapshot) {
	if before := r.kept.Load(); before != nil && proto.Equal(before, s) {
		return
	}
	r.kept.Store(s)
	if err := r.store.Save(s); err != nil {
		r.log.Error("snapshot is in force, and would be lost if the router restarted", "error", err)
	}
}
