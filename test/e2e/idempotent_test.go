//go:build e2e

package e2e

import (
	"syscall"
	"testing"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// A worker is killed in the midst of its request: a caller who has marked that as idempotent gets its result all the same,
// any other is told, and nothing ran twice for them.
func TestP52_WorkerKilledUnderAnIdempotentRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsTheNode()
	app, pods := w.serving("main", v1alpha1.PoolV2, 1, patientCheckout)
	for crashed, tc := range []struct {
		headers []string
		status  int
	}{
		{nil, 502},
		{[]string{"Workerpool-Idempotent", "true"}, 200},
	} {
		answered := make(chan harness.Response, 1)
		go func() { answered <- w.call(app, "sleep", `{"ms": 2000}`, tc.headers...) }()
		w.eventually("the worker busy", func() (bool, string) {
			slot := w.stable(app)
			return slot.Busy == 1, show(slot)
		})
		w.must(syscall.Kill(w.workers(&pods[0])[0].PID, syscall.SIGKILL))
		if response := <-answered; response.Status != tc.status || tc.status == 502 && response.Error().Type != "port_exited" {
			t.Errorf("with headers %v: %d %s, want %d", tc.headers, response.Status, response.Body, tc.status)
		}
		w.eventually("the worker replaced", func() (bool, string) {
			slot := w.stable(app)
			return slot.Crashed == uint64(crashed+1) && slot.Ready == 1, show(slot)
		})
	}
	if response := w.call(app, "echo", `{}`, "Workerpool-Idempotent", "1"); response.Status != 400 {
		t.Errorf("another value of the header: %d %s, want 400", response.Status, response.Body)
	}
	w.unchanged("main", pods)
}
