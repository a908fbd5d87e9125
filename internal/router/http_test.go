package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestCommandIsAnsweredWithTheWorkersResult(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"echo": slottest.Echo})
	for name, test := range map[string]struct{ body, want string }{
		"opaque body": {`{"text": "…", "n": 1e400}`, `{"text": "…", "n": 1e400}`},
		"no body":     {"", "{}"},
		"large body":  {`"` + strings.Repeat("x", 1<<20) + `"`, `"` + strings.Repeat("x", 1<<20) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.post("echo", test.body)
			if a.code != http.StatusOK || a.body != test.want {
				t.Errorf("%d %.100s", a.code, a.body)
			}
			for header, want := range map[string]string{
				"Workerpool-Version": "v1", "Workerpool-Revision": "r1", "Content-Type": "application/json",
			} {
				if got := a.header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
		})
	}
}

func TestChunkedBodyIsRead(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"echo": slottest.Echo})
	a := r.send(http.MethodPost, "/v1/commands/echo", io.MultiReader(strings.NewReader(`{"a"`), strings.NewReader(`:1}`)))
	if a.code != http.StatusOK || a.body != `{"a":1}` {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// TestBadRequests: each has a status and an error that names the thing and the way out, and none reaches a slot.
func TestBadRequests(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.cfg.MaxPayload = 1000
	for name, test := range map[string]struct {
		method, path, body string
		header             []string
		code               int
		errorType          pool.Type
		message            string // part of it
	}{
		"deadline is no duration": {body: "{}", header: []string{"Workerpool-Deadline", "soon"},
			code: 400, errorType: InvalidHeader, message: `header Workerpool-Deadline is "soon"`},
		"deadline is NaN": {body: "{}", header: []string{"Workerpool-Deadline", "NaN"}, code: 400, errorType: InvalidHeader, message: `"NaN"`},
		"deadline is absurd": {body: "{}", header: []string{"Workerpool-Deadline", "1e300"},
			code: 400, errorType: InvalidHeader, message: "at most 24h"},
		"deadline is over a day": {body: "{}", header: []string{"Workerpool-Deadline", "25h"},
			code: 400, errorType: InvalidHeader, message: "at most 24h"},
		"P26 past its deadline": {body: "{}", header: []string{"Workerpool-Deadline", "-5ms"},
			code: 504, errorType: pool.DeadlineExceeded, message: "had passed before it was sent"},
		"P26 deadline now": {body: "{}", header: []string{"Workerpool-Deadline", "0"},
			code: 504, errorType: pool.DeadlineExceeded, message: "had passed"},
		"unknown version": {body: "{}", header: []string{"Workerpool-Version", "v3"},
			code: 400, errorType: InvalidHeader, message: `Workerpool-Version is "v3": use v1 or v2`},
		"unknown affinity": {body: "{}", header: []string{"Workerpool-Affinity", "sticky", "Workerpool-Session", "s1"},
			code: 400, errorType: InvalidHeader, message: `header Workerpool-Affinity is "sticky": use hint, strict or strict-now`},
		"affinity without a session": {body: "{}", header: []string{"Workerpool-Affinity", "strict"},
			code: 400, errorType: InvalidHeader, message: `header Workerpool-Affinity is "strict": the request has no session of its own; name one with Workerpool-Session`},
		"affinity of everyone's session": {body: "{}", header: []string{"Workerpool-Affinity", "hint", "Workerpool-Session", "anonymous"},
			code: 400, errorType: InvalidHeader, message: "has no session of its own"},
		"P52 idempotent by another word": {body: "{}", header: []string{"Workerpool-Idempotent", "yes"},
			code: 400, errorType: InvalidHeader, message: `Workerpool-Idempotent is "yes": use true`},
		"P33 too large, length told": {body: strings.Repeat("x", 1001),
			code: 413, errorType: pool.FrameTooLarge, message: "over 1000 bytes"},
		"no name":             {path: "/v1/commands/", code: 404, errorType: pool.UnknownCommand, message: "command's name"},
		"name with a slash":   {path: "/v1/commands/a/b", code: 404, errorType: pool.UnknownCommand, message: `"a/b"`},
		"name with a newline": {path: "/v1/commands/a%0Ab", code: 404, errorType: pool.UnknownCommand, message: `a\nb`},
		"name not UTF-8":      {path: "/v1/commands/%ff", code: 404, errorType: pool.UnknownCommand, message: "command's name"},
		"name too long": {path: "/v1/commands/" + strings.Repeat("n", 129),
			code: 404, errorType: pool.UnknownCommand, message: "1 to 128 bytes"},
		"a parameter": {path: "/v1/commands/x?session=s1",
			code: 400, errorType: pool.InvalidPayload, message: "a session into the header Workerpool-Session"},
		"a parameter of another operation": {method: http.MethodGet, path: "/v1/programs?before=x",
			code: 400, errorType: pool.InvalidPayload, message: "it takes session, after, limit"},
		"wrong method": {method: http.MethodGet, path: "/v1/commands/x",
			code: 405, errorType: MethodNotAllowed, message: "use POST"},
		"status by POST": {method: http.MethodPost, path: "/v1/status", code: 405, errorType: MethodNotAllowed, message: "use GET"},
		"nowhere":        {method: http.MethodGet, path: "/", code: 404, errorType: NotFound, message: "POST /v1/commands/NAME"},
		"double slash":   {path: "//v1/commands/x", code: 404, errorType: NotFound, message: "there is nothing at"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = http.MethodPost
			}
			if test.path == "" {
				test.path = "/v1/commands/x"
			}
			a := r.send(test.method, test.path, strings.NewReader(test.body), test.header...)
			if a.code != test.code || a.failure.Type != string(test.errorType) || !strings.Contains(a.failure.Message, test.message) {
				t.Errorf("%d %s, want %d %s with %q", a.code, a.body, test.code, test.errorType, test.message)
			}
			if a.failure.Category == "" || a.failure.Context == nil {
				t.Errorf("an error has four parts: %s", a.body)
			}
		})
	}
	if calls := append(r.a.Calls(), r.b.Calls()...); len(calls) > 0 {
		t.Errorf("slots got %v", calls)
	}
}

