package store

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// small leaves room for about 50 sessions.
func small(o *Options) { o.MaxBytes, o.MinIdle = 50_000, time.Minute }

func TestIdleLongestMakesRoom(t *testing.T) {
	b := newBench(t, small)
	b.create("", "common")
	b.create("", "unused")
	const sessions = 200
	for i := range sessions {
		b.clock.advance(10 * time.Second)
		id := fmt.Sprintf("s%03d", i)
		must[Session](t)(b.UpdateSession(id, []byte(`{"a": 1}`), nil))
		must[Session](t)(b.Touch("kept"))
		must[Program](t)(b.UseProgram("", "common"))
		if got := b.Stats(); got.Bytes > b.opts.MaxBytes {
			t.Fatalf("%+v", got)
		}
	}
	stats := b.Stats()
	if stats.Evicted == 0 || !strings.Contains(b.log.String(), "removed=") {
		t.Fatalf("%+v; %s", stats, b.log)
	}
	for i := range sessions {
		_, err := b.Session(fmt.Sprintf("s%03d", i))
		if kept := i > sessions-stats.Sessions; kept != (err == nil) {
			t.Errorf("s%03d of %d, of which %d were kept: %v", i, sessions, stats.Sessions, err)
		}
	}
	if s := must[Session](t)(b.Session("kept")); s.Operations != sessions {
		t.Errorf("what was used all the time: %+v", s)
	}
	must[Program](t)(b.Program("", "common"))
	_, err := b.Program("", "unused")
	refused(t, err, pool.ProgramNotFound)
	b.reopen()
	if after := b.Stats(); after.Bytes != stats.Bytes || after.Sessions != stats.Sessions {
		t.Errorf("%+v, before %+v", after, stats)
	}
}

// What was just used never makes room: then the change is refused, and everything is as it was.
func TestFullOfWhatIsUsed(t *testing.T) {
	b := newBench(t, small)
	b.create("", "common")
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = b.CreateProgram(NewProgram{ID: "p", Session: fmt.Sprintf("s%03d", n), Command: "c"})
	}
	n--
	e := details(t, err, pool.StoreFull)
	if e.Context["retry_after_ms"] != int64(60_000) || n < 20 {
		t.Errorf("after %d: %v", n, e)
	}
	for i, err := 0, error(nil); err == nil; i++ { // what is left is too little for a session without anything
		_, err = b.Touch(fmt.Sprintf("t%d", i))
	}
	before := b.Stats()
	for name, change := range map[string]func() error{
		"program":          func() error { _, err := b.CreateProgram(NewProgram{Command: "c", Inputs: big(10_000)}); return err },
		"data":             func() error { _, err := b.UpdateSession("s000", big(10_000), nil); return err },
		"new session":      func() error { _, err := b.Touch("new"); return err },
		"in a new session": func() error { _, err := b.UseProgram("new", "common"); return err },
	} {
		t.Run(name, func(t *testing.T) { refused(t, change(), pool.StoreFull) })
	}
	for i := range n {
		must[Program](t)(b.UseProgram(fmt.Sprintf("s%03d", i), "p"))
	}
	after := b.Stats()
	if after.Evicted != 0 || after.Bytes != before.Bytes {
		t.Errorf("%+v, before %+v", after, before)
	}
	for _, id := range []string{"s000", "s001"} {
		if err := b.EndSession(id); err != nil {
			t.Fatal(err)
		}
	}
	must[Program](t)(b.CreateProgram(NewProgram{ID: "p", Session: "s000", Command: "c"}))
	b.clock.advance(time.Minute)
	b.create("x", "p")
}

// A full store whose sessions are all in use refuses without looking at each, for as long as that can't change and no
// longer: commands wait for it.
func TestFullOfWhatIsUsedIsToldAtOnce(t *testing.T) {
	b := newBench(t, small)
	first := b.clock.Now()
	err := error(nil)
	for n := 0; err == nil; n++ {
		_, err = b.Touch(fmt.Sprint("s", n))
		b.clock.advance(time.Millisecond)
	}
	refused(t, err, pool.StoreFull)
	if got, want := b.index.inUseUntil, first.Add(b.opts.MinIdle); !got.Equal(want) {
		t.Fatalf("nobody is asked until %v, want %v: a minute after the first was used", got, want)
	}
	b.clock.advance(b.opts.MinIdle - b.clock.Now().Sub(first) - 1)
	_, err = b.Touch("too-early")
	refused(t, err, pool.StoreFull)
	must[Session](t)(b.Touch("s0"))
	b.clock.advance(1)
	_, err = b.Touch("s0-was-used-again")
	refused(t, err, pool.StoreFull)
	b.clock.advance(time.Millisecond) // s1 isn't in use any more
	must[Session](t)(b.Touch("late"))
	_, err = b.Session("s1")
	refused(t, err, pool.SessionNotFound)
	must[Session](t)(b.Session("s0"))
	if err := b.EndSession("s0"); err != nil {
		t.Fatal(err)
	}
	must[Session](t)(b.Touch("in-its-place"))
}

// What is there is served even when its use can't be counted; what would have to be made isn't.
func TestUncountedUses(t *testing.T) {
	b := newBench(t)
	full := b.problem(fmt.Errorf("write: %w", syscall.ENOSPC))
	refused(t, full, pool.StoreFull)
	b.create("x", "p")
	before := must[Session](t)(b.Session("x"))
	if s := must[Session](t)(b.sessionUncounted("x", full)); s.Operations != before.Operations {
		t.Errorf("%+v", s)
	}
	if p := must[Program](t)(b.programUncounted("x", "p", full)); p.Operations != 0 || p.Hash == "" {
		t.Errorf("%+v", p)
	}
	_, err := b.sessionUncounted("y", full)
	refused(t, err, pool.StoreFull)
	_, err = b.programUncounted("y", "p", full)
	refused(t, err, pool.StoreFull)
	if got := b.Stats().Uncounted; got != 2 {
		t.Errorf("%d uncounted", got)
	}
}

// A record that can't fit even into an empty store evicts nobody.
func TestLargerThanTheStore(t *testing.T) {
	b := newBench(t, small)
	b.create("x", "p")
	b.clock.advance(time.Hour)
	_, err := b.UpdateSession("y", big(60_000), nil)
	refused(t, err, pool.StoreFull)
	if got := b.Stats(); got.Evicted != 0 || got.Programs != 1 {
		t.Errorf("%+v", got)
	}
}

func big(n int) json.RawMessage { return fmt.Appendf(nil, `{"text": %q}`, strings.Repeat("x", n)) }

// The file stays within its bound whatever comes and goes, full all the time.
func TestFileIsBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxBytes, o.MinIdle = 2<<20, time.Second })
	dice := rand.New(rand.NewPCG(1, 2))
	var largest int64
	for range 1500 {
		b.clock.advance(time.Second)
		size := dice.IntN(2000)
		if dice.IntN(20) == 0 {
			size = dice.IntN(300_000)
		}
		must[Session](t)(b.UpdateSession(fmt.Sprintf("s%d", dice.IntN(500)), big(size), nil))
		largest = max(largest, b.Stats().FileBytes)
	}
	t.Logf("%+v; the file was at most %.2f times the limit", b.Stats(), float64(largest)/float64(b.opts.MaxBytes))
	if largest > int64(b.maxFile()) {
		t.Errorf("the file was %d bytes, at most %d", largest, b.maxFile())
	}
	if b.Stats().Evicted == 0 {
		t.Error("nothing had to make room")
	}
}
