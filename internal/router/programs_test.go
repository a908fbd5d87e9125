package router

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
	"github.com/dspex/workerpool-operator/internal/store"
)

// showing is a slot's handler that tells what it got.
func showing(_ context.Context, call slottest.Call) (string, error) {
	text, err := json.Marshal(map[string]any{"fixed": json.RawMessage(call.Fixed), "inputs": json.RawMessage(call.Payload)})
	return string(text), err
}

// newKeeper is a rig for programs and sessions: its slots' "show" tells what it got.
func newKeeper(t *testing.T) *rig {
	t.Helper()
	return newRig(t, snapshot(0), map[string]slottest.Handler{"show": showing})
}

// do sends a JSON body, and fails the test unless the status is as wanted.
func (r *rig) do(want int, method, path, body string, header ...string) *answer {
	r.t.Helper()
	a := r.send(method, path, strings.NewReader(body), header...)
	if a.code != want {
		r.t.Errorf("%s %s %.200s: %d %.300s, want %d", method, path, body, a.code, a.body, want)
	}
	return a
}

// refused is do for what must fail, with a type.
func (r *rig) refused(want int, kind, method, path, body string, header ...string) *answer {
	r.t.Helper()
	a := r.do(want, method, path, body, header...)
	if f := a.failure; f.Type != kind || f.Category == "" || f.Message == "" || f.Context == nil || len(f.Message) > 1000 {
		r.t.Errorf("%s %s %.200s: %.300s, want %s in four parts", method, path, body, a.body, kind)
	}
	return a
}

func read[T any](t testing.TB, a *answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Errorf("%.200s: %v", a.body, err)
	}
	return v
}

func (r *rig) session(id string) store.Session {
	r.t.Helper()
	return read[store.Session](r.t, r.do(200, "GET", "/v1/sessions/"+id, ""))
}

