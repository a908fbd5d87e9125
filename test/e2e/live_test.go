//go:build e2e

package e2e

import (
	"context"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// Under steady traffic: size 4 → 6 → 4, then v1 → v2 → v1. Nothing is lost, nothing restarts.
func TestO18_O67_P91_P92_SizeAndVersionLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV1, 4)
	pods := w.start("main", 2)
	apps := cluster.Apps(pods)
	w.awaitReady("main")
	w.begin(apps, sleeping(8))
	for _, step := range []struct {
		size    int32
		version v1alpha1.PoolVersion
	}{{6, "v1"}, {4, "v1"}, {4, "v2"}, {6, "v2"}, {4, "v2"}, {4, "v1"}} {
		w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size, s.PoolVersion = step.size, step.version })
		w.awaitReady("main")
		for _, app := range apps {
			w.eventually("the new size and version in pod "+app.Pod, func() (bool, string) {
				slot := w.stable(app)
				return slot.Version == string(step.version) && slot.Serving() == int(step.size), show(w.router(app))
			})
		}
	}
	figures := w.end(apps)
	lostNone(t, figures)
	if figures.Versions["v1"].Requests == 0 || figures.Versions["v2"].Requests == 0 {
		t.Errorf("served %+v, want some by each version", figures.Versions)
	}
	w.unchanged("main", pods)
}

// A worker that is killed costs at most the request that it was serving.
func TestP73_P75_WorkerKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsTheNode()
	app, pods := w.serving("main", v1alpha1.PoolV2, 4)
	interruptions := w.watchReadiness(&pods[0])
	w.must(app.Begin(w.ctx, sleeping(8)))
	const kills = 3
	for killed := range kills {
		w.must(syscall.Kill(w.workers(&pods[0])[0].PID, syscall.SIGKILL))
		w.eventually("4 workers again", func() (bool, string) {
			slot := w.stable(app)
			return slot.Crashed == uint64(killed+1) && slot.Serving() == 4, show(slot)
		})
	}
	figures, err := app.End(w.ctx)
	w.must(err)
	if figures.Lost > kills || figures.Lost != figures.Errors["port_exited"] {
		t.Errorf("lost %d of %d requests to %d kills (%v), want at most one each, port_exited", figures.Lost, figures.Requests, kills, figures.Errors)
	}
	after := w.run(app, harness.Load{Callers: 8, Command: "sleep", Args: map[string]any{"ms": 1}, Count: 200})
	if after.Requests != 200 || len(after.Errors) > 0 {
		t.Errorf("afterwards %d requests with errors %v, want 200 right ones", after.Requests, after.Errors)
	}
	if seen := interruptions(); len(seen) > 0 {
		t.Errorf("the pod wasn't ready throughout: %v", seen)
	}
	w.unchanged("main", pods)
}

// workers are a pod's Python processes.
func (w *world) workers(pod *corev1.Pod) []harness.Process {
	w.Helper()
	processes, err := harness.Processes(pod)
	w.must(err)
	var workers []harness.Process
	for _, p := range processes {
		if p.IsWorker() {
			workers = append(workers, p)
		}
	}
	if len(workers) == 0 {
		w.Fatalf("no worker among %+v", processes)
	}
	return workers
}

// A pod that is deleted under traffic finishes what it has begun: the router outlives the application.
func TestO51_TerminationDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2)
	w.must(app.Begin(w.ctx, harness.Load{Callers: 4, Command: "sleep", Args: map[string]any{"ms": 300}}))
	w.eventually("requests in flight", func() (bool, string) {
		slot := w.stable(app)
		return slot.Busy == 2, show(slot)
	})
	logs, err := cluster.FollowLogs(w.ctx, &pods[0], "app")
	w.must(err)
	defer logs.Close()
	w.must(cluster.Delete(w.ctx, &pods[0], client.GracePeriodSeconds(30)))
	output, err := io.ReadAll(logs) // ends with the container
	w.must(err)
	if !strings.Contains(string(output), ", 0 lost") {
		t.Errorf("the application's last lines:\n%s\nwant it to end with 0 lost", output)
	}
	w.gone(&pods[0], 30*time.Second)
}

// A pod whose sidecars never start can be deleted all the same.
func TestO52_DeletedBeforeItsSidecarsStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 1, func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Image = "localhost/there-is-none:dev" })
	d := w.deployment("main", 1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "main", Namespace: w.namespace, Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
	w.must(cluster.Create(w.ctx, pod))
	w.eventually("pool-a waits for its image", func() (bool, string) {
		var now corev1.Pod
		w.must(cluster.Get(w.ctx, client.ObjectKeyFromObject(pod), &now))
		for _, s := range now.Status.InitContainerStatuses {
			if s.Name == "pool-a" && s.State.Waiting != nil && strings.Contains(s.State.Waiting.Reason, "Pull") {
				return true, ""
			}
		}
		return false, show(now.Status.InitContainerStatuses)
	})
	w.must(cluster.Delete(w.ctx, pod, client.GracePeriodSeconds(10)))
	w.gone(pod, 30*time.Second)
}

// gone waits until a pod has left the API server.
func (w *world) gone(pod *corev1.Pod, patience time.Duration) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	var pods corev1.PodList
	err := cluster.Await(ctx, &pods, func() bool {
		for _, p := range pods.Items {
			if p.UID == pod.UID {
				return false
			}
		}
		return true
	}, client.InNamespace(pod.Namespace))
	if err != nil {
		w.Fatalf("pod %s is still there after %s: %v", pod.Name, patience, err)
	}
}
