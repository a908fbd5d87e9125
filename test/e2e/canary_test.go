//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// stepwise brings v2 in by steps of that duration and those weights, with few samples each.
func stepwise(each time.Duration, weights ...int32) func(*v1alpha1.WorkerPoolSpec) {
	return func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV2
		s.Canary = &v1alpha1.Canary{}
		for _, w := range weights {
			s.Canary.Steps = append(s.Canary.Steps, v1alpha1.Step{
				Weight: intstr.FromInt32(w), Duration: metav1.Duration{Duration: each}, MinSamples: new(int32(20)),
			})
		}
	}
}

// env is what makes a bad revision of the sample worker.
func env(name, value string) func(*v1alpha1.WorkerPoolSpec) {
	return func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Env = append(s.Worker.Env, v1alpha1.EnvVar{Name: name, Value: value})
	}
}

// canary is a pool that serves v1 in two pods, under traffic of callers in each.
func (w *world) canary(callers int) (apps []*harness.App, pods []corev1.Pod) {
	w.Helper()
	w.pool("main", v1alpha1.PoolV1, 2)
	pods = w.start("main", 2)
	apps = cluster.Apps(pods)
	w.awaitReady("main")
	w.begin(apps, sleeping(callers))
	return apps, pods
}

// A new version is brought in by steps, each after the one before has shown nothing against it, and is promoted.
func TestO16_O67_StepsToPromotion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apps, pods := w.canary(4)
	w.change("main", stepwise(3*time.Second, 10, 30, 60))
	for step, weight := range []string{"10", "30", "60"} {
		pool := w.await("main", "at weight "+weight, func(p *v1alpha1.WorkerPool) bool { return p.Status.Weight.Applied == weight })
		if r := pool.Status.Rollout; r == nil || int(r.Step) != step+1 || r.Steps != 3 {
			t.Errorf("at weight %s the rollout is %+v, want step %d of 3", weight, r, step+1)
		}
	}
	pool := w.awaitReady("main")
	if pool.Status.Stable.Version != v1alpha1.PoolV2 || pool.Status.Canary != nil || pool.Status.LastRollback != nil {
		t.Errorf("stable %+v, canary %+v, last rollback %+v; want v2 promoted", pool.Status.Stable, pool.Status.Canary, pool.Status.LastRollback)
	}
	lostNone(t, w.end(apps))
	w.unchanged("main", pods)
}

