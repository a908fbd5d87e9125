package checkout

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// Offer hands the member to whoever has waited longest, else keeps it idle.
func (p *Pool) Offer(m *crew.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.waiters.Front(); w != nil {
		p.waiters.Remove(w).(*waiter).member <- m
		return
	}
	p.idle.Push(m, time.Now())
}

// Withdraw takes m out if it is idle.
func (p *Pool) Withdraw(m *crew.Member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle.Remove(m)
}

// WithdrawIdle takes out the member that has been idle longest, if it has been since t.
func (p *Pool) WithdrawIdle(t time.Time) *crew.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle.RemoveIdleSince(t)
}

// Demand tells what waits.
func (p *Pool) Demand() crew.Demand {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := crew.Demand{Waiting: p.waiters.Len(), IdleSince: p.idle.Since()}
	if w := p.waiters.Front(); w != nil {
		d.Oldest = w.Value.(*waiter).since
	}
	return d
}
