//go:build integration

package operator

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// world is a test's namespace.
type world struct {
	t         *testing.T
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, namespace: server.Namespace(t, nil)}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// await tries until there is no error, and fails with the last one.
func (w *world) await(what string, try func() error) {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	w.t.Fatalf("no %s within %v: %v", what, patience, err)
}

// pool creates one of version v2 and size 4, changed as the test says.
func (w *world) pool(name string, change func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPool {
	w.t.Helper()
	pool := &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       v1alpha1.WorkerPoolSpec{PoolVersion: v1alpha1.PoolV2, Size: 4, Worker: v1alpha1.Worker{Module: "demo.commands"}},
	}
	if change != nil {
		change(&pool.Spec)
	}
	w.must(server.Client.Create(w.t.Context(), pool, client.FieldOwner("test")))
	return pool
}

func weight(percent string) *v1alpha1.Canary {
	return &v1alpha1.Canary{Weight: new(intstr.FromString(percent))}
}

// change edits a pool's spec.
func (w *world) change(name string, edit func(*v1alpha1.WorkerPoolSpec)) {
	w.t.Helper()
	w.await("edit of "+name, func() error {
		pool := w.get(name)
		edit(&pool.Spec)
		return server.Client.Update(w.t.Context(), pool, client.FieldOwner("test"))
	})
}

func (w *world) get(name string) *v1alpha1.WorkerPool {
	w.t.Helper()
	var pool v1alpha1.WorkerPool
	w.must(server.Client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, &pool))
	return &pool
}

// pod creates a running pod with the pool's label, injected unless plain.
func (w *world) pod(name string, pool *v1alpha1.WorkerPool, change func(*corev1.Pod)) *corev1.Pod {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: name,
			Labels: map[string]string{v1alpha1.PoolLabel: pool.Name},
			Annotations: map[string]string{
				v1alpha1.InjectedAnnotation: string(pool.UID),
				v1alpha1.ImagesAnnotation:   fmt.Sprintf(`{"a":%q,"b":%q}`, workerImage, workerImage),
			},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:test"}}},
	}
	if change != nil {
		change(pod)
	}
	w.must(server.Client.Create(w.t.Context(), pod))
	pod.Status.Phase = corev1.PodRunning
	pod.Status.StartTime = &metav1.Time{Time: time.Now()}
	w.must(server.Client.Status().Update(w.t.Context(), pod))
	return pod
}

// served makes n pods of a pool, connected, with a script each.
func (w *world) served(pool *v1alpha1.WorkerPool, n int) []*script {
	w.t.Helper()
	var scripts []*script
	for i := range n {
		s := newScript()
		w.connect(w.pod(fmt.Sprintf("%s-%d", pool.Name, i), pool, nil), s)
		scripts = append(scripts, s)
	}
	return scripts
}

// awaitReady waits for a reason of the Ready condition at the current generation and with the pods that are there, and
// returns the pool: a status from before the last pod came or went speaks of others.
func (w *world) awaitReady(name, reason string) *v1alpha1.WorkerPool {
	w.t.Helper()
	var pool *v1alpha1.WorkerPool
	w.await(name+" Ready with reason "+reason, func() error {
		pool = w.get(name)
		c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.Reason != reason || c.ObservedGeneration != pool.Generation {
			return fmt.Errorf("generation %d, %s", pool.Generation, show(pool))
		}
		if n := w.count(name); int(pool.Status.Pods.Matched) != n {
			return fmt.Errorf("there are %d pods, %s", n, show(pool))
		}
		return nil
	})
	return pool
}

// count is how many pods a pool has.
func (w *world) count(name string) int {
	w.t.Helper()
	var pods corev1.PodList
	w.must(server.Client.List(w.t.Context(), &pods, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.PoolLabel: name}))
	return len(pods.Items)
}

func show(pool *v1alpha1.WorkerPool) string {
	text := fmt.Sprintf("weight %q pods %q workers %q", pool.Status.Weight.Summary, pool.Status.Pods.Summary, pool.Status.Workers.Summary)
	for _, c := range pool.Status.Conditions {
		text += fmt.Sprintf("\n  %s=%s %s @%d: %s", c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message)
	}
	return text
}

// condition returns one, or an empty one.
func condition(pool *v1alpha1.WorkerPool, name string) metav1.Condition {
	if c := meta.FindStatusCondition(pool.Status.Conditions, name); c != nil {
		return *c
	}
	return metav1.Condition{}
}
