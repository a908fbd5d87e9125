package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// twin is the store as a handful of maps.
type twin struct {
	sessions map[string]*twinSession
}

type twinSession struct {
	started, used time.Time
	operations    uint64
	version       uint64
	data          map[string]any
	programs      map[string]*Program
}

func (w *twin) use(id string, now time.Time) *twinSession {
	s := w.sessions[id]
	if s == nil {
		s = &twinSession{started: now, used: now, data: map[string]any{}, programs: map[string]*Program{}}
		w.sessions[id] = s
	}
	s.operations++
	if now.After(s.used) {
		s.used = now
	}
	return s
}

func (w *twin) find(session, id string) *Program {
	for _, at := range []string{session, Anonymous} {
		if s := w.sessions[at]; s != nil && s.programs[id] != nil {
			return s.programs[id]
		}
	}
	return nil
}

func typeOf(err error) pool.Type {
	var e *pool.Error
	if errors.As(err, &e) {
		return e.Type
	}
	return ""
}

// Whatever is done in whatever order, with restarts in between: the store does what its twin does.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t, func(o *Options) { o.MaxIdle = time.Hour })
		defer func() { _ = b.Close() }()
		w := &twin{sessions: map[string]*twinSession{}}
		w.sessions[Anonymous] = &twinSession{
			started: b.clock.Now(), used: b.clock.Now(), data: map[string]any{}, programs: map[string]*Program{},
		}
		p := &play{b: b, w: w, r: r}
		actions := map[string]func(*rapid.T){
			"touch": p.touch, "update": p.update, "end": p.end, "create": p.create, "use": p.useProgram,
			"delete": p.delete, "sweep": p.sweep, "": p.compare,
			"wait": func(r *rapid.T) {
				b.clock.advance(time.Duration(rapid.IntRange(-10, 40).Draw(r, "minutes")) * time.Minute)
			},
			"reopen": func(*rapid.T) { b.reopen() },
		}
		r.Repeat(actions)
	})
}

type play struct {
	b *bench
	w *twin
	r *rapid.T
}

func (p *play) session(r *rapid.T) string {
	return rapid.SampledFrom([]string{Anonymous, "x", "xx", "y"}).Draw(r, "session")
}

func (p *play) program(r *rapid.T) string {
	return rapid.SampledFrom([]string{"p", "pp", "q"}).Draw(r, "program")
}

func (p *play) want(r *rapid.T, err error, want pool.Type) bool {
	if got := typeOf(err); got != want || (err == nil) != (want == "") {
		r.Fatalf("error %v, want %q", err, want)
	}
	return err == nil
}

func (p *play) touch(r *rapid.T) {
	id := p.session(r)
	_, err := p.b.Touch(id)
	p.want(r, err, "")
	p.w.use(id, p.b.clock.Now())
}

func (p *play) update(r *rapid.T) {
	id := p.session(r)
	patch := rapid.SampledFrom([]string{`{"a": 1}`, `{"a": null}`, `{"b": {"c": 2}}`, `{"b": {"c": null, "d": [1]}}`, `{}`, `[]`}).Draw(r, "patch")
	var expected *uint64
	if rapid.Bool().Draw(r, "careful") {
		expected = at(rapid.Uint64Range(0, 3).Draw(r, "expected"))
	}
	is := uint64(0)
	if s := p.w.sessions[id]; s != nil {
		is = s.version
	}
	var want pool.Type
	switch {
	case patch == `[]`:
		want = pool.InvalidPayload
	case expected != nil && *expected != is:
		want = pool.VersionConflict
	}
	_, err := p.b.UpdateSession(id, []byte(patch), expected)
	if !p.want(r, err, want) {
		return
	}
	s := p.w.use(id, p.b.clock.Now())
	s.version++
	apply(s.data, patch)
}

// apply is the patches above by hand, so that the twin knows nothing of merging.
func apply(data map[string]any, patch string) {
	b, isObject := data["b"].(map[string]any)
	if !isObject {
		b = map[string]any{}
	}
	switch patch {
	case `{"a": 1}`:
		data["a"] = 1.0
	case `{"a": null}`:
		delete(data, "a")
	case `{"b": {"c": 2}}`:
		b["c"] = 2.0
		data["b"] = b
	case `{"b": {"c": null, "d": [1]}}`:
		delete(b, "c")
		b["d"] = []any{1.0}
		data["b"] = b
	}
}

func (p *play) end(r *rapid.T) {
	id := p.session(r)
	if id == Anonymous {
		p.want(r, p.b.EndSession(id), pool.InvalidID)
		return
	}
	p.want(r, p.b.EndSession(id), "")
	delete(p.w.sessions, id)
}

