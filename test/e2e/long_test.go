//go:build e2e && long

package e2e

import (
	"context"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// Nothing is wrong with v2: both versions fail one request in a hundred, for ten minutes at 100 requests a second. It is
// promoted, and was never rolled back on the way.
func TestLongAA(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	const (
		pods    = 2
		rate    = 100.0 // requests per second of all pods together
		step    = 2 * time.Minute
		lasting = 10 * time.Minute
	)
	w.pool("main", v1alpha1.PoolV1, 2, func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Env = []v1alpha1.EnvVar{{Name: "FAIL_RATE", Value: "0.01"}}
	})
	started := w.start("main", pods)
	w.awaitReady("main")
	apps := cluster.Apps(started)
	for _, app := range apps {
		w.must(app.Begin(w.ctx, harness.Load{Callers: 8, Command: "sleep", Args: map[string]any{"ms": 2}, Rate: rate / pods}))
	}
	begun := time.Now()
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.PoolVersion = v1alpha1.PoolV2
		s.Canary = &v1alpha1.Canary{}
		for _, weight := range []int32{5, 10, 25, 50, 75} {
			s.Canary.Steps = append(s.Canary.Steps, v1alpha1.Step{Weight: intstr.FromInt32(weight), Duration: metav1.Duration{Duration: step}})
		}
	})
	generation := w.get("main").Generation
	patient, stop := context.WithTimeout(w.ctx, lasting+4*time.Minute)
	defer stop()
	pool, err := cluster.AwaitPool(patient, w.namespace, "main", "promoted or rolled back", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.LastRollback != nil || p.Generation == generation && harness.Ready(p) &&
			harness.ConditionIs(p, v1alpha1.ConditionPromoted, metav1.ConditionTrue, "")
	})
	w.must(err)
	took := time.Since(begun)
	w.countsOfBoth(apps)
	if last := pool.Status.LastRollback; last != nil {
		t.Fatalf("rolled back after %s at weight %s for %s: %q, want no rollback where both are alike", took, last.Weight, last.Reason, last.Evidence)
	}
	if took < lasting {
		t.Errorf("promoted after %s, want the steps' %s at least", took, lasting)
	}
	w.unchanged("main", started)
}

// Nothing is wrong with v2: of ten kinds of requests, which come in a fixed order, one always fails, on both versions. For five
// minutes at each weight the comparison is of versions, not of kinds, and nothing is rolled back.
func TestLongPeriodicTraffic(t *testing.T) {
	for _, weight := range []int32{10, 25} {
		t.Run(strconv.Itoa(int(weight)), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Minute)
			t.Cleanup(cancel)
			w.ctx = ctx
			const lasting = 5 * time.Minute
			turns := []harness.Turn{{Command: "fail"}}
			for i := range 9 {
				turns = append(turns, harness.Turn{Command: []string{"echo", "sleep", "who"}[i%3]})
			}
			w.pool("main", v1alpha1.PoolV1, 2)
			started := w.start("main", 2)
			w.awaitReady("main")
			apps := cluster.Apps(started)
			w.begin(apps, harness.Load{Callers: 1, Turns: turns, Rate: 40})
			w.change("main", stepwise(lasting, weight))
			generation := w.get("main").Generation
			patient, stop := context.WithTimeout(w.ctx, lasting+4*time.Minute)
			defer stop()
			pool, err := cluster.AwaitPool(patient, w.namespace, "main", "promoted or rolled back", func(p *v1alpha1.WorkerPool) bool {
				return p.Status.LastRollback != nil || p.Generation == generation && harness.Ready(p) &&
					harness.ConditionIs(p, v1alpha1.ConditionPromoted, metav1.ConditionTrue, "")
			})
			w.must(err)
			if last := pool.Status.LastRollback; last != nil {
				t.Fatalf("rolled back at weight %s for %s: %q, want no rollback where both are alike", last.Weight, last.Reason, last.Evidence)
			}
			w.countsOfBoth(apps)
			w.unchanged("main", started)
		})
	}
}

// countsOfBoth ends the traffic and prints what it came to by version. Each must have served and failed some, or there
// was nothing to tell apart.
func (w *world) countsOfBoth(apps []*harness.App) {
	w.Helper()
	all := w.end(apps)
	for _, version := range []string{"v1", "v2"} {
		v := all.Versions[version]
		w.Logf("%s failed %d of %d requests (%.2f %%)", version, v.Errors, v.Requests, 100*float64(v.Errors)/float64(max(v.Requests, 1)))
		if v.Requests < 1000 || v.Errors == 0 {
			w.Errorf("%s failed %d of %d requests, want 1 %% of thousands", version, v.Errors, v.Requests)
		}
	}
	if none := all.Versions["none"].Requests; none > 0 {
		w.Errorf("%d requests were answered by no version: %v", none, all.Errors)
	}
}
