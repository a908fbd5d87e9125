//go:build integration

package operator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// steps of a second each.
func steps(weights ...int32) *v1alpha1.Canary {
	c := &v1alpha1.Canary{}
	for _, w := range weights {
		c.Steps = append(c.Steps, v1alpha1.Step{Weight: intstr.FromInt32(w), Duration: metav1.Duration{Duration: time.Second}})
	}
	return c
}

// slowStep is one that no test outlasts.
func slowStep(weight int32) *v1alpha1.Canary {
	c := steps(weight)
	c.Steps[0].Duration.Duration = time.Hour
	return c
}

// traffic lets pods serve a thousand requests a second each, until the test ends or stop is called.
func (w *world) traffic(scripts []*script) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-tick.C:
				for _, s := range scripts {
					s.serve(100, time.Millisecond)
				}
			case <-ended:
				tick.Stop()
				return
			}
		}
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			close(ended)
			<-done
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// annotate writes a pool's annotation, as kubectl annotate --overwrite does.
func (w *world) annotate(name, annotation, value string) {
	w.t.Helper()
	w.await("annotation of "+name, func() error {
		pool := w.get(name)
		if pool.Annotations == nil {
			pool.Annotations = map[string]string{}
		}
		pool.Annotations[annotation] = value
		return server.Client.Update(w.t.Context(), pool, client.FieldOwner("test"))
	})
}

// awaitEvent waits for an event whose note has all of the parts.
func (w *world) awaitEvent(kind, reason string, parts ...string) {
	w.t.Helper()
	w.await("event "+reason, func() error {
		var list eventsv1.EventList
		if err := server.Client.List(w.t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		var seen []string
		for i := range list.Items {
			e := &list.Items[i]
			seen = append(seen, e.Type+" "+e.Reason+": "+e.Note)
			lacks := func(part string) bool { return !strings.Contains(e.Note, part) }
			if e.Type == kind && e.Reason == reason && !slices.ContainsFunc(parts, lacks) {
				return nil
			}
		}
		return fmt.Errorf("there are only:\n%s", strings.Join(seen, "\n"))
	})
}

// migrating is a pool of two pods that serve v1, and go to v2 as the canary says.
func (w *world) migrating(canary *v1alpha1.Canary, change func(*v1alpha1.WorkerPoolSpec)) []*script {
	w.t.Helper()
	scripts := w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV1
		if change != nil {
			change(s)
		}
	}), 2)
	w.awaitReady("main", "Promoted")
	w.traffic(scripts)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, canary })
	return scripts
}

func failing(scripts []*script, share float64) {
	for _, s := range scripts {
		s.set(func(s *script) { s.failing["v2"] = share })
	}
}

// stays fails when a weight comes into force within a second.
func (w *world) stays(s *script, weight uint32) {
	w.t.Helper()
	before := len(s.weights())
	time.Sleep(time.Second) // in which a weight could move that mustn't
	if got := s.weights(); s.inForce().GetCanaryWeight() != weight || slices.ContainsFunc(got[before:], func(w uint32) bool { return w != weight }) {
		w.t.Errorf("weights in force %v and then %v, want %d all the time", got[:before], got[before:], weight)
	}
}

// awaitWeight waits until all pods have acknowledged the canary's weight, and returns the pool.
func (w *world) awaitWeight(percent string) *v1alpha1.WorkerPool {
	w.t.Helper()
	var pool *v1alpha1.WorkerPool
	w.await("weight "+percent, func() error {
		if pool = w.get("main"); pool.Status.Weight.Summary != percent {
			return errors.New(show(pool))
		}
		return nil
	})
	return pool
}

