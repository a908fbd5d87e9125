//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// These stories take the operator away from under every other test, so that they aren't parallel.

// The leader is killed: a new pod still gets its sidecars at once, from the other replica, and whoever leads next
// goes on from where the first one was.
func TestO48_LeaderKilled(t *testing.T) {
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(10))
	w.must(app.Begin(w.ctx, sleeping(2)))
	w.must(cluster.Delete(w.ctx, w.leader(), client.GracePeriodSeconds(0)))

	w.kubectl("scale", "deployment", "main", "--replicas=2")
	all := w.pods("main", 2)
	w.change("main", weight(20))
	w.await("main", "at weight 20 in both pods", func(p *v1alpha1.WorkerPool) bool {
		return harness.Ready(p) && p.Status.Weight.Applied == "20" && p.Status.Pods.Acknowledged == 2
	})
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
	for _, app := range cluster.Apps(all) {
		got := w.run(app, harness.Load{Callers: 8, Command: "echo", Count: 500})
		if v2 := got.Versions["v2"].Requests; v2 < 99 || v2 > 101 || got.Lost > 0 {
			t.Errorf("pod %s: v2 served %d of %d, %d lost; want 100 ± 1", app.Pod, v2, got.Requests, got.Lost)
		}
	}
	for _, changed := range harness.ContainersOf(pods).Changed(onlyOf(pods, all)) {
		t.Errorf("container changed: %s", changed)
	}
	w.must(cluster.AwaitDeployment(w.within(patience), harness.OperatorNamespace, harness.OperatorName))
}

// leader waits for the operator pod that leads.
func (w *world) leader() *corev1.Pod {
	w.Helper()
	var pods corev1.PodList
	var leader corev1.Pod
	w.must(cluster.Await(w.within(patience), &pods, func() bool {
		if len(pods.Items) == 1 {
			leader = pods.Items[0]
		}
		return len(pods.Items) == 1
	}, client.InNamespace(harness.OperatorNamespace), client.MatchingLabels{v1alpha1.LeaderLabel: "true"}))
	return &leader
}

// onlyOf are the containers of those pods of all that were there before.
func onlyOf(before, all []corev1.Pod) harness.Containers {
	var kept []corev1.Pod
	for _, pod := range all {
		for _, b := range before {
			if b.UID == pod.UID {
				kept = append(kept, pod)
			}
		}
	}
	return harness.ContainersOf(kept)
}

// Every replica is gone. What exists serves on, at the weight that it had, and its containers restart and serve again;
// pods without the label know nothing of all this; a labelled pod is refused until the operator is back; the API
// server refuses bad manifests by itself.
func TestO9_O42_O48_O49_NoOperator(t *testing.T) {
	w := newWorld(t)
	w.needsTheNode()
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(10))
	w.scaleOperator(0)
	t.Cleanup(func() { w.scaleOperator(2) })

	got := w.run(app, harness.Load{Callers: 8, Command: "echo", Count: 1000})
	if v2 := got.Versions["v2"].Requests; v2 < 99 || v2 > 101 || got.Lost > 0 {
		t.Errorf("v2 served %d of %d, %d lost; want 100 ± 1", v2, got.Requests, got.Lost)
	}
	for _, container := range []string{"pool-router", "pool-a", "pool-b"} {
		w.restarts(app, &pods[0], container)
	}
	got = w.run(app, harness.Load{Callers: 8, Command: "echo", Count: 1000})
	if v2 := got.Versions["v2"].Requests; v2 < 99 || v2 > 101 || got.Lost > 0 {
		t.Errorf("after the restarts v2 served %d of %d, %d lost; want 100 ± 1", v2, got.Requests, got.Lost)
	}

	t.Run("O49_UnlabelledPodsStart", func(t *testing.T) {
		w := w.sub(t)
		pods := w.start("plain", 1, func(p *corev1.PodTemplateSpec) {
			delete(p.Labels, v1alpha1.PoolLabel)
			p.Spec.Containers[0].Command = append(p.Spec.Containers[0].Command, "-socket", "/nowhere")
		})
		if n := len(pods[0].Spec.InitContainers); n != 0 {
			t.Errorf("%d sidecars in a pod that didn't ask for them", n)
		}
	})
	t.Run("LabelledPodsWait", func(t *testing.T) {
		w := w.sub(t)
		d := w.deployment("main", 1)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "alone", Namespace: w.namespace, Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
		if err := cluster.Create(w.ctx, pod); err == nil || !strings.Contains(err.Error(), "webhook") {
			t.Errorf("create pod: %v, want the webhook's failure, not a pod without sidecars", err)
		}
	})
	t.Run("O9_BadManifests", func(t *testing.T) { w.sub(t).refusesBadManifests() })

	w.scaleOperator(2)
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 3 })
	w.awaitReady("main")
	w.eventually("3 workers", func() (bool, string) {
		slot := w.stable(app)
		return slot.Serving() == 3, show(slot)
	})
}

// restarts kills a container's first process and waits until the container is back and serves.
func (w *world) restarts(app *harness.App, pod *corev1.Pod, container string) {
	w.Helper()
	w.must(killFirst(pod, container))
	w.eventually(container+" again", func() (bool, string) {
		var now corev1.Pod
		w.must(cluster.Get(w.ctx, client.ObjectKeyFromObject(pod), &now))
		return harness.ContainersOf([]corev1.Pod{now})[pod.Name+"/"+container].Restarts == 1 && harness.PodReady(&now),
			fmt.Sprintf("%+v", harness.ContainersOf([]corev1.Pod{now}))
	})
	for _, version := range []string{"v1", "v2"} {
		w.eventually(version+" serves again", func() (bool, string) {
			response := w.call(app, "echo", "{}", "Workerpool-Version", version)
			return response.Status == 200, string(response.Body)
		})
	}
	*pod = w.pods(pod.Labels["app"], 1)[0]
}

// scaleOperator sets the number of replicas and waits until there are exactly so many.
func (w *world) scaleOperator(replicas int32) {
	w.Helper()
	var d appsv1.Deployment
	key := client.ObjectKey{Namespace: harness.OperatorNamespace, Name: harness.OperatorName}
	w.must(cluster.Get(w.ctx, key, &d))
	patch := client.MergeFrom(d.DeepCopy())
	d.Spec.Replicas = &replicas
	w.must(cluster.Patch(w.ctx, &d, patch))
	ctx := w.within(patience)
	w.must(cluster.AwaitDeployment(ctx, key.Namespace, key.Name))
	var pods corev1.PodList
	w.must(cluster.Await(ctx, &pods, func() bool { return len(pods.Items) == int(replicas) },
		client.InNamespace(key.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)))
}
