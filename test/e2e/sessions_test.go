//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// ask makes one request of the pool's API; the headers are name, value, name, value...
func (w *world) ask(app *harness.App, method, path, body string, headers ...string) harness.Response {
	w.Helper()
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	response, err := app.Ask(w.ctx, method, path, strings.NewReader(body), header)
	w.must(err)
	return response
}

// keeps stores n sessions, each with data and a program of its own.
func (w *world) keeps(app *harness.App, n int) {
	w.Helper()
	for i := range n {
		session := fmt.Sprintf("session-%d", i)
		if r := w.ask(app, "PATCH", "/v1/sessions/"+session, fmt.Sprintf(`{"patch":{"n":%d}}`, i)); r.Status != 200 {
			w.Fatalf("session %s: %d %s", session, r.Status, r.Body)
		}
		program := fmt.Sprintf(`{"id":"p","command":"echo","inputs":{"n":%d},"session":%q}`, i, session)
		if r := w.ask(app, "POST", "/v1/programs", program); r.Status != 201 {
			w.Fatalf("program of %s: %d %s", session, r.Status, r.Body)
		}
	}
}

// kept fails the test when one of n sessions, its data or its program isn't as it was stored.
func (w *world) kept(app *harness.App, n int) {
	w.Helper()
	for i := range n {
		session := fmt.Sprintf("session-%d", i)
		var got struct {
			Data struct{ N int } `json:"data"`
		}
		r := w.ask(app, "GET", "/v1/sessions/"+session, "")
		if err := json.Unmarshal(r.Body, &got); err != nil || r.Status != 200 || got.Data.N != i {
			w.Errorf("session %s: %d %s", session, r.Status, r.Body)
		}
		var echoed map[string]int
		r = w.ask(app, "POST", "/v1/programs/p/execute", `{"m":1}`, "Workerpool-Session", session)
		if err := json.Unmarshal(r.Body, &echoed); err != nil || r.Status != 200 || echoed["n"] != i || echoed["m"] != 1 {
			w.Errorf("program of %s: %d %s, want its own inputs and the call's", session, r.Status, r.Body)
		}
	}
}

// Sessions and programs outlive their workers, both slots, the change from one version to the other and back, and the
// router's own restart.
func TestP58_P59_P60_P70_SessionsOutliveEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV1, 2)
	w.keeps(app, 10)
	for _, worker := range w.workers(&pods[0]) {
		w.must(syscall.Kill(worker.PID, syscall.SIGKILL))
	}
	w.eventually("2 other workers", func() (bool, string) {
		slot := w.stable(app)
		return slot.Crashed == 2 && slot.Serving() == 2, show(slot)
	})
	w.kept(app, 10)
	for _, version := range []v1alpha1.PoolVersion{v1alpha1.PoolV2, v1alpha1.PoolV1} {
		w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = version })
		w.awaitReady("main")
		w.kept(app, 10)
	}
	w.unchanged("main", pods)
	for _, container := range []string{"pool-a", "pool-b", "pool-router"} {
		w.must(killFirst(&pods[0], container))
		w.eventually(container+" serves again", func() (bool, string) {
			response, err := app.Call(w.ctx, "echo", strings.NewReader("{}"), nil)
			return err == nil && response.Status == 200, fmt.Sprintf("%v %s", err, response.Body)
		})
		w.kept(app, 10)
	}
}

// killFirst kills a container's first process.
func killFirst(pod *corev1.Pod, container string) error {
	processes, err := harness.Processes(pod)
	if err != nil {
		return err
	}
	for _, p := range processes {
		if p.Container == container && (p.Runs("poold", "router") || p.Runs("poold", "pool")) {
			return syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	return fmt.Errorf("no poold in %s: %+v", container, processes)
}

// What programs and sessions refuse, and how.
func TestP57_P63_BadProgramsAndSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, _ := w.serving("main", v1alpha1.PoolV2, 1)
	w.keeps(app, 1)
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		kind, says         string
	}{
		"a program of an unknown command":  {"POST", "/v1/programs", `{"command":"reverse"}`, 404, "request_error/unknown_command", "reverse"},
		"a program's id twice":             {"POST", "/v1/programs", `{"id":"p","command":"echo","session":"session-0"}`, 409, "request_error/duplicate_program", "session-0"},
		"a signature":                      {"POST", "/v1/programs", `{"signature":"a -> b"}`, 400, "request_error/", "signature"},
		"an unknown program":               {"POST", "/v1/programs/none/execute", `{}`, 404, "request_error/program_not_found", "none"},
		"an unknown session":               {"GET", "/v1/sessions/none", "", 404, "request_error/session_not_found", "none"},
		"an update of another version":     {"PATCH", "/v1/sessions/session-0", `{"patch":{"n":1},"expectedVersion":7}`, 409, "request_error/version_conflict", "7"},
		"a session id of 1 MB":             {"POST", "/v1/sessions", `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "request_error/invalid_id", "bytes"},
		"an update that isn't an object":   {"PATCH", "/v1/sessions/session-0", `{"patch":[1]}`, 400, "request_error/invalid_payload", "object"},
		"the end of the anonymous session": {"DELETE", "/v1/sessions/anonymous", "", 400, "request_error/invalid_id", "everyone"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.sub(t).ask(app, tc.method, tc.path, tc.body)
			e := r.Error()
			if r.Status != tc.status || !strings.HasPrefix(e.Category+"/"+e.Type, tc.kind) || !strings.Contains(e.Message, tc.says) || e.Context == nil {
				t.Errorf("answered %d %.300s, want %d %s saying %q", r.Status, r.Body, tc.status, tc.kind, tc.says)
			}
		})
	}
	w.kept(app, 1)
}
