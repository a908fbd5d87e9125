package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// KeepRollback returns next as it may be put in force after kept, which may be nil. Routers are told of a rollback before it
// is recorded; the leader of next may have begun without that record. Then its canary gets nothing, and the rollback is kept,
// until a leader knows of it. A snapshot that makes the stable of what was rolled back isn't put in force before that.
func KeepRollback(next, kept *controlpb.Snapshot) (*controlpb.Snapshot, error) {
	back := kept.GetRolledBack()
	if back == nil || knows(next, kept) {
		return next, nil
	}
	if slotOf(next, next.GetStable()).GetRevision().GetHash() == back.GetRevision() {
		return nil, fmt.Errorf("revision %s was rolled back (%s), which the leader of %v doesn't know yet", back.GetRevision(), back.GetReason(), PositionOf(next))
	}
	held := proto.CloneOf(next)
	held.RolledBack = proto.CloneOf(back)
	if slotOf(next, next.GetCanary()).GetRevision().GetHash() == back.GetRevision() {
		held.CanaryWeight = 0
	}
	return held, nil
}

// knows reports whether the leader of next knows of the rollback that kept has, or a retry token has ended that since.
func knows(next, kept *controlpb.Snapshot) bool {
	return next.GetRolledBack().GetAtUnix() >= kept.GetRolledBack().GetAtUnix() || next.GetTrip().GetToken() != kept.GetTrip().GetToken()
}

func slotOf(s *controlpb.Snapshot, name string) *controlpb.Slot {
	for _, slot := range s.GetSlots() {
		if name != "" && slot.GetName() == name {
			return slot
		}
	}
	return nil
}
