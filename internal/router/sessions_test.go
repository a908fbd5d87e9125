package router

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/store"
)

func TestP55_FirstUseCreatesTheSession(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"id": "common", "command": "show"}`)
	for name, use := range map[string]func(id string){
		"start":     func(id string) { r.do(201, "POST", "/v1/sessions", `{"id": "`+id+`"}`) },
		"update":    func(id string) { r.do(200, "PATCH", "/v1/sessions/"+id, `{"patch": {}}`) },
		"a program": func(id string) { r.do(201, "POST", "/v1/programs", `{"command": "show", "session": "`+id+`"}`) },
		"execute":   func(id string) { r.do(200, "POST", "/v1/programs/common/execute", "{}", headerSession, id) },
		"a command": func(id string) { r.do(200, "POST", "/v1/commands/echo", "{}", headerSession, id) },
	} {
		t.Run(name, func(t *testing.T) {
			id := strings.ReplaceAll(name, " ", "-")
			r.refused(404, "session_not_found", "GET", "/v1/sessions/"+id, "")
			use(id)
			if s := r.session(id); s.ID != id || s.Operations != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
	a := r.do(200, "POST", "/v1/sessions", `{"id": "start"}`)
	if s := read[store.Session](t, a); s.Operations != 2 || a.header.Get("Location") != "/v1/sessions/start" {
		t.Errorf("started again it is %+v", s)
	}
	if s := read[store.Session](t, r.do(201, "POST", "/v1/sessions", "")); s.ID == "" {
		t.Errorf("without an id %+v", s)
	}
	r.do(200, "GET", "/v1/programs?session=never-used", "")
	r.refused(404, "session_not_found", "GET", "/v1/sessions/never-used", "") // reading is no use
}

// TestPlainCommandsUseNoSession: they cost the store nothing.
func TestPlainCommandsUseNoSession(t *testing.T) {
	r := newKeeper(t)
	r.do(200, "POST", "/v1/commands/echo", "{}")
	r.do(200, "POST", "/v1/commands/echo", "{}", headerSession, "anonymous")
	if s := r.session("anonymous"); s.Operations != 0 {
		t.Errorf("%+v", s)
	}
}

func TestP61_ConcurrentUpdatesAreAllCounted(t *testing.T) {
	r := newKeeper(t)
	const updates = 20
	var conflicts atomic.Int32
	var wg sync.WaitGroup
	for range updates {
		wg.Go(func() { // reads, adds one, writes: what another has written meanwhile must not be lost
			for {
				n, version := 0, uint64(0)
				if a := r.send("GET", "/v1/sessions/s1", strings.NewReader("")); a.code == 200 {
					s := read[store.Session](t, a)
					var data struct{ N int }
					_ = json.Unmarshal(s.Data, &data)
					n, version = data.N, s.Version
				}
				a := r.send("PATCH", "/v1/sessions/s1", strings.NewReader(fmt.Sprintf(`{"patch": {"n": %d}, "expectedVersion": %d}`, n+1, version)))
				switch {
				case a.code == 200:
					return
				case a.failure.Type != "version_conflict" || a.code != 409:
					t.Errorf("%d %s", a.code, a.body)
					return
				}
				conflicts.Add(1)
			}
		})
	}
	wg.Wait()
	if s := r.session("s1"); string(s.Data) != fmt.Sprintf(`{"n":%d}`, updates) || s.Version != updates {
		t.Errorf("after %d updates (%d tried again) %+v", updates, conflicts.Load(), s)
	}
}

func TestP62_AFailingUpdateChangesNothing(t *testing.T) {
	r := newKeeper(t)
	r.do(200, "PATCH", "/v1/sessions/s1", `{"patch": {"a": {"b": 1, "c": 2}}}`)
	before := r.session("s1")
	for name, tc := range map[string]struct {
		status     int
		kind, body string
	}{
		"no JSON":               {400, "invalid_payload", `{"patch": {"a": `},
		"no patch":              {400, "invalid_payload", `{"expectedVersion": 1}`},
		"an array":              {400, "invalid_payload", `{"patch": [1]}`},
		"another version":       {409, "version_conflict", `{"patch": {"a": 1}, "expectedVersion": 7}`},
		"a version that's none": {400, "invalid_payload", `{"patch": {"a": 1}, "expectedVersion": -1}`},
		"a fraction":            {400, "invalid_payload", `{"patch": {"a": 1}, "expectedVersion": 1.5}`},
		"a field that's none":   {400, "invalid_payload", `{"patch": {"a": 1}, "data": {}}`},
		"too large":             {413, "record_too_large", `{"patch": {"a": "` + strings.Repeat("x", 1<<20) + `"}}`},
		"far too large":         {413, "record_too_large", `{"patch": {"a": "` + strings.Repeat("x", 2<<20) + `"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			r.refused(tc.status, tc.kind, "PATCH", "/v1/sessions/s1", tc.body)
			if now := r.session("s1"); string(now.Data) != string(before.Data) || now.Version != before.Version || now.Operations != before.Operations {
				t.Errorf("it was %+v and is %+v", before, now)
			}
		})
	}
	a := r.do(200, "PATCH", "/v1/sessions/s1", `{"patch": {"a": {"b": null}, "d": 3}, "expectedVersion": 1}`)
	if s := read[store.Session](t, a); string(s.Data) != `{"a":{"c":2},"d":3}` || s.Version != 2 {
		t.Errorf("a merge patch made it %+v", s)
	}
}

