//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// A new revision whose module can't be imported is a state with its traceback. The stable slot serves on, the pod
// stays ready, nothing is lost, and the starts back off.
func TestP8_O34_ModuleThatDoesNotStart(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WorkerPoolSpec)
		says   []string
	}{
		"missing": {
			func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.missing" },
			[]string{"ModuleNotFoundError", "demo.missing"},
		},
		"raises": {
			func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.broken" },
			[]string{"RuntimeError: settings file /etc/demo/settings.json is missing", "broken.py", "in load"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			app, pods := w.serving("main", v1alpha1.PoolV1, 2)
			interruptions := w.watchReadiness(&pods[0])
			w.must(app.Begin(w.ctx, sleeping(2)))
			w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV2; tc.change(s) })
			w.stalls("main", tc.says...)

			canary := w.router(app).Canary
			before := w.router(app).Slot(canary).Spawned
			time.Sleep(3 * time.Second) // the time in which a hot loop would show
			if spawned := w.router(app).Slot(canary).Spawned - before; spawned > 6 {
				t.Errorf("%d starts within 3 s, want them to back off", spawned)
			}
			figures, err := app.End(w.ctx)
			w.must(err)
			lostNone(t, figures)
			if v2 := figures.Versions["v2"].Requests; v2 > 0 {
				t.Errorf("%d requests went to a version without workers", v2)
			}
			if seen := interruptions(); len(seen) > 0 {
				t.Errorf("the pod wasn't ready throughout: %v", seen)
			}
			w.unchanged("main", pods)

			w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.commands" })
			w.await("main", "ready on v2", func(p *v1alpha1.WorkerPool) bool {
				return harness.Ready(p) && p.Status.Stable.Version == v1alpha1.PoolV2
			})
		})
	}
}

// stalls waits until a pool says that workers don't start, and why.
func (w *world) stalls(name string, says ...string) {
	w.Helper()
	pool := w.await(name, "stalled", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionStalled, metav1.ConditionTrue, "WorkerBootFailed") &&
			harness.ConditionIs(p, v1alpha1.ConditionReady, metav1.ConditionFalse, "WorkerBootFailed")
	})
	message := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionStalled).Message
	for _, part := range says {
		if !strings.Contains(message, part) {
			w.Errorf("Stalled says %q, want it to hold %q", message, part)
		}
	}
}

// alone is a module that only one process of a pod can import at a time, as where a metrics exporter is started at import.
const alone = `import socket
port = socket.socket()
port.bind(("127.0.0.1", 18123))
port.listen()
from poolworker import command
@command
def hi() -> int: return 1
`

// The first worker starts and serves, the others never do: a state with the traceback all the time, and back-off.
func TestP80_SomeWorkersDoNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configMap("modules", "looking.py", alone)
	w.pool("main", v1alpha1.PoolV2, 4, fromVolume)
	app := cluster.App(&w.start("main", 1, withModules)[0])
	for range 2 {
		w.stalls("main", "1 of 4 serve there", "Address already in use", "looking.py", "port.bind")
		if response := w.call(app, "hi", "{}"); response.Status != 200 {
			t.Errorf("answered %d %s; want the worker that started to serve on", response.Status, response.Body)
		}
		before := w.router(app).Slot("a").Spawned
		time.Sleep(3 * time.Second) // the time in which a hot loop would show
		if spawned := w.router(app).Slot("a").Spawned - before; spawned > 6 {
			t.Errorf("%d starts within 3 s, want them to back off", spawned)
		}
	}
}

// A pool that never had a worker still lets its pods start, says what is wrong in every answer, and heals when the
// module is corrected.
func TestP6_FirstModuleThatDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 2, func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Env = []v1alpha1.EnvVar{{Name: "IMPORT_FAIL", Value: "1"}}
	})
	pods := w.start("main", 1)
	app := cluster.App(&pods[0])
	w.stalls("main", "IMPORT_FAIL is set")
	response := w.call(app, "echo", "{}")
	if e := response.Error(); response.Status != 503 || e.Type != "pool_not_available" || !strings.Contains(e.Message, "IMPORT_FAIL") {
		t.Errorf("answered %d %s, want 503 pool_not_available with the reason", response.Status, response.Body)
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Env = nil })
	pool := w.awaitReady("main")
	w.answers(app, "v2", pool.Status.Stable.Revision)
	w.unchanged("main", pods)
}
