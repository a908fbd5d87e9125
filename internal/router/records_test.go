package router

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/store"
)

func TestBadProgramsAndSessions(t *testing.T) {
	r := newKeeper(t)
	huge := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct {
		status             int
		kind               string
		method, path, body string
		says               string
	}{
		"no JSON":                    {400, "invalid_payload", "POST", "/v1/programs", `{"command"`, "must be a JSON object"},
		"an array":                   {400, "invalid_payload", "POST", "/v1/programs", `[]`, "it is array"},
		"null":                       {400, "invalid_payload", "POST", "/v1/programs", `null`, "not null"},
		"two values":                 {400, "invalid_payload", "POST", "/v1/programs", `{} {}`, "after top-level value"},
		"not UTF-8":                  {400, "invalid_payload", "POST", "/v1/programs", "{\"command\": \"\xff\"}", "UTF-8"},
		"no command":                 {400, "invalid_payload", "POST", "/v1/programs", `{}`, `field "command"`},
		"a command that is none":     {404, "unknown_command", "POST", "/v1/programs", `{"command": "a b"}`, "can't be a command's name"},
		"a number for a command":     {400, "invalid_payload", "POST", "/v1/programs", `{"command": 1}`, "must be a string"},
		"a signature":                {400, "invalid_payload", "POST", "/v1/programs", `{"signature": "a -> b"}`, "isn't supported yet; use command"},
		"a program type":             {400, "invalid_payload", "POST", "/v1/programs", `{"command": "c", "program_type": "predict"}`, "isn't supported yet; use command"},
		"a field that there isn't":   {400, "invalid_payload", "POST", "/v1/programs", `{"command": "c", "input": {}}`, `field "input"`},
		"a field in other letters":   {400, "invalid_payload", "POST", "/v1/programs", `{"Command": "c"}`, `field "Command"`},
		"a huge field":               {400, "invalid_payload", "POST", "/v1/programs", `{"` + huge + `": 1}`, "there is no such field"},
		"inputs that are an array":   {400, "invalid_payload", "POST", "/v1/programs", `{"command": "c", "inputs": []}`, "must be a JSON object"},
		"inputs over 1 MiB":          {413, "record_too_large", "POST", "/v1/programs", `{"command": "c", "inputs": {"a": "` + huge + `"}}`, "at most 1048576"},
		"far over 1 MiB":             {413, "record_too_large", "POST", "/v1/programs", `{"command": "c", "inputs": {"a": "` + huge + huge + `"}}`, "keep less"},
		"an empty id":                {400, "invalid_payload", "POST", "/v1/programs", `{"command": "c", "id": ""}`, "leave it out"},
		"an id with a space":         {400, "invalid_id", "POST", "/v1/programs", `{"command": "c", "id": "a b"}`, "U+0020"},
		"an id that is too long":     {400, "invalid_id", "POST", "/v1/programs", `{"command": "c", "id": "` + strings.Repeat("x", 257) + `"}`, "has 257 bytes"},
		"a session id of 1 MB":       {400, "invalid_id", "POST", "/v1/programs", `{"command": "c", "session": "` + huge + `"}`, "has 1048576 bytes"},
		"start with an id of 1 MB":   {400, "invalid_id", "POST", "/v1/sessions", `{"id": "` + huge + `"}`, "has 1048576 bytes"},
		"start with an empty id":     {400, "invalid_payload", "POST", "/v1/sessions", `{"id": ""}`, "leave it out"},
		"a session's data":           {400, "invalid_payload", "POST", "/v1/sessions", `{"id": "s", "data": {}}`, `field "data"`},
		"a path's id with a slash":   {404, "session_not_found", "GET", "/v1/sessions/a%2Fb", "", `"a/b"`},
		"a path's id with a newline": {400, "invalid_id", "GET", "/v1/sessions/a%0Ab", "", "U+000A"},
		"a path's id that's no text": {400, "invalid_id", "GET", "/v1/sessions/%ff", "", "isn't UTF-8"},
		"a path's id too long":       {400, "invalid_id", "GET", "/v1/programs/" + strings.Repeat("x", 20_000), "", "has 20000 bytes"},
		"two sessions":               {400, "invalid_id", "POST", "/v1/programs?session=a", `{"command": "c", "session": "b"}`, "names two sessions"},
		"a list's limit":             {400, "invalid_payload", "GET", "/v1/programs?limit=0", "", "1 to 1000"},
		"a list's limit, not one":    {400, "invalid_payload", "GET", "/v1/programs?limit=many", "", "1 to 1000"},
		"a parameter that is none":   {400, "invalid_payload", "GET", "/v1/programs?sesion=a", "", `"sesion"`},
		"a parameter twice":          {400, "invalid_payload", "GET", "/v1/programs?session=a&session=b", "", "more than once"},
		"a query that is none":       {400, "invalid_payload", "GET", "/v1/programs?session=%zz", "", "isn't a query"},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.refused(tc.status, tc.kind, tc.method, tc.path, tc.body)
			if !strings.Contains(a.failure.Message, tc.says) {
				t.Errorf("message %q lacks %q", a.failure.Message, tc.says)
			}
		})
	}
	long := strings.Repeat("x", 300)
	for _, path := range []string{"/v1/commands/echo", "/v1/programs/p/execute"} {
		r.refused(400, "invalid_id", "POST", path, "{}", headerSession, long)
	}
	if calls := r.a.Calls(); len(calls) != 0 {
		t.Errorf("a slot got %v", calls)
	}
	if st := r.records.status(); st.Sessions != 0 || st.Programs != 0 {
		t.Errorf("something was stored: %+v", st)
	}
}