func TestP33_TooLargeWithoutALength(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.cfg.MaxPayload = 1000
	a := r.send(http.MethodPost, "/v1/commands/x", io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))))
	if a.code != 413 || a.failure.Type != "frame_too_large" || a.failure.Context["limit"] != 1000.0 {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// TestLargeBodiesAreBounded: as many as fit run at once, the next waits for room, small ones don't.
func TestLargeBodiesAreBounded(t *testing.T) {
	inside, finish := make(chan struct{}, 100), make(chan struct{})
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"hold": func(context.Context, slottest.Call) (string, error) {
			inside <- struct{}{}
			<-finish
			return "{}", nil
		},
	})
	large := strings.Repeat("x", r.cfg.MaxPayload)
	answers := make(chan *answer, bodiesAtOnce+1)
	for range bodiesAtOnce {
		go func() { answers <- r.post("hold", large) }()
	}
	for range bodiesAtOnce {
		<-inside
	}
	if a := r.post("x", large, "Workerpool-Deadline", "50ms"); a.code != 504 || !strings.Contains(a.failure.Message, "for room for the body of x (Workerpool-Deadline: 50ms)") {
		t.Errorf("one more: %d %s", a.code, a.body)
	}
	if a := r.post("x", `{"small": true}`); a.code != 200 {
		t.Errorf("a small one: %d %s", a.code, a.body)
	}
	go func() { answers <- r.post("x", large) }()
	close(finish)
	for range bodiesAtOnce + 1 {
		if a := <-answers; a.code != 200 {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	t.Run("a small body of untold length gives back what it holds", func(t *testing.T) {
		for range 3 * bodiesAtOnce {
			a := r.send(http.MethodPost, "/v1/commands/x", io.MultiReader(strings.NewReader("{}")), "Workerpool-Deadline", "5s")
			if a.code != 200 {
				t.Fatalf("%d %s", a.code, a.body)
			}
		}
		r.hasAllRoom()
	})
}

// TestPanicGivesBackItsRoom: the HTTP server survives a panic in a request, and so must the room for large bodies.
func TestPanicGivesBackItsRoom(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	large := bytes.NewReader(make([]byte, r.cfg.MaxPayload))
	r.table.Store(&table{}) // without a stable: a bug
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/commands/x", large)
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	if answer.Code != http.StatusInternalServerError || !strings.Contains(r.logs.String(), "request panicked") {
		t.Errorf("%d %s\n%s", answer.Code, answer.Body, r.logs)
	}
	r.hasAllRoom()
}

// TestP45_SlotsErrorsHaveTheirStatus: whatever a slot says reaches the application whole, with a fitting status.
func TestP45_SlotsErrorsHaveTheirStatus(t *testing.T) {
	type slotError struct {
		category pool.Category
		code     int
	}
	byType := map[pool.Type]slotError{
		pool.QueueFull:        {pool.ResourceError, 503},
		pool.CheckoutTimeout:  {pool.TimeoutError, 503},
		pool.CommandTimeout:   {pool.TimeoutError, 504},
		pool.DeadlineExceeded: {pool.TimeoutError, 504},
		pool.PythonError:      {pool.CommunicationError, 500},
		pool.UnknownCommand:   {pool.RequestError, 404},
		pool.InvalidPayload:   {pool.RequestError, 400},
		pool.NotAvailable:     {pool.ResourceError, 502}, // as the request had been sent
		pool.PortExited:       {pool.CommunicationError, 502},
		pool.ResponseMismatch: {pool.CommunicationError, 502},
		pool.DecodeError:      {pool.CommunicationError, 502},
		pool.FrameTooLarge:    {pool.CommunicationError, 502},
		pool.Internal:         {pool.SystemError, 500},
		pool.CallerError:      {pool.RequestError, 400},
		pool.UpstreamError:    {pool.CommunicationError, 502},
		"of_a_later_slot":     {pool.SystemError, 500},
	}
	scripted := map[string]slottest.Handler{
		"fail": func(_ context.Context, call slottest.Call) (string, error) {
			wanted := pool.Type(strings.Trim(call.Payload, `"`))
			e := pool.NewError(byType[wanted].category, wanted, "the text of %s", wanted).With("slot", "a")
			e.Sent = call.Command != "refuse"
			return "", e
		},
	}
	scripted["refuse"] = scripted["fail"]
	r := newRig(t, snapshot(0), scripted)
	if a := r.post("refuse", `"pool_not_available"`); a.code != 503 {
		t.Errorf("what was turned away before it was sent: %d %s, want 503, which says that nothing ran", a.code, a.body)
	}
	for errorType, want := range byType {
		a := r.post("fail", `"`+string(errorType)+`"`)
		message, limit, limited := strings.Cut(a.failure.Message, " (timeouts.checkout and timeouts.operation)")
		if limited != (want.code == 504) || limit != "" {
			t.Errorf("%s: a request that ran out of time, and no other, is told what set that: %s", errorType, a.body)
		}
		got := []any{a.code, a.failure.Category, a.failure.Type, message, a.failure.Context["slot"]}
		wanted := []any{want.code, string(want.category), string(errorType), "the text of " + string(errorType), "a"}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", errorType, diff)
		}
		if retry := a.header.Get("Retry-After"); (retry != "") != (errorType == pool.QueueFull) {
			t.Errorf("%s: Retry-After %q", errorType, retry)
		}
		if a.header.Get("Workerpool-Revision") != "r1" {
			t.Errorf("%s: no revision on the error", errorType)
		}
	}
}