// Three of ten requests fail on the new version: it is taken off the traffic with its evidence, nothing else changes, and
// it isn't tried again until somebody says so.
func TestO8_O26_O35_O37_O38_BadCanaryIsRolledBack(t *testing.T) {
	w := newWorld(t) // not parallel: the operator is restarted
	apps, pods := w.canary(4)
	interruptions := w.watchReadiness(&pods[0])
	w.change("main", stepwise(10*time.Minute, 25))
	w.change("main", env("FAIL_RATE", "0.3"))
	spec := w.get("main").Spec

	pool := w.rolledBack("main", "ErrorRateExceeded")
	last := pool.Status.LastRollback
	if last.From != v1alpha1.PoolV2 || last.To != v1alpha1.PoolV1 || last.Weight != "25" || len(last.Evidence) == 0 ||
		!strings.Contains(last.Evidence[0], "v2 failed ") || pool.Status.BlockedRevision != last.Revision {
		t.Errorf("last rollback %+v, blocked %q; want v2 → v1 at 25 with its evidence", last, pool.Status.BlockedRevision)
	}
	w.offTraffic(apps)
	t.Run("O4_O35_WhatAUserSees", func(t *testing.T) { w.sub(t).seesRollback(pool) })
	for _, app := range apps {
		got := w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 300})
		if got.Versions["v2"].Requests != 0 || got.Lost != 0 {
			t.Errorf("after the rollback v2 served %d, lost %d; want none", got.Versions["v2"].Requests, got.Lost)
		}
		total, err := app.Total(w.ctx)
		w.must(err)
		if v1 := total.Versions["v1"]; v1.Errors != 0 || v1.Requests == 0 || total.Versions["v2"].Errors == 0 {
			t.Errorf("pod %s: v1 failed %d of %d, v2 %d; want none of v1's and some of v2's", app.Pod, v1.Errors, v1.Requests, total.Versions["v2"].Errors)
		}
	}

	w.scaleOperator(0)
	w.scaleOperator(2)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 3 })
	w.await("main", "looked at by a new leader", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.ObservedGeneration == p.Generation && p.Status.Workers.Desired == 6
	})
	if again := w.get("main"); again.Status.Canary != nil || !again.Status.LastRollback.Time.Equal(&last.Time) {
		t.Errorf("canary %+v, last rollback at %s; want no second attempt", again.Status.Canary, again.Status.LastRollback.Time)
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = spec.Size })
	if now := w.get("main"); !equality.Semantic.DeepEqual(now.Spec, spec) {
		t.Errorf("the spec is\n%+v\nwant it untouched\n%+v", now.Spec, spec)
	}
	w.specIsTheUsers("main")
	if seen := interruptions(); len(seen) > 0 {
		t.Errorf("the pod wasn't ready throughout: %v", seen)
	}
	w.unchanged("main", pods)

	w.begin(apps, sleeping(4))
	w.kubectl("annotate", "workerpool", "main", v1alpha1.RetryAnnotation+"=one")
	w.await("main", "tried again", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Handled.Retry == "one" && p.Status.Weight.Applied == "25" && p.Status.BlockedRevision == ""
	})
	second := w.await("main", "rolled back again", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.LastRollback.Time.After(last.Time.Time) && p.Status.BlockedRevision != ""
	})
	w.kubectl("annotate", "workerpool", "main", "note.example.com/touched=yes") // the same token again
	time.Sleep(2 * time.Second)                                                 // for a third attempt, which there must not be
	if third := w.get("main"); third.Status.Canary != nil && third.Status.Weight.Applied != "0" ||
		!third.Status.LastRollback.Time.Equal(&second.Status.LastRollback.Time) {
		t.Errorf("a token was used twice: %+v", third.Status)
	}
}

// Each user calls echo, then sleep; v2's echo always fails. At weight 50 the canary gets half of both, and is
// found out.
func TestO15_O26_OneOfTwoCommandsInTurnFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV1, 2)
	apps := cluster.Apps(w.start("main", 2))
	w.awaitReady("main")
	w.begin(apps, harness.Load{Callers: 1, Turns: []harness.Turn{{Command: "echo"}, {Command: "sleep", Args: map[string]any{"ms": 1}}}})
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		stepwise(10*time.Minute, 50)(s)
		env("FAIL_COMMAND", "echo")(s)
	})
	pool := w.rolledBack("main", "ErrorRateExceeded")
	if evidence := pool.Status.LastRollback.Evidence; len(evidence) == 0 || !strings.Contains(evidence[0], "v2 failed ") {
		t.Errorf("evidence %q", evidence)
	}
	if v1 := w.end(apps).Versions["v1"]; v1.Errors > 0 || v1.Requests == 0 {
		t.Errorf("v1 failed %d of %d", v1.Errors, v1.Requests)
	}
}

// rolledBack waits until a pool says that its revision was rolled back for a reason.
func (w *world) rolledBack(name, reason string) *v1alpha1.WorkerPool {
	w.Helper()
	return w.await(name, "rolled back", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionRolledBack, metav1.ConditionTrue, reason) &&
			harness.ConditionIs(p, v1alpha1.ConditionStalled, metav1.ConditionTrue, "RolledBack") &&
			harness.ConditionIs(p, v1alpha1.ConditionReady, metav1.ConditionFalse, "RolledBack") &&
			harness.ConditionIs(p, v1alpha1.ConditionAvailable, metav1.ConditionTrue, "StableServing")
	})
}

