//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// growing is a worker module that takes memory: at once, and bit by bit with no bound of its own.
const growing = `
import os
import resource
import time
from poolworker import command

kept = []

@command
def who() -> int:
    return os.getpid()

@command
def allocate(mb: int) -> int:
    return len(bytearray(mb << 20))

@command
def grow() -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    while True:
        kept.append(bytearray(os.urandom(1)) * (4 << 20))
        time.sleep(0.02)
`

// withMemory gives each of two workers 128 MiB: their container has 320, and each may map 264.
func withMemory(s *v1alpha1.WorkerPoolSpec) {
	fromVolume(s)
	s.Worker.Module = "growing"
	s.Worker.Resources = &v1alpha1.WorkerResources{
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
	}
}

// A handler that allocates too much at once gets an exception; one that takes ever more loses its worker. No other
// request fails, and no container restarts.
func TestP76_MemoryOfWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configMap("modules", "growing.py", growing)
	w.pool("main", v1alpha1.PoolV2, 2, patientCheckout, withMemory)
	pods := w.start("main", 1, withModules)
	w.awaitReady("main")
	app := cluster.App(&pods[0])
	interruptions := w.watchReadiness(&pods[0])

	response := w.call(app, "allocate", `{"mb": 400}`)
	if e := response.Error(); response.Status != 500 || e.Type != "python_error" || !strings.HasPrefix(e.Message, "MemoryError") {
		t.Errorf("an allocation beyond the bound is answered with %d %s, want 500 python_error of a MemoryError", response.Status, response.Body)
	}
	if slot := w.stable(app); slot.Spawned != 2 {
		t.Errorf("%d workers were started, want the two that live on", slot.Spawned)
	}

	ended := make(chan harness.Response, 1)
	go func() {
		response, err := app.Call(w.ctx, "grow", strings.NewReader("{}"), nil)
		if err != nil {
			t.Errorf("grow: %v", err)
		}
		ended <- response
	}()
	var grown harness.Response
	for done := false; !done; {
		select {
		case grown = <-ended:
			done = true
		case <-time.After(50 * time.Millisecond):
			if beside := w.call(app, "who", "{}"); beside.Status != 200 {
				t.Errorf("the sibling answers %d %s", beside.Status, beside.Body)
			}
		}
	}
	e := grown.Error()
	if grown.Status != 502 || e.Type != "port_exited" || e.Context["oom"] != true || !strings.Contains(e.Message, "limits.memory") {
		t.Errorf("a worker that grows ends with %d %s, want 502 port_exited for its memory", grown.Status, grown.Body)
	}
	w.eventually("two workers again", func() (bool, string) {
		slot := w.stable(app)
		return slot.Serving() == 2 && slot.Spawned == 3 && slot.Exits["memory"] == 1, show(slot)
	})
	if seen := interruptions(); len(seen) > 0 {
		t.Errorf("the pod wasn't ready throughout: %v", seen)
	}
	w.unchanged("main", pods)
	w.await("main", "resources healthy", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionResourcesHealthy, metav1.ConditionTrue, "Healthy")
	})
}

// A slot whose whole container was killed for lack of memory says so after its restart, and the other slot's doesn't
// notice. What takes it here is no worker, so that no guard helps.
func TestP76_O28_AContainerOutOfMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configMap("modules", "growing.py", growing)
	w.pool("main", v1alpha1.PoolV2, 2, patientCheckout, withMemory)
	pods := w.start("main", 1, withModules)
	w.awaitReady("main")
	stable := w.router(cluster.App(&pods[0])).Stable
	inSlot := func(python string) string {
		output, _ := cluster.Kubectl(w.ctx, "-n", w.namespace, "exec", pods[0].Name, "-c", "pool-"+stable, "--", "python3", "-c", python)
		return output // an error is what happens to whoever is killed
	}
	if v2 := inSlot("import os; print(os.path.exists('/sys/fs/cgroup/cgroup.controllers'))"); !strings.Contains(v2, "True") {
		t.Skip("on cgroup v1 the kernel kills single processes, never all of a container")
	}
	inSlot("kept = bytearray(b'x') * (400 << 20)")
	w.eventually("its restart", func() (bool, string) {
		c := w.slotContainer("pool-" + stable)
		return c.RestartCount > 0, show(c)
	})
	w.await("main", "the kill told", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionResourcesHealthy, metav1.ConditionFalse, "OutOfMemory")
	})
	other := map[string]string{"a": "pool-b", "b": "pool-a"}[stable]
	if c := w.slotContainer(other); c.RestartCount > 0 {
		t.Errorf("container %s was restarted %d times with the other slot's", c.Name, c.RestartCount)
	}
}

// slotContainer is the status of a container of the only pod.
func (w *world) slotContainer(name string) corev1.ContainerStatus {
	w.Helper()
	var pods corev1.PodList
	w.must(cluster.List(w.ctx, &pods, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.PoolLabel}))
	for _, c := range pods.Items[0].Status.InitContainerStatuses {
		if c.Name == name {
			return c
		}
	}
	w.Fatalf("the pod has no container %s", name)
	return corev1.ContainerStatus{}
}
