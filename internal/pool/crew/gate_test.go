package crew

import (
	"slices"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

type fakeWaiter struct {
	since   time.Time
	refused int
}

func (w *fakeWaiter) Since() time.Time { return w.since }
func (w *fakeWaiter) Refuse()          { w.refused++ }

func (g *Gate) enter() pool.Type {
	if _, err := g.Enter(pool.Request{}, t0); err != nil {
		return err.Type
	}
	return ""
}

func (g *Gate) enqueue(w Waiter, again bool) {
	g.Mu.Lock()
	defer g.Mu.Unlock()
	g.Enqueue(w, again)
}

func TestP31_GateIsExact(t *testing.T) {
	g := NewGate("p", pool.Limits{Size: 1, Overflow: 2, QueueLimit: 3})
	for i := range 6 {
		if got := g.enter(); got != "" {
			t.Fatalf("request %d was refused with %s", i+1, got)
		}
	}
	if got := g.enter(); got != pool.QueueFull {
		t.Errorf("the one too many got %q", got)
	}
	g.Leave()
	if first, second := g.enter(), g.enter(); first != "" || second != pool.QueueFull {
		t.Errorf("after one had left two got %q, %q; want one admitted", first, second)
	}
	g.Configure(pool.Limits{Size: 2, Overflow: 2, QueueLimit: 3})
	if first, second := g.enter(), g.enter(); first != "" || second != pool.QueueFull {
		t.Errorf("with room for one more two got %q, %q; want one admitted", first, second)
	}
}

func TestP18_GateKeepsTheOrder(t *testing.T) {
	g := NewGate("p", pool.Limits{})
	a, b, again := &fakeWaiter{since: in(1)}, &fakeWaiter{since: in(2)}, &fakeWaiter{since: in(0)}
	g.enqueue(a, false)
	g.enqueue(b, false)
	g.enqueue(again, true)
	if d := g.Demand(); d.Waiting != 3 || !d.Oldest.Equal(again.since) || !d.IdleSince.IsZero() {
		t.Errorf("demand %+v; want 3, the oldest of them, nobody idle", d)
	}
	g.Mu.Lock()
	defer g.Mu.Unlock()
	var order []Waiter
	for place, w := range g.Waiting() {
		order = append(order, w)
		g.Dequeue(place)
	}
	if !slices.Equal(order, []Waiter{again, a, b}) || g.Waits() {
		t.Errorf("%d in another order than theirs, or some are left", len(order))
	}
}

func TestP9_ClosedGate(t *testing.T) {
	g := NewGate("p", pool.Limits{Size: 2})
	waits := &fakeWaiter{}
	g.enter()
	g.enqueue(waits, false)
	emptied, first := g.Close()
	if _, second := g.Close(); !first || second {
		t.Errorf("first %v, second %v; want true, false", first, second)
	}
	if waits.refused != 1 {
		t.Errorf("who waited was refused %d times", waits.refused)
	}
	if got := g.enter(); got != pool.NotAvailable {
		t.Errorf("a closed gate answered %q", got)
	}
	select {
	case <-emptied:
		t.Error("emptied with a request inside")
	default:
	}
	g.Leave()
	<-emptied
}

func TestP107_GateCountsPlacesNotWorkers(t *testing.T) {
	g := NewGate("p", pool.Limits{Size: 1, Overflow: 1, Concurrency: 3, QueueLimit: 2})
	for i := range 8 {
		if _, err := g.Enter(pool.Request{}, time.Now()); err != nil {
			t.Fatalf("request %d of 8 was refused: %v", i+1, err)
		}
	}
	_, err := g.Enter(pool.Request{}, time.Now())
	if err == nil || err.Type != pool.QueueFull || err.Context["busy"] != 2 {
		t.Errorf("one beyond two workers with three places each and two that wait: %v; want queue_full with 2 busy workers", err)
	}
}