func TestP31_RetryAfterIsThePools(t *testing.T) {
	for name, test := range map[string]struct {
		told   any // retry_after_ms in the slot's error; nil: none
		header string
		millis float64
	}{
		"less than a second":     {40, "1", 40},
		"rounded up":             {2001, "3", 2001},
		"whole seconds":          {2000, "2", 2000},
		"not told":               {nil, "1", 1000},
		"told, and of no use":    {"soon", "1", 1000},
		"told, and out of range": {1e300, "3600", 3_600_000},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, snapshot(0), map[string]slottest.Handler{
				"x": func(context.Context, slottest.Call) (string, error) {
					e := pool.NewError(pool.ResourceError, pool.QueueFull, "full")
					if test.told != nil {
						e = e.With("retry_after_ms", test.told)
					}
					return "", e
				},
			})
			a := r.post("x", "{}")
			if got := a.header.Get("Retry-After"); got != test.header || a.failure.Context["retry_after_ms"] != test.millis {
				t.Errorf("Retry-After %q, want %q: %s", got, test.header, a.body)
			}
		})
	}
}

func TestDeadlineBecomesTheBudget(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	for name, test := range map[string]struct {
		header string
		atMost time.Duration
	}{
		"duration":                {"1.5s", 1500 * time.Millisecond},
		"seconds":                 {"2", 2 * time.Second},
		"part of a second":        {"0.25", 250 * time.Millisecond},
		"none: checkout and op":   {"", 7 * time.Second},
		"more than the pool says": {"1h", 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if test.header != "" {
				header = []string{"Workerpool-Deadline", test.header}
			}
			if a := r.post("x", "{}", header...); a.code != http.StatusOK {
				t.Fatalf("%d %s", a.code, a.body)
			}
			calls := r.a.Calls()
			if got := calls[len(calls)-1].Budget; got > test.atMost || got < test.atMost-200*time.Millisecond {
				t.Errorf("budget %v, want nearly %v", got, test.atMost)
			}
		})
	}
}

func TestP29_DisconnectCancels(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"hang": func(ctx context.Context, _ slottest.Call) (string, error) {
			close(entered)
			<-ctx.Done()
			close(left)
			return "late", nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pool/v1/commands/hang", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := r.client.Do(request); !errors.Is(err, context.Canceled) {
		_ = response.Body.Close()
		t.Fatalf("got %v", err)
	}
	<-left
	r.until(func() bool { return r.revisionFigures("r1").CallerErrors == 1 })
	if a := r.post("x", "{}"); a.slot() != "a" {
		t.Errorf("the next caller got %d %s", a.code, a.body)
	}
}

func TestP54_StatusShowsNoSecret(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	a := r.send(http.MethodGet, "/v1/status", http.NoBody)
	for _, want := range []string{
		`"pool":"summarizer"`, `"configured":true`, `"canaryWeight":10`, `"stable":"a"`, `"revision":"r2"`, `"reachable":true`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	if strings.Contains(a.body, secret) || strings.Contains(r.logs.String(), secret) {
		t.Errorf("the worker's environment shows: %s\n%s", a.body, r.logs)
	}
}