// offTraffic waits until no router sends anything to a canary.
func (w *world) offTraffic(apps []*harness.App) {
	w.Helper()
	for _, app := range apps {
		w.eventually("no canary in pod "+app.Pod, func() (bool, string) {
			status := w.router(app)
			return status.Canary == "" && status.CanaryWeight == 0, show(status)
		})
	}
}

// seesRollback looks at what kubectl shows of a rollback.
func (w *world) seesRollback(pool *v1alpha1.WorkerPool) {
	w.Helper()
	described := w.kubectl("describe", "workerpool", pool.Name)
	w.Logf("kubectl describe workerpool %s\n%s", pool.Name, described)
	condition := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionRolledBack)
	for _, want := range []string{"v2 failed ", "allowed increase 1 %", v1alpha1.RetryAnnotation} {
		if !strings.Contains(condition.Message, want) {
			w.Errorf("RolledBack says %q, want %q in it", condition.Message, want)
		}
	}
	w.eventually("a warning of the rollback", func() (bool, string) {
		events := w.kubectl("get", "events", "--field-selector=reason=RolledBack,type=Warning", "-o", "jsonpath={.items[*].message}{.items[*].note}")
		return strings.Contains(events, "error rate") && strings.Contains(events, "→ v1"), events
	})
	table := w.kubectl("get", "workerpools")
	if !strings.Contains(table, "RolledBack") {
		w.Errorf("kubectl get workerpools prints\n%s", table)
	}
}

// specIsTheUsers fails the test when the operator owns a field of the spec.
func (w *world) specIsTheUsers(name string) {
	w.Helper()
	for _, entry := range w.get(name).ManagedFields {
		if entry.Manager == v1alpha1.ManagedBy && strings.Contains(string(entry.FieldsV1.GetRawBytes()), `"f:spec"`) {
			w.Errorf("the operator owns spec fields: %s", entry.FieldsV1.GetRawBytes())
		}
	}
}

// Leaders are killed one after the other while the evidence comes in: whoever leads in the end comes to the same outcome,
// once.
func TestO22_O37_LeadersKilledWhileDeciding(t *testing.T) {
	w := newWorld(t)
	apps, pods := w.canary(4)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		stepwise(10*time.Minute, 25)(s)
		env("FAIL_RATE", "0.3")(s)
	})
	w.eventually("the first requests on v2", func() (bool, string) {
		figures, err := apps[0].Current(w.ctx)
		w.must(err)
		return figures.Versions["v2"].Requests > 0, show(figures)
	})
	w.must(cluster.Delete(w.ctx, w.leader(), client.GracePeriodSeconds(0)))
	pool := w.rolledBack("main", "ErrorRateExceeded")
	w.must(cluster.Delete(w.ctx, w.leader(), client.GracePeriodSeconds(0)))
	w.offTraffic(apps)
	w.must(cluster.AwaitDeployment(w.within(patience), harness.OperatorNamespace, harness.OperatorName))
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.QueueLimit = new(int32(500)) })
	after := w.await("main", "looked at by the last leader", func(p *v1alpha1.WorkerPool) bool { return p.Status.ObservedGeneration == p.Generation })
	if after.Status.Canary != nil || !after.Status.LastRollback.Time.Equal(&pool.Status.LastRollback.Time) {
		t.Errorf("canary %+v, last rollback %+v; want the same as before", after.Status.Canary, after.Status.LastRollback)
	}
	if v1 := w.end(apps).Versions["v1"]; v1.Errors != 0 {
		t.Errorf("v1 failed %d of %d", v1.Errors, v1.Requests)
	}
	w.unchanged("main", pods)
}

