//go:build e2e

package e2e

import (
	"testing"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// The status tells, of each revision that serves, what its workers do and what they cost: of a worker that crashed, too.
func TestFiguresOfEachRevisionsWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(50))
	if response := w.call(app, "crash", "{}", "Workerpool-Version", "v1"); response.Status != 502 {
		t.Fatalf("a crash got %d %s", response.Status, response.Body)
	}
	w.must(app.Begin(w.ctx, harness.Load{Callers: 4, Command: "compute", Args: map[string]any{"ms": 5}}))
	pool := w.await("main", "figures of both revisions' workers", func(p *v1alpha1.WorkerPool) bool {
		for _, v := range p.Status.Versions {
			if v.Memory == nil || v.CPU == nil || v.OpenFDs == 0 || v.Throughput == "" || v.Utilization == "" || v.Utilization == "0" {
				return false
			}
		}
		return len(p.Status.Versions) == 2
	})
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
	v1, v2 := pool.Status.Versions[0], pool.Status.Versions[1]
	if v1.Spawned != 3 || v1.Crashed != 1 || v1.Destroyed != 1 || v2.Spawned != 2 || v2.Crashed+v2.Destroyed != 0 {
		t.Errorf("v1 %+v\nv2 %+v\nwant 3 workers of v1, one of which crashed, and 2 of v2", v1, v2)
	}
	for _, v := range pool.Status.Versions {
		if mib := v.Memory.Value() >> 20; mib < 5 || mib > 1000 || v.CPU.MilliValue() > int64(2000) || v.OpenFDs < 6 {
			t.Errorf("%s: memory %s, CPU %s, %d open files; want what two small Python processes have", v.Version, v.Memory, v.CPU, v.OpenFDs)
		}
	}
	w.unchanged("main", pods)
}