// awaitCounted waits until an operator has counted these rollbacks, by reason, and no others: it counts after it has
// written.
func (w *world) awaitCounted(o *operator, want map[string]float64) {
	w.t.Helper()
	w.await("count of rollbacks", func() error {
		if diff := cmp.Diff(want, o.rollbacks()); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// distinct leaves out what is the same as before it.
func distinct(weights []uint32) []uint32 { return slices.Compact(weights) }

func TestO15_O35_ThreeStepsToPromotion(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(steps(5, 25, 50), nil)
	got := w.awaitReady("main", "Promoted")
	if got.Status.Stable.Version != v1alpha1.PoolV2 || got.Status.Canary != nil || got.Status.Rollout != nil {
		t.Errorf("stable %+v, canary %+v, rollout %+v", got.Status.Stable, got.Status.Canary, got.Status.Rollout)
	}
	for _, s := range scripts {
		if diff := cmp.Diff([]uint32{0, 500, 2500, 5000, 10000, 0}, distinct(s.weights())); diff != "" {
			t.Errorf("weights in force (-want +got):\n%s", diff)
		}
	}
	w.awaitEvent("Normal", "StepAdvanced", "step 2 of 3, 25 %")
	w.awaitEvent("Normal", "StepAdvanced", "step 3 of 3, 50 %")
	w.awaitEvent("Normal", "Promoted")
	if n := o.rollbacks(); len(n) != 0 || got.Status.LastRollback != nil {
		t.Errorf("rolled back %v: %+v", n, got.Status.LastRollback)
	}
}

// A v2 that fails three of ten requests is rolled back by its evidence, once, and comes back by a token alone.
func TestO26_O35_O36_O37_O38_O39_ABadCanary(t *testing.T) {
	first := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), nil)
	w.awaitWeight("25")
	w.await("a look that finds it healthy", func() error {
		if c := condition(w.get("main"), v1alpha1.ConditionErrorsHealthy); c.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	generation := w.get("main").Generation
	failing(scripts, 0.3)
	back := w.awaitWeight("0")
	w.showRollback(back)
	w.awaitCounted(first, map[string]float64{"ErrorRateExceeded": 1})
	w.awaitEvent("Normal", "CanaryDropped", "s after the rollback was decided")
	w.awaitEvent("Warning", "RolledBack", "v2 (", ") → v1 (", "error rate", " % against 0 %, n=")
	if back.Generation != generation {
		t.Errorf("TestO8: generation %d → %d", generation, back.Generation)
	}
	for _, f := range back.ManagedFields {
		if f.Manager == v1alpha1.ManagedBy && f.Subresource != "status" {
			t.Errorf("TestO8: the operator owns %s", f.FieldsV1.GetRawString())
		}
	}

	second := w.anotherLeader(first, scripts)
	w.stays(scripts[0], 0)
	w.awaitReady("main", "RolledBack")

	w.annotate("main", v1alpha1.RetryAnnotation, "fixed")
	w.await("another try", func() error {
		if scripts[0].inForce().GetCanaryWeight() != 2500 {
			return fmt.Errorf("weights %v", scripts[0].weights())
		}
		return nil
	})
	again := w.awaitReady("main", "RolledBack")
	if again.Status.LastRollback.Time.Equal(&back.Status.LastRollback.Time) {
		t.Errorf("TestO38: the retry wasn't rolled back anew: %+v", again.Status.LastRollback)
	}
	w.awaitCounted(second, map[string]float64{"ErrorRateExceeded": 1})
	if c := condition(again, v1alpha1.ConditionRolledBack); !strings.Contains(c.Message, `"fixed"`) || scripts[0].inForce().GetTrip().GetToken() != "fixed" {
		t.Errorf("TestO38: the used token isn't named, or the routers weren't told: %s", c.Message)
	}
	w.stays(scripts[0], 0)

	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 })
	reverted := w.awaitReady("main", "Promoted")
	if s := reverted.Status; s.BlockedRevision != "" || s.LastRollback == nil || condition(reverted, v1alpha1.ConditionRolledBack).Status != metav1.ConditionFalse {
		t.Errorf("TestO39: blocked %q, last rollback %+v", s.BlockedRevision, s.LastRollback)
	}
}

// TestO26_ACanaryIsGuardedThoughAPodRefusesIt: the others send it requests, and what it does with these counts.
func TestO26_ACanaryIsGuardedThoughAPodRefusesIt(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 }), 2)
	w.awaitReady("main", "Promoted")
	w.traffic(scripts)
	failing(scripts, 0.3)
	for _, s := range scripts {
		s.set(func(s *script) { s.starting = true })
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, slowStep(25) })
	w.awaitReady("main", "WaitingForWorkers")
	w.await("the canary in both pods", func() error {
		for i, s := range scripts {
			if s.inForce().GetCanary() == "" {
				return fmt.Errorf("none in pod %d", i)
			}
		}
		return nil
	})
	scripts[1].set(func(s *script) { s.starting, s.withheld = false, true })
	scripts[0].set(func(s *script) { s.starting = false })
	back := w.awaitReady("main", "RolledBack")
	if last := back.Status.LastRollback; last.Reason != "ErrorRateExceeded" || slices.Max(scripts[1].weights()) != 0 {
		t.Errorf("last rollback %+v, weights of the pod that refuses %v", last, scripts[1].weights())
	}
}

// showRollback compares a pool that was rolled back with what people are to find.
func (w *world) showRollback(pool *v1alpha1.WorkerPool) {
	w.t.Helper()
	for name, want := range map[string]string{
		v1alpha1.ConditionAvailable: "True StableServing", v1alpha1.ConditionStalled: "True RolledBack",
		v1alpha1.ConditionRolledBack: "True ErrorRateExceeded", v1alpha1.ConditionErrorsHealthy: "False ErrorRateExceeded",
		v1alpha1.ConditionMetricsAvailable: "True AllReporting",
	} {
		if c := condition(pool, name); string(c.Status)+" "+c.Reason != want {
			w.t.Errorf("%s is %s %s, want %s", name, c.Status, c.Reason, want)
		}
	}
	message := condition(pool, v1alpha1.ConditionRolledBack).Message
	for _, part := range []string{"at 25 %: v2 failed ", "v1 0 of ", "same pods", "allowed increase 1 %", "kubectl annotate", "pool.dspex.dev/retry="} {
		if !strings.Contains(message, part) {
			w.t.Errorf("TestO35: RolledBack lacks %q: %s", part, message)
		}
	}
	last := pool.Status.LastRollback
	if last == nil || pool.Status.BlockedRevision != last.Revision || last.From != "v2" || last.To != "v1" || last.Weight != "25" || len(last.Evidence) == 0 {
		w.t.Errorf("TestO35: blocked %q, last rollback %+v", pool.Status.BlockedRevision, last)
	}
	if c := condition(pool, v1alpha1.ConditionReady); string(c.Status)+" "+c.Reason != "False RolledBack" || pool.Status.Weight.Summary != "0" {
		w.t.Errorf("Ready is %s %s, weight %+v", c.Status, c.Reason, pool.Status.Weight)
	}
}

