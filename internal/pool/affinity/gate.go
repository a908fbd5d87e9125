package affinity

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// Gate is a crew.Gate that knows keys: the part of a Line that is the same in V1 and V2. All that is enqueued must embed
// a *Wish.
type Gate struct {
	*crew.Gate
	// Freed is called, with Mu held, when a worker has left that requests may wait for. It must be set before a crew
	// uses the gate.
	Freed func()

	table *Table[*crew.Member] // guarded by Mu
}

// NewGate returns an open gate; see crew.NewGate.
func NewGate(name string, limits pool.Limits) *Gate {
	return &Gate{Gate: crew.NewGate(name, limits), table: NewTable[*crew.Member]()}
}

// Wish is which worker a request wants; nil: any.
type Wish struct {
	key  *Key[*crew.Member]
	mode pool.AffinityMode

	// What the request has made of its key's home, and what that was before; guarded by the gate's Mu.
	bound, before *home[*crew.Member]
}

// waiter is a request in the queue: it embeds a Wish.
type waiter interface{ Insists() bool }

// Wish begins a request's affinity, which ends with Fulfil. Without affinity it costs no lock and no memory.
func (g *Gate) Wish(a pool.Affinity) *Wish {
	if a.Mode == pool.AffinityNone {
		return nil
	}
	g.Mu.Lock()
	defer g.Mu.Unlock()
	return &Wish{key: g.table.Hold(a.Key, time.Now()), mode: a.Mode}
}

// Fulfil ends a request's affinity. A worker that was handed to it and never had it isn't its key's: what was the key's
// before is again.
func (g *Gate) Fulfil(w *Wish, served bool) {
	if w == nil {
		return
	}
	g.Mu.Lock()
	defer g.Mu.Unlock()
	undone := !served && w.bound != nil && w.key.home == w.bound
	if undone {
		w.key.home = w.before
	}
	g.table.Release(w.key, time.Now())
	if undone && g.table.Held() > 0 {
		g.Freed()
	}
}

// Home is the worker that the request asks for; nil: it takes any, as its key has none or it has no key. The caller
// holds Mu.
func (w *Wish) Home() *crew.Member {
	if w == nil {
		return nil
	}
	m, _ := w.key.Worker()
	return m
}

// Insists reports whether the request takes Home only, and so is to be passed over when another worker is free. The
// caller holds Mu.
func (w *Wish) Insists() bool { return w != nil && w.mode != pool.AffinityHint && w.Home() != nil }

// AnyIdle reports whether there is an idle member that may be used. The caller holds Mu.
func (g *Gate) AnyIdle() bool { return g.Idle.Len() > 0 && !g.Paused() }

// TakeIdle takes an idle member for a request: its Home, or else the one that pop takes unless it insists. nil: there is
// none for it, or nobody is to get one. What is taken is to be bound. The caller holds Mu.
func (g *Gate) TakeIdle(w *Wish, pop func(*crew.Idle) *crew.Member) *crew.Member {
	if g.Paused() {
		return nil
	}
	if w == nil {
		return pop(&g.Idle)
	}
	m := w.Home()
	switch {
	case m != nil && g.Idle.Remove(m):
		return m
	case m != nil && w.mode != pool.AffinityHint:
		return nil
	}
	return pop(&g.Idle)
}

// Bind makes m the worker of the request's key, if it has one, and reports whether another request may wait for m
// because of it. The caller holds Mu.
func (g *Gate) Bind(w *Wish, m *crew.Member) (moved bool) {
	if w == nil {
		return false
	}
	if w.bound == nil || w.key.home != w.bound {
		w.before = w.key.home
	}
	moved = g.table.Bind(w.key, m)
	w.bound = w.key.home
	return moved
}

// Busy refuses a request that doesn't want to wait for its Home, which isn't idle; nil: it may wait. In a pause all wait
// alike. The caller holds Mu.
func (g *Gate) Busy(w *Wish) *pool.Error {
	if w == nil || w.mode != pool.AffinityStrictNow || g.Paused() {
		return nil
	}
	m := w.Home()
	if m == nil || g.Idle.Has(m) {
		return nil
	}
	return pool.NewWorkerBusy(g.Name(), m.ID(), g.Meter.RetryAfter(1))
}

// Left ends a member that takes no more requests: who waited for it takes any.
func (g *Gate) Left(m *crew.Member) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	g.Unbind(m)
}

// Unbind is Left for a caller that holds Mu.
func (g *Gate) Unbind(m *crew.Member) {
	g.table.Unbind(m)
	if g.table.Held() > 0 {
		g.Freed()
	}
}

// Withdraw implements crew.Line. An idle member is withdrawn to be ended; one that isn't idle leaves if its process has
// ended, whoever has it checked out.
func (g *Gate) Withdraw(m *crew.Member) bool {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	idle := g.Idle.Remove(m)
	if idle || m.Leaving() {
		g.Unbind(m)
	}
	return idle
}

// WithdrawIdle implements crew.Line.
func (g *Gate) WithdrawIdle(t time.Time) *crew.Member {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	m := g.Idle.RemoveIdleSince(t)
	if m != nil {
		g.Unbind(m)
	}
	return m
}

// Demand implements crew.Line. Whoever waits for one certain worker needs no other one started.
func (g *Gate) Demand() crew.Demand {
	d := g.Gate.Demand()
	g.Mu.Lock()
	defer g.Mu.Unlock()
	if d.Waiting == 0 || g.table.Held() == 0 {
		return d
	}
	d.Waiting, d.Oldest = 0, time.Time{}
	for _, w := range g.Waiting() {
		if w.(waiter).Insists() {
			continue
		}
		if d.Waiting++; d.Waiting == 1 {
			d.Oldest = w.Since()
		}
	}
	return d
}
