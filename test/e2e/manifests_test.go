//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// What the API server itself refuses, and what it says. TestO48_O49_NoOperator shows the same with no operator up.
func TestO9_BadManifests(t *testing.T) {
	t.Parallel()
	newWorld(t).refusesBadManifests()
}

func (w *world) refusesBadManifests() {
	for name, tc := range map[string]struct{ spec, says string }{
		"unknown poolVersion":  {`{poolVersion: v3, size: 2, worker: {module: m}}`, `Unsupported value: "v3"`},
		"no poolVersion":       {`{size: 2, worker: {module: m}}`, `spec.poolVersion: Required value`},
		"size 0":               {`{poolVersion: v1, size: 0, worker: {module: m}}`, `spec.size`},
		"negative size":        {`{poolVersion: v1, size: -1, worker: {module: m}}`, `spec.size`},
		"weight over 100":      {`{poolVersion: v2, size: 2, canary: {weight: 101}, worker: {module: m}}`, `spec.canary.weight: Invalid value: 101: `},
		"weight over 100 text": {`{poolVersion: v2, size: 2, canary: {weight: "100.5%"}, worker: {module: m}}`, `is no percentage`},
		"negative weight":      {`{poolVersion: v2, size: 2, canary: {weight: -1}, worker: {module: m}}`, `is no percentage`},
		"malformed weight":     {`{poolVersion: v2, size: 2, canary: {weight: ten}, worker: {module: m}}`, `is no percentage`},
		"weight and steps":     {`{poolVersion: v2, size: 2, canary: {weight: 5, steps: [{weight: 5, duration: 1m}]}, worker: {module: m}}`, `set weight or steps, not both`},
		"21 steps":             {`{poolVersion: v2, size: 2, canary: {steps: [` + steps(21) + `]}, worker: {module: m}}`, `spec.canary.steps: Too many: 21: must have at most 20 items`},
		"descending steps":     {`{poolVersion: v2, size: 2, canary: {steps: [{weight: 50, duration: 1m}, {weight: 5, duration: 1m}]}, worker: {module: m}}`, `weights of the steps don't rise`},
		"a step twice":         {`{poolVersion: v2, size: 2, canary: {steps: [{weight: 5, duration: 1m}, {weight: "5%", duration: 1m}]}, worker: {module: m}}`, `weights of the steps don't rise`},
		"a step of 100":        {`{poolVersion: v2, size: 2, canary: {steps: [{weight: 100, duration: 1m}]}, worker: {module: m}}`, `leave a step of 100 out`},
		"a step without time":  {`{poolVersion: v2, size: 2, canary: {steps: [{weight: 5}]}, worker: {module: m}}`, `duration`},
		"unknown policy":       {`{poolVersion: v2, size: 2, rollback: {policy: Never}, worker: {module: m}}`, `Unsupported value: "Never"`},
		"no module":            {`{poolVersion: v2, size: 2, worker: {}}`, `spec.worker.module: Required value`},
		"module that is none":  {`{poolVersion: v2, size: 2, worker: {module: "os; rm"}}`, `module is no dotted Python module name`},
	} {
		w.Run(name, func(t *testing.T) {
			pool := &unstructured.Unstructured{Object: map[string]any{}}
			var spec map[string]any
			if err := yaml.Unmarshal([]byte(tc.spec), &spec); err != nil {
				t.Fatal(err)
			}
			pool.Object["spec"] = spec
			pool.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("WorkerPool"))
			pool.SetNamespace(w.namespace)
			pool.SetGenerateName("bad-")
			err := cluster.Create(w.ctx, pool)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("create: %v, want a refusal that says %q", err, tc.says)
			}
		})
	}
}

// steps writes n good steps.
func steps(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("{weight: %d, duration: 1m}", i+1))
	}
	return strings.Join(list, ", ")
}

// A label that names no pool: the pod is refused with a message that helps, and the workload heals by itself when the
// pool is created.
func TestO72_LabelWithoutPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("mine", v1alpha1.PoolV1, 1)
	d := w.deployment("main", 1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "alone", Namespace: w.namespace, Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
	err := cluster.Create(w.ctx, pod)
	if err == nil || !strings.Contains(err.Error(), `"main"`) || !strings.Contains(err.Error(), "doesn't exist") || !strings.Contains(err.Error(), "mine") {
		t.Errorf("create pod: %v, want a refusal that names the missing pool and the one that there is", err)
	}

	w.must(cluster.Create(w.ctx, d))
	var sets appsv1.ReplicaSetList
	w.must(cluster.Await(w.within(patience), &sets, func() bool {
		for _, set := range sets.Items {
			for _, c := range set.Status.Conditions {
				if c.Type == appsv1.ReplicaSetReplicaFailure && strings.Contains(c.Message, "doesn't exist") {
					return true
				}
			}
		}
		return false
	}, client.InNamespace(w.namespace)))
	w.pool("main", v1alpha1.PoolV1, 1)
	w.pods("main", 1)
	w.awaitReady("main")
}

