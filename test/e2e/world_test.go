//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// patience with any one thing that has to come about.
const patience = 90 * time.Second

var samplesImage = harness.ImagesFromEnv().Samples

// world is what a test has at hand: a namespace and ways to change it and look at it. Whatever goes wrong in them ends
// the test.
type world struct {
	*testing.T
	ctx       context.Context
	namespace string
}

// newWorld makes an empty namespace named after the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	// The test's own context ends before its clean-ups run, and these still need one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, namespace: namespaceFor(t.Name())}
	w.must(cluster.EmptyNamespace(ctx, w.namespace, nil))
	t.Cleanup(func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute) // also when time has run out
		defer cancel()
		if t.Failed() {
			w.report(after)
		}
		if err := cluster.RemoveNamespace(after, w.namespace); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return w
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func namespaceFor(test string) string {
	name := "e2e-" + notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(test, "Test")), "-")
	return strings.TrimRight(name[:min(len(name), 50)], "-")
}

// report logs what a failed test leaves behind, before it is removed.
func (w *world) report(ctx context.Context) {
	for _, args := range [][]string{
		{"get", "workerpools", "-o", "wide"}, {"get", "pods", "-o", "wide"}, {"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", v1alpha1.PoolLabel, "-c", "pool-router", "--tail=20", "--prefix"},
		{"logs", "-l", v1alpha1.PoolLabel, "-c", "pool-a", "--tail=20", "--prefix"},
		{"logs", "-l", v1alpha1.PoolLabel, "-c", "pool-b", "--tail=20", "--prefix"},
	} {
		output, _ := cluster.Kubectl(ctx, append([]string{"-n", w.namespace}, args...)...)
		w.Logf("kubectl %s\n%s", strings.Join(args, " "), output)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if errors.Is(err, harness.ErrNotThisMachine) {
		w.Skip(err)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// needsTheNode skips a test that reaches into the cluster's node where that is another machine.
func (w *world) needsTheNode() {
	w.Helper()
	if cluster.Existing() {
		w.must(harness.ErrNotThisMachine)
	}
}

// within is a context for one step.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, d)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) kubectl(args ...string) string {
	w.Helper()
	output, err := cluster.Kubectl(w.ctx, append([]string{"-n", w.namespace}, args...)...)
	w.must(err)
	return output
}

// pool creates a WorkerPool of the sample worker.
func (w *world) pool(name string, version v1alpha1.PoolVersion, size int32, changes ...func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPool {
	w.Helper()
	pool := &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec: v1alpha1.WorkerPoolSpec{
			PoolVersion: version, Size: size,
			Worker: v1alpha1.Worker{Image: samplesImage, Module: "demo.commands"},
		},
	}
	for _, change := range changes {
		change(&pool.Spec)
	}
	w.must(cluster.Create(w.ctx, pool))
	return pool
}

func weight(w any) func(*v1alpha1.WorkerPoolSpec) {
	return func(s *v1alpha1.WorkerPoolSpec) {
		switch w := w.(type) {
		case int:
			s.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(int32(w)))}
		case string:
			s.Canary = &v1alpha1.Canary{Weight: new(intstr.FromString(w))}
		}
	}
}

// patientCheckout lets requests wait for workers that start, which on a busy machine takes longer than the default.
func patientCheckout(s *v1alpha1.WorkerPoolSpec) {
	s.Timeouts.Checkout = &metav1.Duration{Duration: time.Minute}
}

// change edits a pool's spec.
func (w *world) change(name string, edit func(*v1alpha1.WorkerPoolSpec)) {
	w.Helper()
	w.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var pool v1alpha1.WorkerPool
		if err := cluster.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, &pool); err != nil {
			return err
		}
		edit(&pool.Spec)
		return cluster.Update(w.ctx, &pool)
	}))
}

// await waits until a pool's status is as done says.
func (w *world) await(name, what string, done func(*v1alpha1.WorkerPool) bool) *v1alpha1.WorkerPool {
	w.Helper()
	pool, err := cluster.AwaitPool(w.within(patience), w.namespace, name, what, done)
	w.must(err)
	return pool
}

func (w *world) awaitReady(name string) *v1alpha1.WorkerPool {
	w.Helper()
	pool, err := cluster.AwaitReady(w.within(patience), w.namespace, name)
	w.must(err)
	return pool
}

// deployment is the sample application's, for a pool. Its name is the pool's.
func (w *world) deployment(pool string, replicas int32, changes ...func(*corev1.PodTemplateSpec)) *appsv1.Deployment {
	w.Helper()
	manifest, err := os.ReadFile(cluster.Path("config/samples/demo/app.yaml"))
	w.must(err)
	var d appsv1.Deployment
	w.must(yaml.UnmarshalStrict(manifest, &d))
	labels := map[string]string{"app": pool}
	d.Name, d.Namespace, d.Spec.Replicas = pool, w.namespace, &replicas
	d.Spec.Selector.MatchLabels = labels
	d.Spec.Template.Labels = map[string]string{"app": pool, v1alpha1.PoolLabel: pool}
	d.Spec.Template.Spec.Containers[0].Image = samplesImage
	for _, change := range changes {
		change(&d.Spec.Template)
	}
	return &d
}

// start creates the sample application and waits for its pods.
func (w *world) start(pool string, replicas int32, changes ...func(*corev1.PodTemplateSpec)) []corev1.Pod {
	w.Helper()
	w.must(cluster.Create(w.ctx, w.deployment(pool, replicas, changes...)))
	return w.pods(pool, int(replicas))
}

// pods waits until so many pods of the sample application are ready.
func (w *world) pods(pool string, n int) []corev1.Pod {
	w.Helper()
	pods, err := cluster.AwaitPods(w.within(patience), n, client.InNamespace(w.namespace), client.MatchingLabels{"app": pool})
	w.must(err)
	return pods
}

// serving creates a pool and the application with one pod, and waits until both are ready.
func (w *world) serving(name string, version v1alpha1.PoolVersion, size int32, changes ...func(*v1alpha1.WorkerPoolSpec)) (*harness.App, []corev1.Pod) {
	w.Helper()
	w.pool(name, version, size, changes...)
	pods := w.start(name, 1)
	w.awaitReady(name)
	return cluster.App(&pods[0]), pods
}

// eventually asks again and again until look reports true; its text says what it saw last.
func (w *world) eventually(what string, look func() (bool, string)) {
	w.Helper()
	ctx := w.within(patience)
	for {
		done, seen := look()
		if done {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			w.Fatalf("never came about: %s; seen last: %s", what, seen)
		}
	}
}

// unchanged fails the test when a container isn't the one that it was.
func (w *world) unchanged(pool string, before []corev1.Pod) {
	w.Helper()
	now := w.pods(pool, len(before))
	for _, changed := range harness.ContainersOf(before).Changed(harness.ContainersOf(now)) {
		w.Errorf("container changed: %s", changed)
	}
}

// sub is the same world for a subtest.
func (w *world) sub(t *testing.T) *world {
	return &world{T: t, ctx: w.ctx, namespace: w.namespace}
}

func (w *world) get(name string) *v1alpha1.WorkerPool {
	w.Helper()
	var pool v1alpha1.WorkerPool
	w.must(cluster.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, &pool))
	return &pool
}