// TestIDsArePercentDecoded: an id may be any printable text.
func TestIDsArePercentDecoded(t *testing.T) {
	r := newKeeper(t)
	for _, id := range []string{"a/b", "é", "100%", "a?b#c", "%2F", "a+b", "p1/execute"} {
		a := r.do(201, "POST", "/v1/programs", fmt.Sprintf(`{"id": %q, "command": "show", "session": %q}`, id, id))
		at := a.header.Get("Location")
		if at != "/v1/programs/"+url.PathEscape(id) {
			t.Errorf("%q is at %q", id, at)
		}
		r.do(200, "POST", at+"/execute?session="+url.QueryEscape(id), "{}")
		if p := read[store.Program](t, r.do(200, "GET", at+"?session="+url.QueryEscape(id), "")); p.ID != id || p.Operations != 1 {
			t.Errorf("%q: %+v", id, p)
		}
		r.do(204, "DELETE", "/v1/sessions/"+url.PathEscape(id), "")
	}
}

// TestBodyOfUnknownLength: what is too large is found when it was read.
func TestBodyOfUnknownLength(t *testing.T) {
	r := newKeeper(t)
	body := strings.NewReader(`{"patch": {"a": "` + strings.Repeat("x", 3<<20) + `"}}`)
	a := r.send("PATCH", "/v1/sessions/s1", &onlyReader{body})
	if a.code != 413 || a.failure.Type != string(pool.RecordTooLarge) {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// onlyReader hides a body's length from the client.
type onlyReader struct{ r *strings.Reader }

func (o *onlyReader) Read(p []byte) (int, error) { return o.r.Read(p) }

// servesWithout checks what a router does that has no store.
func (r *rig) servesWithout(says string) {
	r.t.Helper()
	r.do(200, "POST", "/v1/commands/echo", "{}", headerSession, "s1")
	for _, path := range []string{"GET /v1/programs", "POST /v1/programs", "GET /v1/programs/p", "DELETE /v1/programs/p",
		"POST /v1/programs/p/execute", "POST /v1/sessions", "GET /v1/sessions/s", "PATCH /v1/sessions/s", "DELETE /v1/sessions/s"} {
		method, path, _ := strings.Cut(path, " ")
		a := r.refused(503, "store_unavailable", method, path, "{}")
		if !strings.Contains(a.failure.Message, says) {
			r.t.Errorf("%s %s: message %q lacks %q", method, path, a.failure.Message, says)
		}
	}
	if h := read[Health](r.t, r.do(200, "GET", "/v1/health", "")); !h.Healthy || !strings.Contains(h.Store, says) {
		r.t.Errorf("health %+v", h)
	}
	if st := read[Status](r.t, r.do(200, "GET", "/v1/status", "")).Store; !strings.Contains(st.Problem, says) {
		r.t.Errorf("status %+v", st)
	}
}

func TestWithoutAStoreCommandsAreServed(t *testing.T) {
	r := newKeeper(t)
	r.end()
	kept := r.config.StateDir
	r.config.StateDir = ""
	r.start()
	r.until(func() bool { return ready(r.Router, snapshot(0)) })
	r.servesWithout("--state-dir")
	r.end()

	r.config.StateDir = kept
	other, err := store.Open(store.Options{Dir: kept, Log: r.config.Logger, Now: (&testClock{}).Now})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until(func() bool { return ready(r.Router, snapshot(0)) })
	r.servesWithout("another process has it open")
	if log := r.logs.String(); strings.Count(log, "programs and sessions aren't available") != 1 {
		t.Errorf("the log doesn't say it once: %s", log)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	r.records.open() // as each minute
	r.do(201, "POST", "/v1/sessions", `{"id": "s1"}`)
}

// TestTornFile: of two programs one is overwritten; the other serves, and the log says what was lost.
func TestTornFile(t *testing.T) {
	r := newKeeper(t)
	r.do(200, "PATCH", "/v1/sessions/intact", `{"patch": {"a": 1}}`)
	for _, id := range []string{"good", "torn"} {
		r.do(201, "POST", "/v1/programs", `{"id": "`+id+`", "command": "show", "inputs": {"text": "`+strings.Repeat(id, 5000)+`"}}`)
	}
	r.end()
	tear(t, filepath.Join(r.config.StateDir, "sessions.db"), bytes.Repeat([]byte("torn"), 2000))
	r.start()
	r.until(func() bool { return ready(r.Router, snapshot(0)) })
	if log := r.logs.String(); !strings.Contains(log, "sessions.db") || !strings.Contains(log, "damaged") {
		t.Errorf("the log doesn't say that the file was damaged: %s", log)
	}
	if s := r.session("intact"); string(s.Data) != `{"a":1}` {
		t.Errorf("what is intact became %+v", s)
	}
	r.do(200, "POST", "/v1/programs/good/execute", "{}")
	r.refused(404, "program_not_found", "POST", "/v1/programs/torn/execute", "{}")
	r.do(201, "POST", "/v1/programs", `{"id": "torn", "command": "show"}`)
}

// tear overwrites every page of a file that holds a text.
func tear(t *testing.T, path string, text []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for {
		i := bytes.Index(data, text)
		if i < 0 {
			break
		}
		binary.BigEndian.PutUint64(data[i:], 0)
		torn++
	}
	if torn == 0 {
		t.Fatalf("%s doesn't hold what is to be torn", path)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStoreFull: what is used makes no room for more.
func TestStoreFull(t *testing.T) {
	r := newKeeper(t)
	r.config.store = store.Options{MaxBytes: 200_000, Now: (&testClock{}).Now}
	r.restart()
	var a *answer
	kept := 0
	for ; kept < 100; kept++ {
		a = r.send("POST", "/v1/programs", strings.NewReader(
			fmt.Sprintf(`{"id": "p%d", "command": "show", "session": "s%d", "inputs": {"text": %q}}`, kept, kept, strings.Repeat("x", 10_000))))
		if a.code != 201 {
			break
		}
	}
	if a.code != 507 || a.failure.Type != string(pool.StoreFull) || kept == 0 || a.header.Get("Retry-After") != "60" {
		t.Errorf("after %d programs: %d %s, Retry-After %s", kept, a.code, a.body, a.header.Get("Retry-After"))
	}
	for i := range kept {
		r.do(200, "GET", fmt.Sprintf("/v1/programs/p%d?session=s%d", i, i), "")
	}
	r.do(200, "POST", "/v1/commands/echo", "{}", headerSession, "too-many") // a command doesn't depend on its count
	r.do(204, "DELETE", "/v1/sessions/s0", "")
	r.do(201, "POST", "/v1/programs", `{"command": "show"}`)
}

// TestASessionIDOf1MBInAHeader: net/http refuses it before anything of ours is asked, as workers.md says.
func TestASessionIDOf1MBInAHeader(t *testing.T) {
	r := newKeeper(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://pool/v1/commands/echo", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(headerSession, strings.Repeat("x", 1<<20))
	response, err := r.client.Do(request)
	if err == nil { // else the connection was closed before the header was sent whole
		defer response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s", response.Status)
		}
	}
	if calls := r.a.Calls(); len(calls) != 0 {
		t.Errorf("a slot got %d calls", len(calls))
	}
	r.do(200, "POST", "/v1/commands/echo", "{}")
}