// ids lists a session's programs.
func (r *rig) ids(session string) string {
	r.t.Helper()
	var ids []string
	for _, p := range read[programList](r.t, r.do(200, "GET", "/v1/programs?session="+session, "")).Programs {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

func TestAProgramIsACommandWithFixedInputs(t *testing.T) {
	r := newKeeper(t)
	a := r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show", "inputs": {"words": 5, "text": null}, "session": "s1"}`)
	if a.header.Get("Location") != "/v1/programs/p1" {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	created := read[store.Program](t, a)
	for name, path := range map[string]string{
		"inputs over the fixed ones": "/v1/programs/p1/execute?session=s1", "again": "/v1/programs/p1/execute?session=s1",
	} {
		a := r.do(200, "POST", path, `{"text": "a"}`)
		if a.body != `{"fixed":{"words":5,"text":null},"inputs":{"text":"a"}}` || a.header.Get(headerVersion) != "v1" {
			t.Errorf("%s: %s by %s", name, a.body, a.header.Get(headerVersion))
		}
	}
	r.do(200, "POST", "/v1/programs/p1/execute", "", headerSession, "s1")
	if n := r.a.Bodies(); n != 1 {
		t.Errorf("the slot was sent the body %d times, want once", n)
	}
	got := read[store.Program](t, r.do(200, "GET", "/v1/programs/p1?session=s1", ""))
	if got.Operations != 3 || got.LastUsedAt.Before(created.CreatedAt) || string(got.Inputs) != `{"words":5,"text":null}` {
		t.Errorf("after three executions %+v", got)
	}
	if f := r.revisionFigures("r1"); f.Requests != 3 {
		t.Errorf("three executions counted as %d requests of their revision", f.Requests)
	}
	r.do(204, "DELETE", "/v1/programs/p1?session=s1", "")
	r.refused(404, "program_not_found", "POST", "/v1/programs/p1/execute?session=s1", "{}")
	r.refused(404, "program_not_found", "DELETE", "/v1/programs/p1?session=s1", "")
}

func TestP56_P66_SessionsListsAreDisjoint(t *testing.T) {
	r := newKeeper(t)
	for i := range 6 {
		r.do(201, "POST", "/v1/programs", fmt.Sprintf(`{"id": "p%d", "command": "show", "session": "s%d"}`, i, i%2))
	}
	if even, odd, common := r.ids("s0"), r.ids("s1"), r.ids(""); even != "p0 p2 p4" || odd != "p1 p3 p5" || common != "" {
		t.Errorf("lists %q, %q and %q", even, odd, common)
	}
	r.refused(404, "program_not_found", "GET", "/v1/programs/p0?session=s1", "")
	r.refused(404, "program_not_found", "DELETE", "/v1/programs/p0?session=s1", "")
	r.do(204, "DELETE", "/v1/programs/p2?session=s0", "")
	if even, odd := r.ids("s0"), r.ids("s1"); even != "p0 p4" || odd != "p1 p3 p5" {
		t.Errorf("after a deletion lists %q and %q", even, odd)
	}
	page := read[programList](t, r.do(200, "GET", "/v1/programs?session=s1&limit=2", ""))
	rest := read[programList](t, r.do(200, "GET", "/v1/programs?session=s1&limit=2&after="+page.Next, ""))
	if len(page.Programs) != 2 || page.Next != "p3" || len(rest.Programs) != 1 || rest.Programs[0].ID != "p5" || rest.Next != "" {
		t.Errorf("pages %+v and %+v", page, rest)
	}
}

func TestP57_DuplicateID(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show", "session": "s1"}`)
	r.refused(409, "duplicate_program", "POST", "/v1/programs", `{"id": "p1", "command": "other", "session": "s1"}`)
	r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show", "session": "s2"}`)
	r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show"}`)
	if p := read[store.Program](t, r.do(200, "GET", "/v1/programs/p1?session=s1", "")); p.Command != "show" {
		t.Errorf("the first became %+v", p)
	}
	seen := map[string]bool{}
	for range 100 {
		seen[read[store.Program](t, r.do(201, "POST", "/v1/programs", `{"command": "show"}`)).ID] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 programs without an id got %d ids", len(seen))
	}
}

func TestP67_AnonymousProgramsAreEveryones(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"id": "common", "command": "show", "inputs": {"a": 1}}`)
	for _, session := range []string{"", "?session=s1", "?session=anonymous"} {
		if a := r.do(200, "POST", "/v1/programs/common/execute"+session, "{}"); !strings.Contains(a.body, `{"a":1}`) {
			t.Errorf("%s: %s", session, a.body)
		}
	}
	r.do(201, "POST", "/v1/programs", `{"id": "common", "command": "show", "inputs": {"a": 2}, "session": "s1"}`)
	if a := r.do(200, "POST", "/v1/programs/common/execute?session=s1", "{}"); !strings.Contains(a.body, `{"a":2}`) {
		t.Errorf("the session's own comes first, and got %s", a.body)
	}
	r.restart()
	if a := r.do(200, "POST", "/v1/programs/common/execute?session=s2", "{}"); !strings.Contains(a.body, `{"a":1}`) {
		t.Errorf("after the router's restart %s", a.body)
	}
}

func TestP21_EachSeesItsOwnProgram(t *testing.T) {
	r := newKeeper(t)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			session := fmt.Sprint("s", i)
			created := read[store.Program](t, r.do(201, "POST", "/v1/programs", `{"command": "show", "session": "`+session+`"}`))
			if ids := r.ids(session); ids != created.ID {
				t.Errorf("%s made %s and lists %s", session, created.ID, ids)
			}
		})
	}
	wg.Wait()
}

// TestProgramForAnUnknownCommand: it is refused as soon as all that serve have told their commands.
func TestProgramForAnUnknownCommand(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	create := func(command string) *answer {
		return r.send("POST", "/v1/programs", strings.NewReader(`{"command": "`+command+`"}`))
	}
	if a := create("later"); a.code != 201 {
		t.Errorf("no worker has told its commands: %d %s", a.code, a.body)
	}
	told := func(slot *slottest.Slot, commands ...string) {
		slot.Knows(commands...)
		r.until(func() bool { return slices.Equal(r.slots[slot.Name].State().Status.Commands, commands) })
	}
	told(r.a, "echo", "show")
	if a := create("new"); a.code != 201 {
		t.Errorf("the canary hasn't told its commands: %d %s", a.code, a.body)
	}
	told(r.b, "echo", "new")
	a := r.refused(404, "unknown_command", "POST", "/v1/programs", `{"command": "nope"}`)
	if diff := cmp.Diff([]any{"echo", "new", "show"}, a.failure.Context["commands"]); diff != "" {
		t.Errorf("commands (-want +got)\n%s", diff)
	}
	for _, command := range []string{"echo", "show", "new"} { // of both, of the stable, of the canary
		if a := create(command); a.code != 201 {
			t.Errorf("%s: %d %s", command, a.code, a.body)
		}
	}
	r.apply(at(changed(snapshot(0), func(s *controlpb.Snapshot) { s.Canary, s.Slots[1].Revision = "", nil }), 1, 1))
	r.refused(404, "unknown_command", "POST", "/v1/programs", `{"command": "new"}`)
}

func TestP70_ProgramsAndSessionsSurviveSwitchesAndRestarts(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"id": "p1", "command": "show", "inputs": {"a": 1}, "session": "s1"}`)
	r.do(200, "PATCH", "/v1/sessions/s1", `{"patch": {"turns": [1, 2]}}`)
	before := r.session("s1")
	serves := func(version string) {
		t.Helper()
		a := r.do(200, "POST", "/v1/programs/p1/execute?session=s1", `{"b": 2}`)
		if a.body != `{"fixed":{"a":1},"inputs":{"b":2}}` || a.header.Get(headerVersion) != version {
			t.Errorf("%s by %s, want %s", a.body, a.header.Get(headerVersion), version)
		}
		now := r.session("s1")
		if !now.StartedAt.Equal(before.StartedAt) || now.Operations <= before.Operations || string(now.Data) != `{"turns":[1,2]}` || now.Version != 1 {
			t.Errorf("the session was %+v and is %+v", before, now)
		}
		before = now
	}
	serves("v1")
	forth := changed(snapshot(0), func(s *controlpb.Snapshot) { s.Stable, s.Canary = "b", "a" })
	r.apply(at(forth, 1, 1))
	serves("v2")
	r.apply(at(snapshot(0), 1, 2))
	serves("v1")
	r.restart()
	r.until(func() bool { return ready(r.Router, snapshot(0)) })
	serves("v1")
	r.a.Stop()
	r.a.Start()
	serves("v1")
}

func TestHeldProgramsAreShared(t *testing.T) {
	var h heldPrograms
	p1, release1 := h.take("h1", []byte("{}"))
	p2, release2 := h.take("h1", []byte("{}"))
	other, release3 := h.take("h2", []byte("{}"))
	if p1 != p2 || p1 == other {
		t.Error("two calls of one program must share it, and no other")
	}
	release1()
	if p, release := h.take("h1", nil); p != p1 {
		t.Error("a program that a call runs was dropped")
	} else {
		release()
	}
	release2()
	release3()
	if len(h.byHash) != 0 {
		t.Errorf("%d programs are held for nobody", len(h.byHash))
	}
}

func TestP95_StatsHealthAndStore(t *testing.T) {
	r := newKeeper(t)
	r.do(201, "POST", "/v1/programs", `{"command": "show", "session": "s1"}`)
	st := read[Stats](t, r.do(200, "GET", "/v1/stats", ""))
	if st.Store.Sessions != 1 || st.Store.Programs != 1 || st.Store.Bytes == 0 || st.Workers.Ready != 8 || len(st.Revisions) != 2 {
		t.Errorf("stats %+v", st)
	}
	if s := read[Status](t, r.do(200, "GET", "/v1/status", "")).Store; s.Sessions != 1 {
		t.Errorf("the status' store %+v", s)
	}
	if h := read[Health](t, r.do(200, "GET", "/v1/health", "")); !h.Healthy || h.Slot != "a" {
		t.Errorf("health %+v", h)
	}
	r.a.Hang(pool.NewUnhealthy(4, time.Unix(1_800_000_000, 0))) // P95: all its workers are there
	r.until(func() bool { return r.slots["a"].State().Status.Unhealthy != nil })
	if a := r.refused(http.StatusServiceUnavailable, "pool_not_available", "GET", "/v1/health", ""); !strings.Contains(a.failure.Message, "no worker has answered since") {
		t.Errorf("health of hung workers: %s", a.failure.Message)
	}
	if s := read[Status](t, r.do(200, "GET", "/v1/status", "")).Slots[0]; !strings.HasPrefix(s.Unhealthy, "no worker has answered since 2027-") || s.Ready != 4 {
		t.Errorf("the status of the slot: %+v", s)
	}
	if s := r.Report().Slots[0]; !strings.HasPrefix(s.GetUnhealthy(), "no worker has answered since 2027-") {
		t.Errorf("the report of the slot: %v", s)
	}
	r.a.Hang(nil)
	r.until(func() bool { return r.slots["a"].State().Status.Unhealthy == nil })
	r.do(200, "GET", "/v1/health", "")
	r.a.Stop()
	r.until(func() bool { return !r.slots["a"].Serving() })
	r.refused(http.StatusServiceUnavailable, "pool_not_available", "GET", "/v1/health", "")
}
