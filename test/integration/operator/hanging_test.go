//go:build integration

package operator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// awaitOff waits until no pod gives the canary anything.
func (w *world) awaitOff(scripts []*script) {
	w.t.Helper()
	w.await("weight 0 in every pod", func() error {
		for i, s := range scripts {
			if got := s.inForce().GetCanaryWeight(); got != 0 {
				return fmt.Errorf("pod %d gives it %d", i, got)
			}
		}
		return nil
	})
}

// failed are the requests that a version failed, over all pods.
func failed(scripts []*script, version string) (n uint64) {
	for _, s := range scripts {
		s.mu.Lock()
		for _, c := range s.counters {
			if c.GetVersion() == version {
				n += c.GetErrors()
			}
		}
		s.mu.Unlock()
	}
	return n
}

// TestO26_O36_ARollbackWaitsForNoServer: a canary that fails everything is taken off the traffic while the API server hangs, which
// is recorded, told and counted once that answers again.
func TestO26_O36_ARollbackWaitsForNoServer(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(30), nil)
	w.awaitWeight("30")
	wake := server.Hang(t)
	failing(scripts, 1)
	began := time.Now()
	w.awaitOff(scripts)
	t.Logf("%d requests failed in %.1f s until the canary had none, of a server that hung", failed(scripts, "v2"), time.Since(began).Seconds())
	for i, s := range scripts {
		if back := s.inForce().GetRolledBack(); back.GetReason() != "ErrorRateExceeded" || len(back.GetEvidence()) == 0 {
			t.Errorf("pod %d keeps %v", i, back)
		}
	}
	wake()
	back := w.awaitReady("main", "RolledBack")
	if last := back.Status.LastRollback; last == nil || last.Weight != "30" || back.Status.BlockedRevision != last.Revision {
		t.Errorf("blocked %q, last rollback %+v", back.Status.BlockedRevision, last)
	}
	w.awaitCounted(o, map[string]float64{"ErrorRateExceeded": 1})
	w.awaitEvent("Warning", "RolledBack", "v2 (", "error rate")
	for i, s := range scripts {
		if got := distinct(s.weights()); !slices.Equal(got, []uint32{0, 3000, 0}) {
			t.Errorf("weights of pod %d: %v", i, got)
		}
	}
}

// TestO37_O62_TheNextLeaderFindsTheRollback that its predecessor told the routers and couldn't record any more: no weight comes back.
func TestO37_O62_TheNextLeaderFindsTheRollback(t *testing.T) {
	first := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(30), nil)
	before := w.awaitWeight("30")
	first.stop()
	back := &controlpb.RolledBack{
		Revision: before.Status.Canary.Revision, From: "v2", To: "v1", ToRevision: before.Status.Stable.Revision,
		Weight: "30", Reason: "ErrorRateExceeded", Evidence: []string{"v2 failed 100 of 100 requests"}, AtUnix: time.Now().Unix(),
	}
	for _, s := range scripts {
		s.set(func(s *script) {
			s.snapshot = proto.CloneOf(s.snapshot)
			s.snapshot.CanaryWeight, s.snapshot.RolledBack = 0, back
			s.snapshot.Sequence++
			s.history = nil
		})
	}
	second := startOperator(t)
	got := w.awaitReady("main", "RolledBack")
	last := got.Status.LastRollback
	if last == nil || last.Revision != back.GetRevision() || last.Reason != back.GetReason() || !slices.Equal(last.Evidence, back.GetEvidence()) {
		t.Errorf("last rollback %+v", last)
	}
	w.await("the canary's end", func() error {
		if pool := w.get("main"); pool.Status.Canary != nil || pool.Status.BlockedRevision != back.GetRevision() {
			return errors.New(show(pool))
		}
		return nil
	})
	for i, s := range scripts {
		if weights := s.weights(); len(weights) == 0 || slices.Max(weights) > 0 {
			t.Errorf("pod %d was given %v", i, weights)
		}
	}
	w.awaitCounted(second, map[string]float64{"ErrorRateExceeded": 1})
	w.annotate("main", v1alpha1.RetryAnnotation, "fixed")
	w.awaitWeight("30")
}
