//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// A pod was made with room for two workers. Asked for five, it keeps two and says so; nothing restarts.
func TestO74_SizeBeyondThePodsLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Resources = &v1alpha1.WorkerResources{
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("96Mi")},
		}
	})
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 5 })
	pool := w.await("main", "capped", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionConfigSynced, metav1.ConditionFalse, "ResourcesInsufficient")
	})
	synced := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionConfigSynced)
	if !strings.Contains(synced.Message, w.restartLine("main")) || pool.Status.Workers.Desired != 2 {
		t.Errorf("%d workers desired, message %q; want 2, and a way out", pool.Status.Workers.Desired, synced.Message)
	}
	if slot := w.stable(app); slot.Serving() != 2 {
		t.Errorf("slot %+v, want 2 workers that serve", slot)
	}
	lostNone(t, w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 100}))
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 2 })
	w.await("main", "in sync again", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionConfigSynced, metav1.ConditionTrue, "") && harness.Ready(p)
	})
	w.unchanged("main", pods)
}

// A pod can't change its image while it lives: it is counted, and told what brings it up to date.
func TestChangedImageCountsOutdatedPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsTheNode()
	next := "localhost/workerpool-samples:" + w.namespace
	_, err := cluster.InNode(w.ctx, "ctr", "--namespace=k8s.io", "images", "tag", "--force", samplesImage, next)
	w.must(err)
	app, pods := w.serving("main", v1alpha1.PoolV1, 2)
	w.must(app.Begin(w.ctx, sleeping(2)))
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Image = next })
	pool := w.await("main", "outdated", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Pods.Outdated == 1 && p.Status.ObservedGeneration == p.Generation
	})
	if said := harness.Describe(pool); !strings.Contains(said, w.restartLine("main")) {
		t.Errorf("status says\n%s\nwant %q", said, w.restartLine("main"))
	}
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
	w.unchanged("main", pods)

	w.kubectl("rollout", "restart", "deployment", "main")
	pool = w.await("main", "up to date", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Pods.Outdated == 0 && p.Status.Stable.Image == next && harness.Ready(p)
	})
	if pool.Status.Pods.Injected == 0 {
		t.Errorf("pods %+v, want injected ones", pool.Status.Pods)
	}
}

// restartLine is what a message tells to run for a Deployment.
func (w *world) restartLine(deployment string) string {
	return fmt.Sprintf("kubectl rollout restart -n %s deployment/%s", w.namespace, deployment)
}
