//go:build e2e

package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// Requests that can't be served get a fitting status and the four parts, the same from both versions, and leave the
// workers able to serve the next one.
func TestP26_P44_P45_P47_P49_BadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(50), patientCheckout) // some of these requests take a worker with them
	type answer struct {
		status   int
		kind     string // category/type
		says     string
		crashing bool // takes a worker with it
	}
	for name, tc := range map[string]struct {
		command, body string
		headers       []string
		want          answer
	}{
		"P35_NotJSON":        {"echo", `{"a":`, nil, answer{400, "request_error/invalid_payload", "JSON", false}},
		"NotAnObject":        {"echo", `[1,2]`, nil, answer{400, "request_error/invalid_payload", "object", false}},
		"WrongArguments":     {"sleep", `{"seconds":1}`, nil, answer{400, "request_error/invalid_payload", "seconds", false}},
		"UnknownCommand":     {"reverse", `{}`, nil, answer{404, "request_error/unknown_command", "Unknown command: reverse", false}},
		"PythonException":    {"fail", `{"message":"no luck"}`, nil, answer{500, "communication_error/python_error", "DemoFailure: no luck", false}},
		"DeadlineIsPast":     {"echo", `{}`, []string{"Workerpool-Deadline", "-1s"}, answer{504, "timeout_error/deadline_exceeded", "deadline", false}},
		"P30_DeadlineInside": {"hang", `{}`, []string{"Workerpool-Deadline", "300ms"}, answer{504, "timeout_error/command_timeout", "ms", true}},
		"P77_WorkerCrashes":  {"crash", `{"how":"segv"}`, nil, answer{502, "communication_error/port_exited", "SIGSEGV", true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.sub(t)
			messages := map[string]string{}
			for _, version := range []string{"v1", "v2"} {
				response := w.call(app, tc.command, tc.body, append(tc.headers, "Workerpool-Version", version)...)
				e := response.Error()
				if response.Status != tc.want.status || e.Category+"/"+e.Type != tc.want.kind || !strings.Contains(e.Message, tc.want.says) || e.Context == nil {
					t.Errorf("%s answered %d %s, want %d %s saying %q", version, response.Status, response.Body, tc.want.status, tc.want.kind, tc.want.says)
				}
				messages[version] = e.Message
				if next := w.call(app, "echo", `{}`, "Workerpool-Version", version); next.Status != 200 {
					t.Errorf("the next request to %s got %d %s", version, next.Status, next.Body)
				}
			}
			if !tc.want.crashing && messages["v1"] != messages["v2"] {
				t.Errorf("v1 says %q, v2 %q: want the same", messages["v1"], messages["v2"])
			}
		})
	}
	t.Run("P33_TooLarge", func(t *testing.T) {
		w := w.sub(t)
		response, err := app.Call(w.ctx, "echo", bytes.NewReader(bytes.Repeat([]byte(" "), 17<<20)), nil)
		w.must(err)
		if e := response.Error(); response.Status != 413 || e.Category+"/"+e.Type != "request_error/frame_too_large" || e.Context == nil {
			t.Errorf("answered %d %s, want 413 request_error/frame_too_large", response.Status, response.Body)
		}
	})
	w.unchanged("main", pods)
}

// Over the queue's limit a request is refused at once, and those within it are served.
func TestP15_P31_OverTheQueueLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	limit := int32(2)
	app, _ := w.serving("main", v1alpha1.PoolV2, 1, func(s *v1alpha1.WorkerPoolSpec) { s.QueueLimit = &limit })
	w.must(app.Begin(w.ctx, harness.Load{Callers: 3, Command: "sleep", Args: map[string]any{"ms": 1000}}))
	w.eventually("one request served and two waiting", func() (bool, string) {
		slot := w.stable(app)
		return slot.Busy == 1 && slot.Queued == 2, show(slot)
	})
	begun := time.Now()
	response := w.call(app, "echo", `{}`)
	e := response.Error()
	if response.Status != 503 || e.Category+"/"+e.Type != "resource_error/queue_full" || e.Context["pool"] != "main" || response.Header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s (%v), want 503 resource_error/queue_full, the pool and Retry-After", response.Status, response.Body, response.Header)
	}
	if took := time.Since(begun); took > 900*time.Millisecond {
		t.Errorf("refused after %s, want at once", took)
	}
	figures, err := app.End(w.ctx)
	w.must(err)
	lostNone(t, figures)
}