func TestP63_EndTwiceAndLostUpdates(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show", "session": "s1"}`)
	for _, expected := range []int{0, 1} {
		r.do(200, "PATCH", "/v1/sessions/s1", fmt.Sprintf(`{"patch": {"a": %d}, "expectedVersion": %d}`, expected, expected))
	}
	a := r.refused(409, "version_conflict", "PATCH", "/v1/sessions/s1", `{"patch": {"a": 9}, "expectedVersion": 1}`)
	if a.failure.Context["version"] != 2.0 || a.failure.Context["expected"] != 1.0 {
		t.Errorf("context %v", a.failure.Context)
	}
	r.do(204, "DELETE", "/v1/sessions/s1", "")
	r.do(204, "DELETE", "/v1/sessions/s1", "")
	r.do(204, "DELETE", "/v1/sessions/never", "")
	r.refused(404, "session_not_found", "GET", "/v1/sessions/s1", "")
	r.refused(404, "program_not_found", "GET", "/v1/programs/p1?session=s1", "")
	r.refused(400, "invalid_id", "DELETE", "/v1/sessions/anonymous", "")
}

// testClock moves only when it is told to.
type testClock struct{ now atomic.Int64 }

func (c *testClock) Now() time.Time          { return time.Unix(1_800_000_000, c.now.Load()) }
func (c *testClock) advance(d time.Duration) { c.now.Add(int64(d)) }

// restartWith starts the rig's router again, with a store that has this clock.
func (r *rig) restartWith(c *testClock) {
	r.config.store = store.Options{Now: c.Now}
	r.restart()
	r.until(func() bool { return ready(r.Router, snapshot(0)) })
}

func TestP64_P65_StaleSessionsAreSweptTouchedOnesKept(t *testing.T) {
	r := newKeeper(t)
	clock := &testClock{}
	r.restartWith(clock)
	r.do(201, "POST", "/v1/programs", `{"id": "common", "command": "show"}`)
	for _, id := range []string{"stale", "touched", "executes"} {
		r.do(200, "PATCH", "/v1/sessions/"+id, `{"patch": {"a": 1}}`)
	}
	first := r.session("touched")
	var before uint64
	for range 30 { // hours, in which Sweep runs each time, and a session idle for 24 of them ends
		clock.advance(time.Hour)
		r.do(200, "POST", "/v1/commands/echo", "{}", headerSession, "touched")
		r.do(200, "POST", "/v1/programs/common/execute", "{}", headerSession, "executes")
		r.records.sweep()
		s := r.session("touched")
		if !s.StartedAt.Equal(first.StartedAt) || s.Operations <= before || !s.LastUsedAt.Equal(clock.Now()) {
			t.Fatalf("started as %+v, is %+v", first, s)
		}
		before = s.Operations
	}
	r.refused(404, "session_not_found", "GET", "/v1/sessions/stale", "")
	r.session("executes")
	if n := read[Stats](t, r.do(200, "GET", "/v1/stats", "")).Store.Swept; n != 1 {
		t.Errorf("%d sessions were swept, want 1", n)
	}
	r.do(200, "GET", "/v1/programs/common", "")
}
