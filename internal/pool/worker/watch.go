package worker

import (
	"context"
	"sync"
	"time"
)

// attention is how long an operation runs before its context is watched: to watch one costs as much as most of what the
// supervisor does for a short operation. One that is cancelled earlier ends this late at most. Less would be felt by short
// operations that follow each other: the timer fires that often, and each time takes a core from a worker for a moment.
const attention = 10 * time.Millisecond

// watch ends what an operation reads and writes at its deadline or when its context ends, whichever comes first. Both
// cost nothing in the usual case: one timer, which is moved only when it would come too late, looks after an operation
// that is still under way when it fires, and lets all others pass.
type watch struct {
	setDeadlines func(time.Time) error // of both pipes

	// mu guards what follows; nothing under it blocks.
	mu        sync.Mutex
	timer     *time.Timer     // calls look; nil before the first operation
	fires     time.Time       // when the timer does; zero: it doesn't
	operation uint64          // number of the current one
	ctx       context.Context //nolint:containedctx // of the current operation, for as long as it lasts; nil: there is none
	since     time.Time
	deadline  time.Time
	unwatch   func() bool // ends the watching of ctx; nil: it isn't watched
	cut       bool        // the pipes' deadline is in the past
	closed    bool
}

// begin starts to watch over an operation. What ended one before, just when its reply was complete, is undone.
func (w *watch) begin(ctx context.Context, deadline, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.since, w.deadline = ctx, now, deadline
	w.lookAt(w.next(), now)
	if !w.cut {
		return nil
	}
	w.cut = false
	return w.setDeadlines(time.Time{})
}

// done ends the current operation: after it, neither its deadline nor its context has any effect.
func (w *watch) done() {
	w.mu.Lock()
	unwatch := w.unwatch
	w.ctx, w.unwatch = nil, nil
	w.operation++
	w.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
}

// close stops the timer for good: nothing is read or written any more.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// next is when the current operation has to be looked at. The caller holds mu.
func (w *watch) next() time.Time {
	if w.ctx.Done() == nil || w.unwatch != nil {
		return w.deadline
	}
	if soon := w.since.Add(attention); soon.Before(w.deadline) {
		return soon
	}
	return w.deadline
}

// lookAt makes the timer fire at t or earlier. The caller holds mu.
func (w *watch) lookAt(t, now time.Time) {
	switch {
	case w.closed || !w.fires.IsZero() && !t.Before(w.fires):
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(t.Sub(now), w.look)
	default:
		w.timer.Reset(t.Sub(now))
	}
	w.fires = t
}

// look is called by the timer.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fires = time.Time{}
	if w.ctx == nil {
		return
	}
	now := time.Now()
	if !w.deadline.After(now) {
		w.interrupt()
		return
	}
	if w.unwatch == nil && w.ctx.Done() != nil && now.Sub(w.since) >= attention {
		operation := w.operation
		w.unwatch = context.AfterFunc(w.ctx, func() { w.cancelled(operation) })
	}
	w.lookAt(w.next(), now)
}

// cancelled is called when the context of that operation has ended.
func (w *watch) cancelled(operation uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx != nil && w.operation == operation {
		w.interrupt()
	}
}

// interrupt ends what is read and written now. The caller holds mu.
func (w *watch) interrupt() {
	w.cut = true
	_ = w.setDeadlines(time.Unix(1, 0))
}
