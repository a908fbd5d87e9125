package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestP55_FirstUseCreatesTheSession(t *testing.T) {
	for name, use := range map[string]func(*bench) error{
		"touched":      func(b *bench) error { _, err := b.Touch("x"); return err },
		"started":      func(b *bench) error { _, err := b.StartSession("x"); return err },
		"updated":      func(b *bench) error { _, err := b.UpdateSession("x", []byte(`{"a":1}`), nil); return err },
		"program made": func(b *bench) error { _, err := b.CreateProgram(NewProgram{Session: "x", Command: "c"}); return err },
		"program used": func(b *bench) error { _, err := b.UseProgram("x", "common"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create("", "common")
			_, err := b.Session("x")
			refused(t, err, pool.SessionNotFound)
			if err := use(b); err != nil {
				t.Fatal(err)
			}
			if s := must[Session](t)(b.Session("x")); s.Operations != 1 || !s.StartedAt.Equal(b.clock.Now()) {
				t.Errorf("%+v", s)
			}
		})
	}
	b := newBench(t)
	if s := must[Session](t)(b.StartSession("")); len(s.ID) < 20 || s.Operations != 1 {
		t.Errorf("a session without an id: %+v", s)
	}
}

func TestP59_P60_SessionsOutliveTheProcess(t *testing.T) {
	b := newBench(t)
	program := b.create("x", "p")
	session := must[Session](t)(b.UpdateSession("x", []byte(`{"turns": [1, 2], "big": 123456789012345678901234567890, "é": "<&>"}`), nil))
	stats := b.Stats()
	b.reopen()
	if diff := cmp.Diff(program, must[Program](t)(b.Program("x", "p"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(session, must[Session](t)(b.Session("x"))); diff != "" {
		t.Error(diff)
	}
	if want := `{"big":123456789012345678901234567890,"turns":[1,2],"é":"<&>"}`; string(session.Data) != want {
		t.Errorf("data %s, want %s", session.Data, want)
	}
	if diff := cmp.Diff(stats, b.Stats()); diff != "" {
		t.Error(diff)
	}
	if b.log.Len() > 0 {
		t.Errorf("a whole file was worth a line: %s", b.log)
	}
}

func TestP61_ConcurrentUpdatesCounted(t *testing.T) {
	b := newBench(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for {
				s := must[Session](t)(b.Touch("x"))
				n := struct{ N int }{}
				if err := json.Unmarshal(s.Data, &n); err != nil {
					t.Error(err)
					return
				}
				_, err := b.UpdateSession("x", fmt.Appendf(nil, `{"n": %d, "by%d": true}`, n.N+1, i), &s.Version)
				if err == nil {
					return
				}
				refused(t, err, pool.VersionConflict)
			}
		})
	}
	all.Wait()
	s := must[Session](t)(b.Session("x"))
	if s.Version != 20 || !strings.Contains(string(s.Data), `"n":20`) || strings.Count(string(s.Data), "true") != 20 {
		t.Errorf("%+v: %s", s, s.Data)
	}
}

func TestP62_FailingUpdateChangesNothing(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxRecord = 1000 })
	before := must[Session](t)(b.UpdateSession("x", []byte(`{"a": {"b": 1}, "c": 2}`), at(0)))
	b.clock.advance(time.Second)
	big := fmt.Sprintf(`{"d": %q}`, strings.Repeat("d", 980))
	for name, c := range map[string]struct {
		patch    string
		expected *uint64
		want     pool.Type
	}{
		"no JSON":          {`{"a"`, nil, pool.InvalidPayload},
		"two values":       {`{} {}`, nil, pool.InvalidPayload},
		"a list":           {`[1]`, nil, pool.InvalidPayload},
		"not UTF-8":        {"{\"a\": \"\xff\"}", nil, pool.InvalidPayload},
		"too deep":         {strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000), nil, pool.RecordTooLarge},
		"patch too large":  {big + strings.Repeat(" ", 1000), nil, pool.RecordTooLarge},
		"result too large": {big, nil, pool.RecordTooLarge},
		"older version":    {`{"a": 1}`, at(0), pool.VersionConflict},
		"newer version":    {`{"a": 1}`, at(2), pool.VersionConflict},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.UpdateSession("x", []byte(c.patch), c.expected)
			refused(t, err, c.want)
			if diff := cmp.Diff(before, must[Session](t)(b.Session("x"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestP63_UpdateAndEnd(t *testing.T) {
	b := newBench(t)
	must[Session](t)(b.UpdateSession("x", []byte(`{"a": {"b": 1, "c": 2}, "d": [1]}`), at(0)))
	s := must[Session](t)(b.UpdateSession("x", []byte(`{"a": {"b": null, "e": 3}, "d": {"f": null, "g": {}}}`), at(1)))
	if want := `{"a":{"c":2,"e":3},"d":{"g":{}}}`; string(s.Data) != want || s.Version != 2 {
		t.Errorf("version %d: %s, want %s", s.Version, s.Data, want)
	}
	_, err := b.UpdateSession("x", []byte(`{}`), at(1))
	if e := details(t, err, pool.VersionConflict); e.Context["version"] != uint64(2) || e.Context["expected"] != uint64(1) {
		t.Errorf("%v", e.Context)
	}
	b.create("x", "p")
	for range 2 {
		if err := b.EndSession("x"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.Session("x")
	refused(t, err, pool.SessionNotFound)
	_, err = b.Program("x", "p")
	refused(t, err, pool.ProgramNotFound)
	if s := must[Session](t)(b.Touch("x")); s.Operations != 1 || s.Version != 0 || s.Programs != 0 || string(s.Data) != "{}" {
		t.Errorf("what was ended left something: %+v", s)
	}
}

func TestP64_StartedAtAndOperations(t *testing.T) {
	b := newBench(t)
	first := must[Session](t)(b.Touch("x"))
	last := first
	steps := []func(){
		func() { must[Session](t)(b.Touch("x")) },
		func() { b.clock.advance(-time.Hour); must[Session](t)(b.Touch("x")) },
		func() { b.clock.advance(3 * time.Hour); b.create("x", "p") },
		func() { must[Program](t)(b.UseProgram("x", "p")) },
		func() { must[Session](t)(b.UpdateSession("x", []byte(`{"a":1}`), nil)) },
		func() { must[Session](t)(b.StartSession("x")) },
		func() {
			if err := b.DeleteProgram("x", "p"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for i, step := range steps {
		step()
		b.reopen()
		s := must[Session](t)(b.Session("x"))
		if !s.StartedAt.Equal(first.StartedAt) || s.Operations != last.Operations+1 || s.LastUsedAt.Before(last.LastUsedAt) {
			t.Fatalf("step %d: %+v after %+v", i, s, last)
		}
		last = s
	}
}

func TestP65_StaleSweptTouchedKept(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxIdle = time.Hour })
	for _, id := range []string{"stale", "touched", "updated"} {
		b.create(id, "p")
	}
	for i := range 2 * sweepBatch {
		must[Session](t)(b.Touch(fmt.Sprintf("stale%d", i)))
	}
	b.create("", "p")
	b.clock.advance(50 * time.Minute)
	must[Session](t)(b.Touch("touched"))
	must[Session](t)(b.UpdateSession("updated", []byte(`{"a":1}`), nil))
	if n := must[int](t)(b.Sweep()); n != 0 {
		t.Fatalf("%d swept too early", n)
	}
	b.clock.advance(10 * time.Minute)
	if n := must[int](t)(b.Sweep()); n != 2*sweepBatch+1 {
		t.Fatalf("%d swept, want %d", n, 2*sweepBatch+1)
	}
	_, err := b.Session("stale")
	refused(t, err, pool.SessionNotFound)
	for _, id := range []string{"touched", "updated", Anonymous} {
		if got := b.ids(id); got != "p" {
			t.Errorf("session %s has programs %q", id, got)
		}
	}
	if s := b.Stats(); s.Swept != 2*sweepBatch+1 || s.Sessions != 2 || s.Programs != 3 {
		t.Errorf("%+v", s)
	}
}
