//go:build integration

package operator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// A pause holds a step that is over, over a change of leader too; a promote token skips what is left.
func TestO22_PauseResumeAndPromote(t *testing.T) {
	first := startOperator(t)
	w := newWorld(t)
	canary := steps(5, 25, 50)
	canary.Steps[2].Duration.Duration = time.Hour
	scripts := w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 }), 2)
	w.awaitReady("main", "Promoted")
	w.traffic(scripts)
	w.annotate("main", v1alpha1.PauseAnnotation, "p1")
	w.await("the pause", func() error {
		if c := condition(w.get("main"), v1alpha1.ConditionPaused); c.Reason != v1alpha1.HeldByToken {
			return fmt.Errorf("%s %s", c.Status, c.Reason)
		}
		return nil
	})
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, canary })
	w.awaitReady("main", "Paused")
	w.stays(scripts[0], 0)
	w.anotherLeader(first, scripts)
	w.stays(scripts[0], 0)
	w.annotate("main", v1alpha1.ResumeAnnotation, "r1")
	w.awaitWeight("50")
	w.annotate("main", v1alpha1.PromoteAnnotation, "now")
	got := w.awaitReady("main", "Promoted")
	want := v1alpha1.HandledTokens{Pause: "p1", Resume: "r1", Promote: "now"}
	if diff := cmp.Diff(want, got.Status.Handled); diff != "" || got.Status.Stable.Version != v1alpha1.PoolV2 {
		t.Errorf("stable %+v, handled (-want +got):\n%s", got.Status.Stable, diff)
	}
	if diff := cmp.Diff([]uint32{0, 500, 2500, 5000, 10000, 0}, distinct(scripts[0].weights())); diff != "" {
		t.Errorf("weights in force (-want +got):\n%s", diff)
	}
	w.awaitEvent("Normal", "Paused")
	w.awaitEvent("Normal", "Resumed")
	w.awaitEvent("Normal", "PromoteRequested")
}

// TestO22_O62_ALeaderThatDiesBeforeItTellsTheRouters: the status has the rollback, the pods have the canary still, and
// whoever leads next comes to the same.
func TestO22_O62_ALeaderThatDiesBeforeItTellsTheRouters(t *testing.T) {
	first := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), nil)
	w.awaitWeight("25")
	first.stop()
	pool := w.get("main")
	canary := pool.Status.Canary
	pool.Status.BlockedRevision = canary.Revision
	pool.Status.LastRollback = &v1alpha1.RollbackStatus{
		Revision: canary.Revision, From: "v2", To: "v1", ToRevision: pool.Status.Stable.Revision, Weight: "25",
		Reason: "ErrorRateExceeded", Evidence: []string{"v2 failed"}, Time: metav1.Now(),
	}
	pool.Status.Rollout = nil
	w.must(server.Client.Status().Update(w.t.Context(), pool, client.FieldOwner(v1alpha1.ManagedBy)))

	second := startOperator(t)
	back := w.awaitWeight("0")
	if c := condition(back, v1alpha1.ConditionRolledBack); c.Status != metav1.ConditionTrue || c.Reason != "ErrorRateExceeded" || back.Status.LastRollback.Evidence[0] != "v2 failed" {
		t.Errorf("RolledBack %s %s, last rollback %+v", c.Status, c.Reason, back.Status.LastRollback)
	}
	w.await("weight 0 in both pods", func() error {
		for _, s := range scripts {
			if s.inForce().GetCanaryWeight() != 0 {
				return fmt.Errorf("weights %v", s.weights())
			}
		}
		return nil
	})
	if n := second.rollbacks(); len(n) != 0 {
		t.Errorf("TestO36: counted a second time: %v", n)
	}
}

