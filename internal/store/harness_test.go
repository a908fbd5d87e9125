package store

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("STORE_TEST_CHILD"); role != "" {
		os.Exit(children[role]())
	}
	goleak.VerifyTestMain(m)
}

// clock moves only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a store in a folder of its own that can be closed and opened again.
type bench struct {
	*Store
	t     testing.TB
	opts  Options
	clock *clock
	log   *strings.Builder
}

func newBench(t testing.TB, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, clock: newClock(), log: &strings.Builder{}}
	b.opts = Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(b.log, nil)), Now: b.clock.Now}
	for _, c := range change {
		c(&b.opts)
	}
	b.reopen()
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (b *bench) reopen() {
	b.t.Helper()
	if b.Store != nil {
		if err := b.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
	s, err := Open(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
}

func (b *bench) file() string { return filepath.Join(b.opts.Dir, fileName) }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (b *bench) create(session, id string) Program {
	b.t.Helper()
	return must[Program](b.t)(b.CreateProgram(NewProgram{
		ID: id, Session: session, Command: "summarize", Inputs: json.RawMessage(`{"words": 50}`),
	}))
}

func (b *bench) ids(session string) string {
	b.t.Helper()
	var out []string
	for _, p := range must[[]Program](b.t)(b.Programs(session, "", 0)) {
		out = append(out, p.ID)
	}
	return strings.Join(out, " ")
}

// refused checks that an error is of a type and has its four parts.
func refused(t testing.TB, err error, want pool.Type) {
	t.Helper()
	if e := details(t, err, want); e.Error() == "" {
		t.Fatalf("%#v says nothing", e)
	}
}

// details is refused for those who look further.
func details(t testing.TB, err error, want pool.Type) *pool.Error {
	t.Helper()
	var e *pool.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want %s", err, want)
	}
	if e.Type != want || e.Category == "" || e.Message == "" || e.Context == nil || len(e.Message) > 600 {
		t.Fatalf("error %+v, want %s in four parts", e, want)
	}
	return e
}

func at(version uint64) *uint64 { return &version }