// Without telemetry nothing is decided: the weight holds, and the status says what is missing.
func TestO31_O32_TelemetryCut(t *testing.T) {
	w := newWorld(t)
	apps, pods := w.canary(2)
	w.change("main", stepwise(20*time.Second, 20, 40))
	w.await("main", "at weight 20", func(p *v1alpha1.WorkerPool) bool { return p.Status.Weight.Applied == "20" })

	restore := w.hideOperator()
	pool := w.await("main", "without metrics", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionMetricsAvailable, metav1.ConditionFalse, "")
	})
	time.Sleep(22 * time.Second) // longer than the step
	now := w.get("main")
	if now.Status.Weight.Applied != "20" || now.Status.LastRollback != nil || now.Status.Rollout == nil || now.Status.Rollout.Step != 1 {
		t.Errorf("weight %+v, rollout %+v, last rollback %+v; want it to hold at 20", now.Status.Weight, now.Status.Rollout, now.Status.LastRollback)
	}
	for _, app := range apps {
		if got := w.router(app); got.CanaryWeight != 20 || got.OperatorConnected {
			t.Errorf("pod %s has %+v, want 20 and no operator", app.Pod, got)
		}
	}
	if m := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionMetricsAvailable); !strings.Contains(m.Message, pods[0].Name) && !strings.Contains(m.Message, pods[1].Name) {
		t.Errorf("MetricsAvailable says %q, want the pods' names", m.Message)
	}
	restore()
	w.awaitReady("main")
	if last := w.get("main").Status; last.Stable.Version != v1alpha1.PoolV2 {
		t.Errorf("stable %+v, want v2 promoted once metrics are back", last.Stable)
	}
	lostNone(t, w.end(apps))
	w.unchanged("main", pods)
}

// hideOperator takes the operator from under the routers, which keep looking for it, and leaves it everything else.
func (w *world) hideOperator() (restore func()) {
	w.Helper()
	selector := func(value string) {
		w.kubectl("-n", harness.OperatorNamespace, "patch", "service", "workerpool-control", "--type=merge",
			"-p", fmt.Sprintf(`{"spec":{"selector":{"e2e.dspex.dev/hidden":%s}}}`, value))
	}
	selector(`"yes"`)
	restore = func() { selector("null") }
	w.Cleanup(restore)
	w.must(cluster.Delete(w.ctx, w.leader(), client.GracePeriodSeconds(0))) // its streams end with it
	w.must(cluster.AwaitDeployment(w.within(patience), harness.OperatorNamespace, harness.OperatorName))
	return restore
}

// What people say by annotations: hold, go on, skip ahead, take it back; and what isn't understood is said.
func TestO10_O22_O40_Tokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apps, pods := w.canary(2)
	annotate := func(key, token string) { w.kubectl("annotate", "--overwrite", "workerpool", "main", key+"="+token) }
	w.change("main", stepwise(time.Second, 20, 40))
	annotate(v1alpha1.PauseAnnotation, "p1")
	w.await("main", "paused", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Handled.Pause == "p1" && harness.ConditionIs(p, v1alpha1.ConditionPaused, metav1.ConditionTrue, "")
	})
	time.Sleep(5 * time.Second) // longer than both steps
	if now := w.get("main").Status; now.Stable.Version != v1alpha1.PoolV1 {
		t.Errorf("stable %+v while paused", now.Stable)
	}
	annotate(v1alpha1.ResumeAnnotation, "r1")
	annotate(v1alpha1.AnnotationPrefix+"approve", "a1")
	pool := w.await("main", "promoted, and told of the approval", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Stable.Version == v1alpha1.PoolV2 && harness.ConditionIs(p, v1alpha1.ConditionAccepted, metav1.ConditionFalse, "")
	})
	if m := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionAccepted); !strings.Contains(m.Message, "approve") {
		t.Errorf("Accepted says %q, want it to name approve", m.Message)
	}

	w.change("main", stepwise(10*time.Minute, 10))
	w.change("main", env("MARK", "promote"))
	w.await("main", "at weight 10", func(p *v1alpha1.WorkerPool) bool { return p.Status.Weight.Applied == "10" })
	annotate(v1alpha1.PromoteAnnotation, "go")
	w.await("main", "promoted ahead of time", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Canary == nil && p.Status.Handled.Promote == "go" && harness.Ready(p)
	})
	w.change("main", env("MARK2", "abort"))
	w.await("main", "at weight 10 again", func(p *v1alpha1.WorkerPool) bool { return p.Status.Weight.Applied == "10" })
	annotate(v1alpha1.AbortAnnotation, "stop")
	aborted := w.rolledBack("main", "Aborted")
	if aborted.Status.LastRollback.From != v1alpha1.PoolV2 || aborted.Status.LastRollback.To != v1alpha1.PoolV2 {
		t.Errorf("last rollback %+v, want from a v2 to a v2", aborted.Status.LastRollback)
	}
	lostNone(t, w.end(apps))
	w.unchanged("main", pods)
}

