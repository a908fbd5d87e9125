// Package state says which snapshots a router may apply, and keeps the last one that it did on disk.
package state

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/split"
)

// The slots' names.
const (
	SlotA = "a"
	SlotB = "b"
)

// Position orders snapshots: by the leader's epoch, then by its sequence. The zero Position is a bootstrap's, which
// every leader's snapshot supersedes.
type Position struct{ Epoch, Sequence uint64 }

// PositionOf returns where a snapshot stands; a nil one stands at zero.
func PositionOf(s *controlpb.Snapshot) Position {
	return Position{Epoch: s.GetEpoch(), Sequence: s.GetSequence()}
}

// Before reports whether p is older than q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Sequence < q.Sequence
}

// String renders "epoch 12, sequence 3".
func (p Position) String() string { return fmt.Sprintf("epoch %d, sequence %d", p.Epoch, p.Sequence) }

// ErrRefused is what the errors of CheckOrder and Validate are: trying the same snapshot again is of no use.
var ErrRefused = errors.New("snapshot refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// CheckOrder refuses a leader's snapshot that is older than the one in force: it comes from a leader that isn't one
// any more. An equal one is fine: a leader sends it again on each new stream.
func CheckOrder(next, inForce Position) error {
	switch {
	case next.Epoch == 0:
		return refuse("a leader's epoch is never 0")
	case next.Before(inForce):
		return refuse("%v is older than %v, which is in force", next, inForce)
	}
	return nil
}

// Validate refuses a snapshot that can't be applied as a whole.
func Validate(s *controlpb.Snapshot) error {
	byName := map[string]*controlpb.Slot{}
	for _, slot := range s.GetSlots() {
		byName[slot.GetName()] = slot
	}
	if len(s.GetSlots()) != 2 || byName[SlotA] == nil || byName[SlotB] == nil {
		return refuse("it has %d slots, wanted exactly a and b", len(s.GetSlots()))
	}
	for _, slot := range s.GetSlots() {
		if err := validateSlot(slot); err != nil {
			return err
		}
	}
	if byName[s.GetStable()].GetRevision() == nil {
		return refuse("its stable is slot %q, which has no revision", s.GetStable())
	}
	if err := validateCanary(s, byName[s.GetCanary()]); err != nil {
		return err
	}
	return validateRules(s)
}

// Bounds of what a snapshot says beside slots; the API's are the same or below.
const (
	maxMatches     = 100 // commands, and as many programs
	maxMatchLength = 256 // bytes of a command's or program's name
	maxTokenLength = 256
)

// validateRules bounds match, stickiness and the trip's token.
func validateRules(s *controlpb.Snapshot) error {
	for what, names := range map[string][]string{"commands": s.GetMatch().GetCommands(), "programs": s.GetMatch().GetPrograms()} {
		if len(names) > maxMatches {
			return refuse("its match has %d %s, at most %d", len(names), what, maxMatches)
		}
		for _, name := range names {
			if name == "" || len(name) > maxMatchLength {
				return refuse("its match has a name of %d bytes among the %s, wanted 1 to %d", len(name), what, maxMatchLength)
			}
		}
	}
	if m := s.GetMatch(); m != nil && len(m.GetCommands())+len(m.GetPrograms()) == 0 {
		return refuse("its match names nothing; without one everything matches")
	}
	if _, known := controlpb.Stickiness_name[int32(s.GetStickiness())]; !known {
		return refuse("its stickiness %d is of a later version", s.GetStickiness())
	}
	if n := len(s.GetTrip().GetToken()); n > maxTokenLength {
		return refuse("its trip token has %d bytes, at most %d", n, maxTokenLength)
	}
	return nil
}

func validateCanary(s *controlpb.Snapshot, canary *controlpb.Slot) error {
	switch {
	case s.GetCanaryWeight() > split.Whole:
		return refuse("its canary weight is %d, at most %d", s.GetCanaryWeight(), split.Whole)
	case s.GetCanary() == "" && s.GetCanaryWeight() > 0:
		return refuse("it has a canary weight of %d and no canary", s.GetCanaryWeight())
	case s.GetCanary() != "" && (canary.GetRevision() == nil || s.GetCanary() == s.GetStable()):
		return refuse("its canary is slot %q, which is the stable or has no revision", s.GetCanary())
	}
	return nil
}

func validateSlot(slot *controlpb.Slot) error {
	rev := slot.GetRevision()
	if rev == nil {
		return nil
	}
	switch v := pool.Version(rev.GetVersion()); {
	case rev.GetHash() == "" || rev.GetModule() == "":
		return refuse("slot %s: its revision has no hash or no module", slot.GetName())
	case v != pool.V1 && v != pool.V2:
		return refuse("slot %s: pool version %q is neither v1 nor v2", slot.GetName(), v)
	case slot.GetSize() == 0:
		return refuse("slot %s: size is 0, at least 1", slot.GetName())
	}
	return nil
}

// ParseBootstrap reads the snapshot that came with the pod: protojson, with no epoch. As on the channel, fields that
// this router doesn't know are left aside.
func ParseBootstrap(text []byte) (*controlpb.Snapshot, error) {
	var s controlpb.Snapshot
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("bootstrap snapshot: %w", err)
	}
	if p := PositionOf(&s); p != (Position{}) {
		return nil, fmt.Errorf("bootstrap snapshot bears %v; only a leader's may", p)
	}
	if err := Validate(&s); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &s, nil
}
