package controllers

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dspex/workerpool-operator/internal/analysis"
)

const (
	// keepTimeout bounds what is asked of the API server at once.
	keepTimeout = 10 * time.Second
	// keepPatience is how long a pass waits for that. What takes longer goes on beside the passes.
	keepPatience = time.Second
)

// books are what a pass has the API server store. An API server that doesn't answer holds up neither the looks at this pool nor
// those at others: the pass goes on with it once it is stored, or leaves it to a later one.
type books struct {
	pass *pass
	done chan struct{}

	// Written before done is closed.
	failed string // phase
	err    error  // of that phase
	late   error  // of what the pass can do without
}

// keep stores what the pass decided, and reports whether it is stored, or why it couldn't be. Neither: it is under way, or
// something of an earlier pass is, and a later pass finds out.
func (r *WorkerPoolReconciler) keep(ctx context.Context, p *pass) (stored bool, _ *books) {
	memory := p.memory
	if memory.books != nil {
		memory.leave(p.findings)
		return false, nil
	}
	own := *memory // what is remembered goes on changing with the next passes
	p.memory = &own
	b := &books{pass: p, done: make(chan struct{})}
	go r.store(ctx, b)
	if !r.await(b) {
		memory.leave(p.findings)
		memory.books = b
		go func() {
			<-b.done
			r.Wake(b.pass.key)
		}()
		return false, nil
	}
	b.close(memory)
	return b.err == nil, b
}

// leave gives up what a pass found, nil: nothing. A look was made all the same, or the next one would spend its part of the
// level again; but one that found the canary worse than allowed is made again, until that is acted upon.
func (m *memory) leave(found *analysis.Result) {
	if found != nil && found.Verdict != analysis.Fail {
		m.comparison.looked(found)
	}
}

// store runs the phases that ask the API server.
func (r *WorkerPoolReconciler) store(ctx context.Context, b *books) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	b.failed, b.err, b.late = r.walk(ctx, b.pass, storing)
	if ctx.Err() == nil { // an error is an answer too; passes wait for the next one, and come ever more slowly
		r.hanging.Store(false)
	}
	close(b.done)
}

// await waits for books, unless the API server took too long lately. A pass that waits keeps one of a few places from the
// others.
func (r *WorkerPoolReconciler) await(b *books) bool {
	patience := r.patience
	switch {
	case r.hanging.Load():
		patience = 0
	case patience == 0:
		patience = keepPatience
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-b.done:
		return true
	case <-timer.C:
		r.hanging.Store(true)
		return false
	}
}

// close takes over what was stored.
func (b *books) close(memory *memory) {
	memory.record = b.pass.memory.record
	b.pass.memory = memory
}

// settle looks whether the books of an earlier pass are done, and tells of what they stored.
func (r *WorkerPoolReconciler) settle(ctx context.Context, p *pass) {
	b := p.memory.books
	if b == nil {
		return
	}
	select {
	case <-b.done:
	default:
		return
	}
	p.memory.books = nil
	b.close(p.memory)
	if b.err != nil {
		log.FromContext(ctx).Error(b.err, "The API server didn't store in time what was decided; trying again", "phase", b.failed)
		return
	}
	_ = r.record(ctx, b.pass) // events are sent without an answer
}
