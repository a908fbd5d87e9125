package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestIDsAreBounded(t *testing.T) {
	b := newBench(t)
	for name, id := range map[string]string{
		"1 MB": strings.Repeat("x", 1_000_000), "257 bytes": strings.Repeat("x", 257), "a space": "a b",
		"a newline": "a\nb", "not UTF-8": "\xff", "nothing of a key": "a\x00b", "dots": "..",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Touch(id)
			e := details(t, err, pool.InvalidID)
			if strings.ContainsAny(e.Message, "\n\x00") || !utf8.ValidString(e.Message) {
				t.Errorf("%q", e.Message)
			}
			_, err = b.UpdateSession(id, []byte(`{}`), nil)
			refused(t, err, pool.InvalidID)
			refused(t, b.EndSession(id), pool.InvalidID)
			_, err = b.Session(id)
			refused(t, err, pool.InvalidID)
			_, err = b.Programs(id, "", 0)
			refused(t, err, pool.InvalidID)
			_, err = b.CreateProgram(NewProgram{ID: id, Command: "c"})
			refused(t, err, pool.InvalidID)
			_, err = b.CreateProgram(NewProgram{Command: id})
			refused(t, err, pool.InvalidID)
			_, err = b.UseProgram("x", id)
			refused(t, err, pool.InvalidID)
			refused(t, b.DeleteProgram("x", id), pool.InvalidID)
		})
	}
	for _, id := range []string{strings.Repeat("x", 256), "user/42", "é", "a.b@c", "..."} {
		if s := must[Session](t)(b.Touch(id)); s.ID != id {
			t.Errorf("%+v", s)
		}
	}
	if got := b.Stats().Sessions; got != 5 {
		t.Errorf("%d sessions", got)
	}
}

func TestClosed(t *testing.T) {
	b := newBench(t)
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := b.Touch("x")
	refused(t, err, pool.StoreUnavailable)
	_, err = b.Session("x")
	refused(t, err, pool.StoreUnavailable)
	_, err = b.Programs("x", "", 0)
	refused(t, err, pool.StoreUnavailable)
}

func TestOneProcessAtATime(t *testing.T) {
	b := newBench(t)
	b.create("x", "p")
	_, err := Open(b.opts)
	e := details(t, err, pool.StoreUnavailable)
	if !strings.Contains(e.Message, "another process") {
		t.Errorf("%s", e.Message)
	}
	b.create("x", "q")
	b.reopen()
	if got := b.ids("x"); got != "p q" {
		t.Errorf("programs %q", got)
	}
	b.opts.Dir = filepath.Join(b.opts.Dir, "missing")
	_, err = Open(b.opts)
	refused(t, err, pool.StoreUnavailable)
}

// Many callers at once: every change that was answered is there, whoever committed it.
func TestChangesShareCommits(t *testing.T) {
	b := newBench(t)
	const callers, each = 32, 50
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprintf("p%d", i)
				if _, err := b.CreateProgram(NewProgram{ID: id, Session: fmt.Sprintf("s%d", c), Command: "c"}); err != nil {
					t.Error(err)
				}
				_, err := b.CreateProgram(NewProgram{ID: id, Session: fmt.Sprintf("s%d", c), Command: "c"})
				refused(t, err, pool.DuplicateProgram) // and the others of its commit go on
				must[Session](t)(b.Touch("shared"))
			}
		})
	}
	all.Wait()
	before := b.Stats()
	b.reopen()
	if got := b.Stats(); got.Sessions != callers+1 || got.Programs != callers*each || got.Bytes != before.Bytes {
		t.Errorf("%+v, before %+v", got, before)
	}
	if s := must[Session](t)(b.Session("shared")); s.Operations != callers*each {
		t.Errorf("%d operations, want %d", s.Operations, callers*each)
	}
}