// A pod that got its label without its sidecars is counted, named, and told what to run.
func TestO50_LabelledWithoutSidecars(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV1, 1)
	pods := w.start("main", 1, func(p *corev1.PodTemplateSpec) {
		delete(p.Labels, v1alpha1.PoolLabel)
		p.Spec.Containers[0].Command = append(p.Spec.Containers[0].Command, "-socket", "/nowhere")
	})
	w.kubectl("label", "pod", pods[0].Name, v1alpha1.PoolLabel+"=main")
	pool := w.await("main", "not injected", func(p *v1alpha1.WorkerPool) bool {
		injected := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionInjected)
		return injected != nil && injected.Status == metav1.ConditionFalse && p.Status.Pods.Matched == 1
	})
	injected := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionInjected)
	if !strings.Contains(injected.Message, pods[0].Name) || !strings.Contains(injected.Message, w.restartLine("main")) || pool.Status.Pods.Injected != 0 {
		t.Errorf("%+v, Injected says %q; want the pod's name and what to run", pool.Status.Pods, injected.Message)
	}
}

// Applied twice there is nothing to do, and nobody but the user owns a field of the spec.
func TestO7_O8_AppliedTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	manifest := "config/samples/demo/2-weight-10.yaml"
	for name, flags := range map[string][]string{"client side": nil, "server side": {"--server-side", "--force-conflicts"}} {
		apply := append([]string{"apply", "-f", manifest}, flags...)
		w.kubectl(apply...)
		w.await("demo", "looked at", func(p *v1alpha1.WorkerPool) bool { return p.Status.ObservedGeneration == p.Generation })
		before := w.get("demo").Generation
		w.kubectl(apply...)
		w.kubectl(append([]string{"diff", "-f", manifest}, flags...)...) // fails when there is a difference
		if now := w.get("demo").Generation; now != before {
			t.Errorf("%s: applied twice, the generation went from %d to %d", name, before, now)
		}
	}
	for _, entry := range w.get("demo").ManagedFields {
		owned := string(entry.FieldsV1.GetRawBytes())
		if !strings.HasPrefix(entry.Manager, "kubectl") && strings.Contains(owned, `"f:spec"`) {
			t.Errorf("manager %s owns spec fields: %s", entry.Manager, owned)
		}
	}
}

// Deleting a pool leaves its workload serving and takes along what the operator made for it.
func TestO12_DeletedPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2)
	owned := func() int {
		var revisions appsv1.ControllerRevisionList
		var configs corev1.ConfigMapList
		w.must(cluster.List(w.ctx, &revisions, client.InNamespace(w.namespace)))
		w.must(cluster.List(w.ctx, &configs, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedBy}))
		return len(revisions.Items) + len(configs.Items)
	}
	if owned() < 2 {
		t.Errorf("%d objects of the operator, want a ControllerRevision and a ConfigMap at least", owned())
	}
	w.must(app.Begin(w.ctx, sleeping(2)))
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second) // no finalizer holds it
	defer cancel()
	w.must(cluster.Delete(ctx, w.get("main")))
	var pools v1alpha1.WorkerPoolList
	w.must(cluster.Await(ctx, &pools, func() bool { return len(pools.Items) == 0 }, client.InNamespace(w.namespace)))
	w.eventually("nothing of the operator's left", func() (bool, string) { n := owned(); return n == 0, show(n) })
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
	w.unchanged("main", pods)
}

// Every revision that a pool had is kept as text, so that the stable one is known after the spec has moved on.
func TestRevisionsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 1, weight(10))
	pool := w.await("main", "looked at", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Stable != nil && p.Status.Canary != nil
	})
	for _, placed := range []*v1alpha1.SlotRevision{pool.Status.Stable, pool.Status.Canary} {
		var revision appsv1.ControllerRevision
		w.must(cluster.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "main-" + placed.Revision}, &revision))
		if !strings.Contains(string(revision.Data.Raw), "demo.commands") {
			t.Errorf("revision %s holds %s, want the worker's module", placed.Revision, revision.Data.Raw)
		}
		if !metav1.IsControlledBy(&revision, pool) {
			t.Errorf("revision %s is owned by %+v, want the pool", placed.Revision, revision.OwnerReferences)
		}
	}
}
