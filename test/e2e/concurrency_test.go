//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// One worker serves eight requests at the same time, whether their handler is async or not; v1 says that it doesn't.
func TestP107_P108_ConcurrencyOfAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 1, func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Concurrency = 8 })
	for _, command := range []string{"sleep_async", "sleep"} {
		const count, each = 32, 500 * time.Millisecond
		begin := time.Now()
		lostNone(t, w.run(app, harness.Load{Callers: 8, Command: command, Args: map[string]any{"ms": each.Milliseconds()}, Count: count}))
		if took := time.Since(begin); took > count*each/2 {
			t.Errorf("%d times %s of %s on one worker took %s", count, command, each, took)
		}
	}
	if slot := w.stable(app); slot.Spawned != 1 || len(slot.Inactive) > 0 {
		t.Errorf("%+v: want one worker, and nothing inactive", slot)
	}
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 })
	w.awaitReady("main")
	if slot := w.stable(app); !strings.Contains(strings.Join(slot.Inactive, "; "), "worker.concurrency of 8 is inactive under v1") {
		t.Errorf("%+v: v1 doesn't say that the concurrency is inactive", slot)
	}
	w.unchanged("main", pods)
}
