package serial

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// Offer makes the member a standby.
func (p *Pool) Offer(m *crew.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle.Push(m, time.Now())
	p.wakeOwner()
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
	d := crew.Demand{Waiting: p.queue.Len(), IdleSince: p.idle.Since()}
	if first := p.queue.Front(); first != nil {
		d.Oldest = first.Value.(*operation).since
	}
	return d
}
