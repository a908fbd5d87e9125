//go:build e2e

package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// From apply to Ready, by kubectl's own means, and one request through each version.
func TestO14_ApplyToReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 2)
	pods := w.start("main", 1)
	app := cluster.App(&pods[0])
	w.kubectl("wait", "--for=condition=Ready", "workerpool/main", "--timeout=60s")

	pool := w.awaitReady("main")
	if pool.Status.Canary != nil || pool.Status.Stable.Version != v1alpha1.PoolV2 {
		t.Errorf("stable %+v, canary %+v; want v2 alone from the start", pool.Status.Stable, pool.Status.Canary)
	}
	w.answers(app, "v2", pool.Status.Stable.Revision)

	t.Run("O3_WaitNeverReturnsOnAStaleGeneration", func(t *testing.T) {
		w := w.sub(t)
		w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 })
		w.kubectl("wait", "--for=condition=Ready", "workerpool/main", "--timeout=60s")
		pool := w.get("main")
		if pool.Status.ObservedGeneration != pool.Generation || pool.Status.Stable.Version != v1alpha1.PoolV1 {
			t.Fatalf("kubectl wait returned at generation %d with status of %d and stable %s",
				pool.Generation, pool.Status.ObservedGeneration, pool.Status.Stable.Version)
		}
		w.answers(app, "v1", pool.Status.Stable.Revision)
	})
	t.Run("O11_ColumnsFit120Characters", func(t *testing.T) {
		w := w.sub(t)
		table := w.kubectl("get", "workerpools")
		if !strings.Contains(table, "READY") || !strings.Contains(table, "main") {
			t.Fatalf("kubectl get workerpools prints\n%s", table)
		}
		for line := range strings.Lines(table) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 120 {
				t.Errorf("%d characters: %s", n, line)
			}
		}
	})
}

// answers sends a request and fails unless this version and revision served it.
func (w *world) answers(app *harness.App, version, revision string) {
	w.Helper()
	response := w.call(app, "echo", `{"text":"grüß dich"}`)
	var body map[string]string
	if err := json.Unmarshal(response.Body, &body); err != nil || response.Status != 200 || body["text"] != "grüß dich" {
		w.Fatalf("echo answered %d %s (%v)", response.Status, response.Body, err)
	}
	gotVersion, gotRevision := response.Header.Get("Workerpool-Version"), response.Header.Get("Workerpool-Revision")
	if gotVersion != version || gotRevision != revision {
		w.Errorf("%s of revision %s served, want %s of %s", gotVersion, gotRevision, version, revision)
	}
}

// The very first apply may be a canary: its stable is the same worker on v1. The weight that is applied is the share
// that is measured, in each pod by itself.
func TestO15_O66_FirstApplyWithWeight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 2, weight(10))
	apps := cluster.Apps(w.start("main", 2))
	pool := w.awaitReady("main")
	if pool.Status.Stable.Version != v1alpha1.PoolV1 || pool.Status.Canary == nil || pool.Status.Canary.Version != v1alpha1.PoolV2 {
		t.Fatalf("stable %+v, canary %+v; want v1 and v2", pool.Status.Stable, pool.Status.Canary)
	}
	for _, step := range []struct {
		name     string
		weight   any
		requests int64
		want     uint64
		off      uint64 // how far the share may be off
	}{
		{"Weight10", 10, 1000, 100, 1},
		{"WeightOfAText", "0.25%", 2000, 5, 1},
		{"O17_WeightZero", 0, 1000, 0, 0},
		{"Weight50", 50, 1000, 500, 1},
	} {
		t.Run(step.name, func(t *testing.T) {
			w := w.sub(t)
			w.change("main", weight(step.weight))
			w.awaitReady("main")
			for _, app := range apps {
				got := w.run(app, harness.Load{Callers: 8, Command: "echo", Count: step.requests})
				v2 := got.Versions["v2"].Requests
				if got.Lost > 0 || v2+step.off < step.want || v2 > step.want+step.off {
					t.Errorf("pod %s: v2 served %d of %d, %d lost; want %d ± %d", app.Pod, v2, got.Requests, got.Lost, step.want, step.off)
				}
			}
		})
	}
}

// Overflow workers come while requests wait and go when they are idle, down to size again.
func TestOverflowComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, func(s *v1alpha1.WorkerPoolSpec) { s.Overflow = 2 })
	w.must(app.Begin(w.ctx, harness.Load{Callers: 8, Command: "sleep", Args: map[string]any{"ms": 50}}))
	w.eventually("2 overflow workers beside 2", func() (bool, string) {
		slot := w.stable(app)
		return slot.Serving() == 4 && slot.Overflow == 2, show(slot)
	})
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
	w.eventually("back to 2 workers", func() (bool, string) {
		slot := w.stable(app)
		return slot.Serving() == 2 && slot.Overflow == 0 && slot.Crashed == 0, show(slot)
	})
	w.unchanged("main", pods)
}

// A pool that starts its workers when requests need them, and renews each after so many requests, in place.
func TestP1_P85_LazyAndRecycled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, patientCheckout, func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Start = v1alpha1.StartLazy })
	processes, err := harness.Processes(&pods[0])
	w.must(err)
	for _, p := range processes {
		if p.IsWorker() {
			t.Errorf("a worker before the first request: %+v", p)
		}
	}
	if response := w.call(app, "who", "{}"); response.Status != 200 {
		t.Errorf("the first request got %d %s", response.Status, response.Body)
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Recycle = &v1alpha1.Recycle{MaxRequests: 5} })
	w.awaitReady("main")
	before := w.stable(app).Spawned
	lostNone(t, w.run(app, harness.Load{Callers: 2, Command: "echo", Count: 60}))
	if spawned := w.stable(app).Spawned - before; spawned < 10 {
		t.Errorf("%d workers were started for 60 requests of at most 5 each, want 10 at least", spawned)
	}
	if slot := w.stable(app); slot.Crashed != 0 {
		t.Errorf("%+v: a worker that is renewed didn't crash", slot)
	}
	w.unchanged("main", pods)
}

// Workers that are forked from one import of the module serve as spawned ones do, also after they were killed.
func TestP104_ForkedWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Preload = v1alpha1.PreloadZygote })
	if slot := w.stable(app); slot.ForkRefused != "" {
		t.Errorf("workers are spawned: %s", slot.ForkRefused)
	}
	processes, err := harness.Processes(&pods[0])
	w.must(err)
	zygotes := 0
	for _, p := range processes {
		if slices.Contains(p.Args, "--zygote") {
			zygotes++
		}
	}
	if zygotes == 0 {
		t.Errorf("no zygote among %+v", processes)
	}
	lostNone(t, w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 200}))
	if response := w.call(app, "crash", "{}"); response.Status != 502 {
		t.Errorf("a crash got %d %s", response.Status, response.Body)
	}
	w.eventually("2 workers again", func() (bool, string) {
		slot := w.stable(app)
		return slot.Crashed == 1 && slot.Serving() == 2, show(slot)
	})
	lostNone(t, w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 200}))
	w.unchanged("main", pods)
}