func (p *play) create(r *rapid.T) {
	session, id := p.session(r), p.program(r)
	var want pool.Type
	if s := p.w.sessions[session]; s != nil && s.programs[id] != nil {
		want = pool.DuplicateProgram
	}
	made, err := p.b.CreateProgram(NewProgram{ID: id, Session: session, Command: "c", Inputs: fmt.Appendf(nil, `{"of":%q}`, session)})
	if !p.want(r, err, want) {
		return
	}
	now := p.b.clock.Now()
	p.w.use(session, now).programs[id] = &Program{
		ID: id, Session: session, Command: "c", Inputs: fmt.Appendf(nil, `{"of":%q}`, session), Hash: made.Hash,
		CreatedAt: now, LastUsedAt: now,
	}
}

func (p *play) useProgram(r *rapid.T) {
	session, id := p.session(r), p.program(r)
	known := p.w.find(session, id)
	var want pool.Type
	if known == nil {
		want = pool.ProgramNotFound
	}
	_, err := p.b.UseProgram(session, id)
	if !p.want(r, err, want) {
		return
	}
	now := p.b.clock.Now()
	p.w.use(session, now)
	known.Operations++
	if now.After(known.LastUsedAt) {
		known.LastUsedAt = now
	}
}

func (p *play) delete(r *rapid.T) {
	session, id := p.session(r), p.program(r)
	s := p.w.sessions[session]
	if s == nil || s.programs[id] == nil {
		p.want(r, p.b.DeleteProgram(session, id), pool.ProgramNotFound)
		return
	}
	p.want(r, p.b.DeleteProgram(session, id), "")
	delete(s.programs, id)
	p.w.use(session, p.b.clock.Now())
}

func (p *play) sweep(r *rapid.T) {
	n, err := p.b.Sweep()
	p.want(r, err, "")
	swept := 0
	for id, s := range p.w.sessions {
		if id != Anonymous && !s.used.After(p.b.clock.Now().Add(-time.Hour)) {
			delete(p.w.sessions, id)
			swept++
		}
	}
	if n != swept {
		r.Fatalf("%d swept, want %d", n, swept)
	}
}

// compare looks at everything.
func (p *play) compare(r *rapid.T) {
	programs := 0
	for _, id := range []string{Anonymous, "x", "xx", "y"} {
		want := p.w.sessions[id]
		got, err := p.b.Session(id)
		if want == nil {
			p.want(r, err, pool.SessionNotFound)
			continue
		}
		p.want(r, err, "")
		var data map[string]any
		if err := json.Unmarshal(got.Data, &data); err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(want.data, data); diff != "" {
			r.Fatalf("data of %s: %s", id, diff)
		}
		got.Data = nil
		expected := Session{
			ID: id, StartedAt: want.started, LastUsedAt: want.used, Operations: want.operations, Version: want.version,
			Programs: len(want.programs),
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			r.Fatal(diff)
		}
		programs += len(want.programs)
		p.comparePrograms(r, id, want)
	}
	if s := p.b.Stats(); s.Programs != programs || s.Sessions != len(p.w.sessions)-1 {
		r.Fatalf("%+v, want %d programs in %d sessions", s, programs, len(p.w.sessions)-1)
	}
}

func (p *play) comparePrograms(r *rapid.T, session string, want *twinSession) {
	list, err := p.b.Programs(session, "", 0)
	p.want(r, err, "")
	var ids []string
	for _, listed := range list {
		ids = append(ids, listed.ID)
		got, err := p.b.Program(session, listed.ID)
		p.want(r, err, "")
		if diff := cmp.Diff(want.programs[listed.ID], &got); diff != "" {
			r.Fatal(diff)
		}
	}
	if !slices.IsSorted(ids) || len(ids) != len(want.programs) {
		r.Fatalf("session %s has %v, want %d", session, ids, len(want.programs))
	}
}

func BenchmarkTouch(b *testing.B) {
	s := newBench(b)
	for i := range 10_000 {
		must[Session](b)(s.Touch(fmt.Sprintf("s%05d", i)))
	}
	b.Run("one caller", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			must[Session](b)(s.Touch(fmt.Sprintf("s%05d", i%10_000)))
		}
	})
	b.Run("64 callers", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i += 7919 {
				must[Session](b)(s.Touch(fmt.Sprintf("s%05d", i%10_000)))
			}
		})
	})
	b.Run("read", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			must[Session](b)(s.Session(fmt.Sprintf("s%05d", i%10_000)))
		}
	})
}
