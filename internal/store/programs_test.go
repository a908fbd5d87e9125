package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Looking at what isn't there makes nothing.
func TestReadingCreatesNothing(t *testing.T) {
	b := newBench(t)
	if got := b.ids("x"); got != "" {
		t.Errorf("programs %q", got)
	}
	_, err := b.Program("x", "p")
	refused(t, err, pool.ProgramNotFound)
	_, err = b.UseProgram("x", "p")
	refused(t, err, pool.ProgramNotFound)
	refused(t, b.DeleteProgram("x", "p"), pool.ProgramNotFound)
	_, err = b.Session("x")
	refused(t, err, pool.SessionNotFound)
	if got := b.Stats(); got.Sessions != 0 || got.Programs != 0 {
		t.Errorf("%+v", got)
	}
}

func TestP56_ListsAreDisjoint(t *testing.T) {
	b := newBench(t)
	for _, p := range []struct{ session, id string }{{"x", "1"}, {"x", "2"}, {"xx", "3"}, {"", "4"}} {
		b.create(p.session, p.id)
	}
	for session, want := range map[string]string{"x": "1 2", "xx": "3", "": "4", Anonymous: "4", "y": ""} {
		if got := b.ids(session); got != want {
			t.Errorf("session %q has %q, want %q", session, got, want)
		}
	}
}

func TestProgramsInPages(t *testing.T) {
	b := newBench(t)
	for i := range 25 {
		b.create("x", fmt.Sprintf("p%02d", i))
	}
	b.create("y", "p99")
	var seen []string
	for after := ""; ; {
		page := must[[]Program](t)(b.Programs("x", after, 10))
		if len(page) == 0 {
			break
		}
		for _, p := range page {
			if p.Inputs != nil || p.Command != "summarize" || p.Hash == "" {
				t.Fatalf("%+v", p)
			}
			seen = append(seen, p.ID)
		}
		after = page[len(page)-1].ID
	}
	if len(seen) != 25 || seen[0] != "p00" || seen[24] != "p24" {
		t.Errorf("%v", seen)
	}
}

func TestP57_Duplicates(t *testing.T) {
	b := newBench(t)
	first := b.create("x", "p")
	_, err := b.CreateProgram(NewProgram{ID: "p", Session: "x", Command: "other"})
	e := details(t, err, pool.DuplicateProgram)
	if e.Context["program"] != "p" || e.Context["session"] != "x" {
		t.Errorf("%v", e.Context)
	}
	if diff := cmp.Diff(first, must[Program](t)(b.Program("x", "p"))); diff != "" {
		t.Errorf("the first changed: %s", diff)
	}
	b.create("y", "p")
	b.create("", "p")
	if s := must[Session](t)(b.Session("x")); s.Operations != 1 || s.Programs != 1 {
		t.Errorf("a refused program counted: %+v", s)
	}
	if err := b.DeleteProgram("x", "p"); err != nil {
		t.Fatal(err)
	}
	b.create("x", "p")
}

func TestP66_ListAndDeleteInNamedSessions(t *testing.T) {
	b := newBench(t)
	b.create("x", "p")
	b.create("x", "q")
	b.create("", "p")
	if err := b.DeleteProgram("x", "p"); err != nil {
		t.Fatal(err)
	}
	if got := b.ids("x"); got != "q" {
		t.Errorf("session x has %q", got)
	}
	refused(t, b.DeleteProgram("x", "p"), pool.ProgramNotFound) // the anonymous one stays
	if got := b.ids(""); got != "p" {
		t.Errorf("anonymous has %q", got)
	}
}

func TestP67_AnonymousIsEveryones(t *testing.T) {
	b := newBench(t)
	common := b.create("", "p")
	if common.Session != Anonymous {
		t.Errorf("%+v", common)
	}
	for _, session := range []string{"", Anonymous, "x", "y"} {
		if p := must[Program](t)(b.UseProgram(session, "p")); p.Hash != common.Hash || p.Session != Anonymous {
			t.Errorf("from %q: %+v", session, p)
		}
	}
	must[Program](t)(b.CreateProgram(NewProgram{ID: "p", Session: "x", Command: "own"}))
	if p := must[Program](t)(b.UseProgram("x", "p")); p.Command != "own" {
		t.Errorf("a session's own program comes first: %+v", p)
	}
	refused(t, b.EndSession(""), pool.InvalidID)
	b.reopen()
	if p := must[Program](t)(b.Program("y", "p")); p.Operations != 4 {
		t.Errorf("%+v", p)
	}
}

func TestHashIsOfTheBody(t *testing.T) {
	b := newBench(t)
	hashes := map[string]string{}
	for id, p := range map[string]NewProgram{
		"first":   {Command: "c", Inputs: []byte(`{"a": 1}`)},
		"same":    {Command: "c", Inputs: []byte(` { "a" : 1 } `), Session: "x"},
		"inputs":  {Command: "c", Inputs: []byte(`{"a": 2}`)},
		"command": {Command: "d", Inputs: []byte(`{"a": 1}`)},
		"none":    {Command: "c"},
	} {
		p.ID = id
		hashes[id] = must[Program](t)(b.CreateProgram(p)).Hash
	}
	if hashes["first"] != hashes["same"] {
		t.Error("spaces change the hash")
	}
	for _, id := range []string{"inputs", "command", "none"} {
		if hashes[id] == hashes["first"] {
			t.Errorf("%s doesn't change the hash", id)
		}
	}
}

func TestInputsAreBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxRecord = 100 })
	for name, c := range map[string]struct {
		inputs string
		want   pool.Type
	}{
		"too large": {fmt.Sprintf(`{"a": %q}`, strings.Repeat("a", 100)), pool.RecordTooLarge},
		"a number":  {`1`, pool.InvalidPayload},
		"spaces":    {`  `, pool.InvalidPayload},
		"half":      {`{"a": 1`, pool.InvalidPayload},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.CreateProgram(NewProgram{ID: "p", Session: "x", Command: "c", Inputs: []byte(c.inputs)})
			refused(t, err, c.want)
		})
	}
	if got := b.Stats(); got.Sessions != 0 || got.Programs != 0 {
		t.Errorf("%+v", got)
	}
}
