package pooltest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Hangs is what Check reports of a test that doesn't end by itself.
const Hangs = "the test hangs"

// Check runs one test of the contract by its title, and returns what it fails with; nothing if it passes. It is how
// pools that are broken on purpose show that the contract notices. limit is how long the test waits for what doesn't
// happen once the pool's workers are up (0: as long as it always does); when it hangs its context ends a little
// later.
func Check(t testing.TB, version pool.Version, title string, factory Factory, limit time.Duration) []string {
	tell, shared := contract(version)[title], false
	if tell == nil {
		tell, shared = sharing[title], true
	}
	if tell == nil {
		tell = placing[title]
	}
	if tell == nil {
		t.Fatalf("the contract of %s has no test %s", version, title)
	}
	if limit == 0 {
		limit = patience
	}
	return check(t, version, tell, factory, settings{patience: limit, shared: shared})
}

func check(t testing.TB, version pool.Version, tell story, factory Factory, set settings) []string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &recorder{TB: t, ctx: ctx, cancel: cancel}
	alarm := time.AfterFunc(2*patience, func() {
		r.note(Hangs)
		cancel()
	})
	defer alarm.Stop()
	set.up = func() { alarm.Reset(set.patience + set.patience/4) }
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(func() { tell(newBench(r, version, factory, set)) })
	}()
	<-ended
	return r.failures
}

// recorder is a testing.TB whose failures are facts to be judged. What it doesn't define is the test's that asks.
type recorder struct {
	testing.TB
	ctx    context.Context //nolint:containedctx // it is what testing.TB's Context returns
	cancel context.CancelFunc

	mu       sync.Mutex
	failures []string // guarded by mu
	cleanups []func() // guarded by mu
}

// run tells a story to its end, ends its context, and runs its cleanups, last one first.
func (r *recorder) run(tell func()) {
	r.protect(tell)
	r.cancel()
	for f := r.lastCleanup(); f != nil; f = r.lastCleanup() {
		r.protect(f)
	}
}

// protect lets f end by return, by FailNow or by a panic.
func (r *recorder) protect(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if p := recover(); p != nil {
				r.note(fmt.Sprint("panic: ", p))
			}
		}()
		f()
	}()
	<-ended
}

func (r *recorder) lastCleanup() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.cleanups) - 1
	if last < 0 {
		return nil
	}
	f := r.cleanups[last]
	r.cleanups = slices.Delete(r.cleanups, last, last+1)
	return f
}

func (r *recorder) note(failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, strings.TrimSpace(failure))
}

// What follows implements testing.TB.

func (r *recorder) Context() context.Context          { return r.ctx }
func (r *recorder) Helper()                           {}
func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprintln(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Fail()                             { r.note("failed") }

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}
