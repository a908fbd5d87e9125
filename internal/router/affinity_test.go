package router

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// TestP68_AffinityReachesTheSlot: with the session, of commands and of programs, and only where it is asked for.
func TestP68_AffinityReachesTheSlot(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"show": slottest.Echo})
	r.do(http.StatusCreated, http.MethodPost, "/v1/programs", `{"command":"show","id":"p1"}`)
	for _, mode := range []string{"", "hint", "strict", "strict-now"} {
		for _, path := range []string{"/v1/commands/show", "/v1/programs/p1/execute"} {
			header := []string{"Workerpool-Session", "s1"}
			if mode != "" {
				header = append(header, "Workerpool-Affinity", mode)
			}
			r.do(http.StatusOK, http.MethodPost, path, "{}", header...)
			calls := r.a.Calls()
			if last := calls[len(calls)-1]; last.Affinity != mode || last.Session != "s1" {
				t.Errorf("POST %s with affinity %q: the slot got %q for session %q", path, mode, last.Affinity, last.Session)
			}
		}
	}
	r.do(http.StatusOK, http.MethodPost, "/v1/programs/p1/execute?session=s2", "{}", "Workerpool-Affinity", "hint")
	r.refused(http.StatusBadRequest, "invalid_header", http.MethodPost, "/v1/programs/p1/execute", "{}", "Workerpool-Affinity", "hint")
}

func TestP68_WorkerBusyIsRefusedForLoad(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"busy": func(context.Context, slottest.Call) (string, error) {
			return "", pool.NewWorkerBusy("summarizer", "a-1", 1500*time.Millisecond).With("slot", "a")
		},
	})
	a := r.refused(http.StatusServiceUnavailable, "worker_busy", http.MethodPost, "/v1/commands/busy", "{}",
		"Workerpool-Session", "s1", "Workerpool-Affinity", "strict-now")
	if a.header.Get("Retry-After") != "2" || a.failure.Category != "resource_error" || a.failure.Context["worker"] != "a-1" {
		t.Errorf("Retry-After %q, %s", a.header.Get("Retry-After"), a.body)
	}
	if f := r.revisionFigures("r1"); f.Shed != 1 || f.Infrastructure != 0 {
		t.Errorf("%d shed, %d of the infrastructure; want 1, 0", f.Shed, f.Infrastructure)
	}
}
