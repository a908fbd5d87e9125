package state

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// TestO37_AnUnknowingLeaderRaisesNothing: what a leader of an earlier epoch rolled back gets nothing from one that doesn't know
// of it, until that one does, or a retry token has ended it.
func TestO37_AnUnknowingLeaderRaisesNothing(t *testing.T) {
	kept := valid()
	kept.CanaryWeight, kept.Trip = 0, &controlpb.TripRule{Token: "one"}
	kept.RolledBack = &controlpb.RolledBack{Revision: slotOf(kept, kept.GetCanary()).GetRevision().GetHash(), Reason: "ErrorRateExceeded", AtUnix: 100}
	for name, tc := range map[string]struct {
		change func(*controlpb.Snapshot)
		weight uint32
		keeps  bool // the rollback, as it was
		fails  bool
	}{
		"that knows nothing":        {func(*controlpb.Snapshot) {}, 0, true, false},
		"that knows an earlier one": {func(s *controlpb.Snapshot) { s.RolledBack = &controlpb.RolledBack{AtUnix: 99} }, 0, true, false},
		"that knows it":             {func(s *controlpb.Snapshot) { s.RolledBack = proto.CloneOf(kept.RolledBack) }, 3000, true, false},
		"that knows a later one":    {func(s *controlpb.Snapshot) { s.RolledBack = &controlpb.RolledBack{AtUnix: 101} }, 3000, false, false},
		"after a retry":             {func(s *controlpb.Snapshot) { s.Trip.Token = "two" }, 3000, false, false},
		"with another canary":       {func(s *controlpb.Snapshot) { slotOf(s, s.Canary).Revision.Hash = "r9" }, 3000, true, false},
		"without one":               {func(s *controlpb.Snapshot) { s.Canary, s.CanaryWeight = "", 0 }, 0, true, false},
		"that promoted what it was": {func(s *controlpb.Snapshot) { s.Stable, s.Canary, s.CanaryWeight = s.Canary, "", 0 }, 0, false, true},
		"that promoted what it was, and knows": {func(s *controlpb.Snapshot) {
			s.Stable, s.Canary, s.CanaryWeight, s.RolledBack = s.Canary, "", 0, &controlpb.RolledBack{AtUnix: 100}
		}, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			next := valid()
			next.CanaryWeight, next.Trip, next.RolledBack = 3000, &controlpb.TripRule{Token: "one"}, nil
			tc.change(next)
			untouched := proto.CloneOf(next)
			got, err := KeepRollback(next, kept)
			if (err != nil) != tc.fails || errors.Is(err, ErrRefused) {
				t.Fatalf("%v", err)
			}
			if err == nil && (got.GetCanaryWeight() != tc.weight || proto.Equal(got.GetRolledBack(), kept.GetRolledBack()) != tc.keeps) {
				t.Errorf("weight %d, keeps %v", got.GetCanaryWeight(), got.GetRolledBack())
			}
			if !proto.Equal(next, untouched) {
				t.Error("the leader's snapshot was written to")
			}
		})
	}
	if got, err := KeepRollback(valid(), nil); err != nil || !proto.Equal(got, valid()) {
		t.Errorf("with nothing kept: %v, %v", got, err)
	}
}