// TestO32_AllPodsAway: nothing is done, whatever they did before.
func TestO32_AllPodsAway(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = slowStep(25) })
	var disconnect []func()
	var scripts []*script
	for i := range 2 {
		s := newScript()
		disconnect = append(disconnect, w.connect(w.pod(fmt.Sprintf("main-%d", i), pool, nil), s))
		scripts = append(scripts, s)
	}
	w.traffic(scripts)
	w.awaitWeight("25")
	for _, leave := range disconnect {
		leave()
	}
	failing(scripts, 1)
	away := w.awaitReady("main", "PodsUnreachable")
	if c := condition(away, v1alpha1.ConditionMetricsAvailable); c.Status != metav1.ConditionFalse || c.Reason != "PodsUnreachable" {
		t.Errorf("MetricsAvailable %s %s: %s", c.Status, c.Reason, c.Message)
	}
	if got := w.get("main"); got.Status.BlockedRevision != "" || got.Status.Canary == nil || len(o.rollbacks()) != 0 {
		t.Errorf("something was done: %s", show(got))
	}
	w.stays(scripts[0], 2500)
}

// TestO5_O30_APinnedCanaryWithoutTrafficIsNotWritten: it is looked at every two seconds, and there is nothing new to say.
func TestO5_O30_APinnedCanaryWithoutTrafficIsNotWritten(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("10") }), 2)
	before := w.awaitIdleLook("main")
	time.Sleep(7 * time.Second) // three looks, and longer than messages wait
	if after := w.get("main"); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("written while nothing happens:\n%s", cmp.Diff(before.Status, after.Status))
	}
}

// awaitIdleLook waits for a look at a canary without traffic, after which there is nothing new to say, and returns the pool.
func (w *world) awaitIdleLook(name string) *v1alpha1.WorkerPool {
	w.t.Helper()
	var pool *v1alpha1.WorkerPool
	w.await("a look", func() error {
		pool = w.get(name)
		if c := condition(pool, v1alpha1.ConditionErrorsHealthy); c.Status != metav1.ConditionUnknown || c.Reason != "NoComparison" {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	return pool
}

// TestO10_O79_WhatIsAskedForIsToldOrRefused: the routers get match and stickiness; an approval, which isn't supported
// yet, is refused in a condition.
func TestO10_O79_WhatIsAskedForIsToldOrRefused(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.Canary = weight("10")
		s.Canary.Match = &v1alpha1.Match{Commands: []string{"rank"}}
		s.Canary.Stickiness = v1alpha1.StickinessSession
	})
	s := w.served(pool, 1)[0]
	w.awaitReady("main", "CanaryPinned")
	in := s.inForce()
	if got := in.GetMatch().GetCommands(); len(got) != 1 || got[0] != "rank" || in.GetStickiness() != controlpb.Stickiness_STICKINESS_SESSION {
		t.Errorf("in force: match %v, stickiness %v", got, in.GetStickiness())
	}
	w.annotate("main", "pool.dspex.dev/approve", "x/1")
	w.await("Accepted=False", func() error {
		c := condition(w.get("main"), v1alpha1.ConditionAccepted)
		if c.Status != metav1.ConditionFalse || c.Reason != "UnsupportedAnnotation" || !strings.Contains(c.Message, "pool.dspex.dev/pause") {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
}

// TestO21_AnotherRevisionWhileOneIsBlocked starts from the stable, at the first step.
func TestO21_AnotherRevisionWhileOneIsBlocked(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), nil)
	w.awaitWeight("25")
	w.annotate("main", v1alpha1.AbortAnnotation, "bad")
	w.awaitWeight("0")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Env = []v1alpha1.EnvVar{{Name: "FIXED", Value: "1"}}
		s.Canary.Steps[0].Weight = intstr.FromString("0.25%")
	})
	got := w.awaitWeight("0.25")
	if got.Status.BlockedRevision != "" || got.Status.Stable.Version != v1alpha1.PoolV1 || got.Status.Rollout.Step != 1 || got.Status.LastRollback == nil {
		t.Errorf("blocked %q, stable %+v, rollout %+v, last rollback %+v", got.Status.BlockedRevision, got.Status.Stable, got.Status.Rollout, got.Status.LastRollback)
	}
	if diff := cmp.Diff([]uint32{0, 2500, 0, 25}, distinct(scripts[0].weights())); diff != "" {
		t.Errorf("weights in force (-want +got):\n%s", diff)
	}
}