// TestO40_DryRunChangesNothing and says what it would have done.
func TestO40_DryRunChangesNothing(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), func(s *v1alpha1.WorkerPoolSpec) { s.Rollback.Policy = v1alpha1.RollbackDryRun })
	failing(scripts, 0.3)
	w.await("a finding", func() error {
		if c := condition(w.get("main"), v1alpha1.ConditionErrorsHealthy); c.Status != metav1.ConditionFalse || c.Reason != "ErrorRateExceeded" {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	w.awaitEvent("Warning", "WouldRollBack", "ErrorRateExceeded", "v2 failed")
	w.stays(scripts[0], 2500)
	got := w.get("main")
	if got.Status.BlockedRevision != "" || got.Status.LastRollback != nil || len(o.rollbacks()) != 0 || !scripts[0].inForce().GetTrip().GetReportOnly() {
		t.Errorf("blocked %q, last rollback %+v, counted %v, told %v", got.Status.BlockedRevision, got.Status.LastRollback, o.rollbacks(), scripts[0].inForce().GetTrip())
	}
}

// TestPolicyPauseHolds where it is, until someone aborts.
func TestPolicyPauseHolds(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), func(s *v1alpha1.WorkerPoolSpec) { s.Rollback.Policy = v1alpha1.RollbackPause })
	failing(scripts, 0.3)
	held := w.awaitReady("main", "AnalysisFailed")
	for name, want := range map[string]string{
		v1alpha1.ConditionPaused: "True RollbackPolicy", v1alpha1.ConditionErrorsHealthy: "False ErrorRateExceeded", v1alpha1.ConditionStalled: "True AnalysisFailed",
	} {
		if c := condition(held, name); string(c.Status)+" "+c.Reason != want {
			t.Errorf("%s is %s %s, want %s", name, c.Status, c.Reason, want)
		}
	}
	w.stays(scripts[0], 2500)
	w.annotate("main", v1alpha1.AbortAnnotation, "enough")
	back := w.awaitReady("main", "RolledBack")
	if back.Status.LastRollback.Reason != "Aborted" || back.Status.Handled.Abort != "enough" {
		t.Errorf("last rollback %+v, handled %+v", back.Status.LastRollback, back.Status.Handled)
	}
	w.awaitCounted(o, map[string]float64{"Aborted": 1})
}

// TestO82_TheFleetFollowsItsPods when more than one and more than a tenth tripped by themselves.
func TestO82_TheFleetFollowsItsPods(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(slowStep(25), nil)
	w.awaitWeight("25")
	trip := &controlpb.Trip{Revision: w.get("main").Status.Canary.Revision, Reason: "CrashLoop", Message: "3 workers crashed within 10 s"}
	scripts[0].set(func(s *script) { s.trip = trip })
	w.awaitReady("main", "PodsTripped")
	w.stays(scripts[1], 2500)
	scripts[1].set(func(s *script) { s.trip = trip })
	back := w.awaitReady("main", "RolledBack")
	if last := back.Status.LastRollback; last.Reason != "PodsTripped" || !strings.Contains(strings.Join(last.Evidence, "\n"), "3 workers crashed within 10 s") {
		t.Errorf("last rollback %+v", last)
	}
	w.awaitCounted(o, map[string]float64{"PodsTripped": 1})
	w.awaitEvent("Warning", "RolledBack", "PodsTripped", "CrashLoop")
}

// TestO31_SilentTelemetryHolds a canary where it is, and never takes it back.
func TestO31_SilentTelemetryHolds(t *testing.T) {
	o := startOperator(t)
	w := newWorld(t)
	scripts := w.migrating(steps(25, 50), func(s *v1alpha1.WorkerPoolSpec) { s.Analysis.MinSamples = new(int32(900000)) })
	w.awaitReady("main", "InsufficientSamples")
	scripts[1].hush()
	w.await("MetricsAvailable=False", func() error {
		c := condition(w.get("main"), v1alpha1.ConditionMetricsAvailable)
		if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "main-1") {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Analysis.MinSamples = new(int32(10)) })
	w.awaitReady("main", "MetricsUnavailable")
	w.stays(scripts[0], 2500)
	scripts[1].speak()
	w.awaitReady("main", "Promoted")
	if n := o.rollbacks(); len(n) != 0 {
		t.Errorf("rolled back: %v", n)
	}
}