// Under DryRun a bad version is only spoken of; under Pause it is held where it is.
func TestO40_PoliciesThatDoNotRollBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apps, _ := w.canary(4)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		stepwise(10*time.Minute, 25)(s)
		env("FAIL_RATE", "0.3")(s)
		s.Rollback.Policy = v1alpha1.RollbackDryRun
	})
	w.await("main", "found bad, under DryRun", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionErrorsHealthy, metav1.ConditionFalse, "")
	})
	w.eventually("an event that says what a rollback would be", func() (bool, string) {
		events := w.kubectl("get", "events")
		return strings.Contains(events, "WouldRollBack"), events
	})
	if now := w.get("main").Status; now.Weight.Applied != "25" || now.LastRollback != nil || now.Canary == nil {
		t.Errorf("weight %+v, last rollback %+v; want nothing changed", now.Weight, now.LastRollback)
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Rollback.Policy = v1alpha1.RollbackPause })
	held := w.await("main", "held", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Hold != nil && p.Status.Hold.By == v1alpha1.HeldByPolicy && harness.ConditionIs(p, v1alpha1.ConditionPaused, metav1.ConditionTrue, "")
	})
	if held.Status.Weight.Applied != "25" {
		t.Errorf("weight %+v while held, want 25", held.Status.Weight)
	}
	w.kubectl("annotate", "workerpool", "main", v1alpha1.AbortAnnotation+"=now")
	w.rolledBack("main", "Aborted")
	w.offTraffic(apps)
}

// Only what matches ever gets to the canary.
func TestO79_Match(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, _ := w.serving("main", v1alpha1.PoolV1, 2)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV2
		weight(50)(s)
		s.Canary.Match = &v1alpha1.Match{Commands: []string{"echo"}}
	})
	w.awaitReady("main")
	for command, want := range map[string]uint64{"echo": 100, "who": 0} {
		got := w.run(app, harness.Load{Callers: 4, Command: command, Count: 200})
		if v2 := got.Versions["v2"].Requests; v2 != want || got.Lost > 0 {
			t.Errorf("%s: v2 served %d of %d, want %d", command, v2, got.Requests, want)
		}
	}
	if !slices.Contains(w.get("main").Spec.Canary.Match.Commands, "echo") {
		t.Error("the match is gone")
	}
}

// Beside a canary the stable v1's capacity is measured, one request at a time in each pod, and a load that it couldn't bear
// alone is warned of before the promotion.
func TestO33_SerialCapacity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, _ := w.serving("main", v1alpha1.PoolV1, 2)
	w.must(app.Begin(w.ctx, sleeping(8)))
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV2
		weight(60)(s)
	})
	pool := w.await("main", "known to exceed what v1 can serve", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.SerialCapacity != nil && p.Status.SerialCapacity.Exceeded
	})
	capacity, err := strconv.ParseFloat(pool.Status.SerialCapacity.RequestsPerSecond, 64)
	if err != nil || capacity < 50 || capacity > 100 {
		t.Errorf("one pod of 10 ms requests can serve %+v a second, want somewhat less than 100", pool.Status.SerialCapacity)
	}
	w.eventually("a warning of it", func() (bool, string) {
		events := w.kubectl("get", "events")
		return strings.Contains(events, "SerialCapacityExceeded"), events
	})
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
}
