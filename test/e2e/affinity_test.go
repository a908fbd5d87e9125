//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// home asks which worker serves a session that wants the one that served it last.
func (w *world) home(app *harness.App, session, mode string) string {
	w.Helper()
	var who struct{ Worker string }
	r := w.ask(app, http.MethodPost, "/v1/commands/who", "{}", "Workerpool-Session", session, "Workerpool-Affinity", mode)
	if err := json.Unmarshal(r.Body, &who); err != nil || r.Status != http.StatusOK || who.Worker == "" {
		w.Fatalf("session %s with affinity %s: %d %s", session, mode, r.Status, r.Body)
	}
	return who.Worker
}

// A session's requests come back to its worker, beside other load, until that dies; then they have another one.
func TestP68_P69_SessionsKeepTheirWorker(t *testing.T) {
	t.Parallel()
	for _, version := range []v1alpha1.PoolVersion{v1alpha1.PoolV1, v1alpha1.PoolV2} {
		t.Run(string(version), func(t *testing.T) {
			w := newWorld(t)
			app, pods := w.serving("main", version, 3, patientCheckout)
			w.must(app.Begin(w.ctx, harness.Load{Callers: 2, Command: "sleep", Args: map[string]any{"ms": 5}}))
			homes := map[string]string{}
			for i := range 6 {
				session := fmt.Sprintf("session-%d", i)
				homes[session] = w.home(app, session, "strict")
			}
			for range 5 {
				for session, home := range homes {
					if worker := w.home(app, session, "strict"); worker != home {
						t.Errorf("session %s: served by %s, not by its worker %s", session, worker, home)
					}
				}
			}
			gone := homes["session-0"]
			r := w.ask(app, http.MethodPost, "/v1/commands/crash", "{}", "Workerpool-Session", "session-0", "Workerpool-Affinity", "strict")
			if r.Status != http.StatusBadGateway || !strings.Contains(string(r.Body), gone) {
				t.Errorf("a crash of %s got %d %s", gone, r.Status, r.Body)
			}
			next := w.home(app, "session-0", "strict")
			if again := w.home(app, "session-0", "strict"); next == gone || again != next {
				t.Errorf("after the end of %s served by %s, then by %s", gone, next, again)
			}
			for session, home := range homes {
				if worker := w.home(app, session, "strict"); home != gone && worker != home {
					t.Errorf("session %s lost its worker %s to the end of %s", session, home, gone)
				}
			}
			_, err := app.End(w.ctx)
			w.must(err)
			w.unchanged("main", pods)
		})
	}
}

// A request that wants the session's worker now, or none, is refused while that is busy; the others go on.
func TestP68_StrictNowIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, _ := w.serving("main", v1alpha1.PoolV2, 2)
	home := w.home(app, "one", "strict")
	busy := make(chan harness.Response, 1)
	go func() {
		header := http.Header{"Workerpool-Session": {"one"}, "Workerpool-Affinity": {"strict"}}
		response, err := app.Call(w.ctx, "sleep", strings.NewReader(`{"ms":5000}`), header)
		if err != nil {
			t.Error(err)
		}
		busy <- response
	}()
	w.eventually("the session's worker busy", func() (bool, string) {
		slot := w.stable(app)
		return slot.Busy == 1, show(slot)
	})
	r := w.ask(app, http.MethodPost, "/v1/commands/who", "{}", "Workerpool-Session", "one", "Workerpool-Affinity", "strict-now")
	if e := r.Error(); r.Status != http.StatusServiceUnavailable || e.Type != "worker_busy" || e.Context["worker"] != home || r.Header.Get("Retry-After") == "" {
		t.Errorf("strict-now: %d %s, Retry-After %q; want worker_busy of %s", r.Status, r.Body, r.Header.Get("Retry-After"), home)
	}
	if other := w.home(app, "two", "strict-now"); other == home {
		t.Errorf("another session was served by %s, which is busy", home)
	}
	if response := <-busy; response.Status != http.StatusOK {
		t.Errorf("the one that it was busy with: %d %s", response.Status, response.Body)
	}
}
