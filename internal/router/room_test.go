package router

import (
	"math/rand/v2"
	"testing"
	"time"
)

// evictions counts what a test's room evicts.
type evictions []string

func (e *evictions) of(name string) func() { return func() { *e = append(*e, name) } }

func TestRoomIsTakenAsBytesArrive(t *testing.T) {
	now, r, none := time.Now(), newRoom(16), func() {}
	var idle []*roomed
	for range 100 {
		idle = append(idle, r.enter(16, now, none)) // they could come to 1600
	}
	if b := r.enter(16, now, none); !b.take(16, now) {
		t.Error("bodies of which nothing has come keep one from its room")
	}
	for range 3 {
		if b := r.enter(16, now, none); !b.take(1, now) || b.held != 16 || b.in != &r.reserved {
			t.Errorf("one that finds the open part full is given all that it can come to: it has %d", b.held)
		}
	}
	if r.enter(16, now, none).take(1, now) {
		t.Error("there is room for more than 4 bodies of the largest size")
	}
	for _, b := range idle {
		b.leave()
	}
}

func TestRoomThatIsNotNeededIsGivenBack(t *testing.T) {
	now, r, none := time.Now(), newRoom(16), func() {}
	full := r.enter(16, now, none)
	full.take(16, now)
	b := r.enter(16, now, none)
	b.take(2, now)
	if b.settle(3); r.reserved.taken != 3 {
		t.Errorf("a body that came to 3 bytes holds %d", r.reserved.taken)
	}
	b.leave()
	b.leave()
	full.leave()
	if r.open.taken+r.reserved.taken != 0 || len(r.arriving) > 0 {
		t.Errorf("%+v, %+v, %d arrive", r.open, r.reserved, len(r.arriving))
	}
}

func TestRoomIsGivenInTheOrderOfAsking(t *testing.T) {
	now, r, none := time.Now(), newRoom(16), func() {}
	var running []*roomed
	for range 4 {
		b := r.enter(16, now, none)
		b.take(16, now)
		b.settle(16)
		running = append(running, b)
	}
	first, second, small := r.enter(16, now, none), r.enter(16, now, none), r.enter(4, now, none)
	for _, b := range []*roomed{first, second, small} {
		if b.take(b.most, now) {
			t.Fatal("there is room for a fifth")
		}
	}
	has := func(b *roomed) bool { return len(b.granted) == 1 }
	running[1].leave()
	if !has(first) || has(second) || has(small) {
		t.Error("the first that asked isn't the one that got the reserved part's 16")
	}
	running[0].settle(10) // the open part has 6
	if has(second) || !has(small) {
		t.Error("what is free in the open part waits for one that needs more")
	}
}

func TestSlowSendersLoseTheirRoomFirst(t *testing.T) {
	var evicted evictions
	start, r := time.Now().Add(-2*time.Second-slowAfter/2), newRoom(16)
	enter := func(name string, began time.Time, arrived int64) *roomed {
		b := r.enter(16, began, evicted.of(name))
		b.take(arrived, began)
		b.arrived.Store(arrived)
		return b
	}
	full := enter("open", start, 16)
	slow, slowest := enter("slow", start, 8), enter("slowest", start, 2)
	enter("fresh", start.Add(2*time.Second), 1)
	now := start.Add(2*time.Second + slowAfter/2)
	if r.makeWay(now); len(evicted) > 0 {
		t.Errorf("nobody waits, and %v had to go", evicted)
	}
	full.settle(16) // it runs
	one, other := r.enter(16, now, func() {}), r.enter(16, now, func() {})
	if one.take(16, now) || other.take(16, now) {
		t.Fatal("there is room")
	}
	if r.makeWay(now); len(evicted) != 1 || evicted[0] != "slowest" {
		t.Fatalf("%v had to go for the first that waits", evicted)
	}
	slowest.leave()
	if r.makeWay(now); len(one.granted) != 1 || len(evicted) != 2 || evicted[1] != "slow" {
		t.Errorf("%v had to go for two that wait", evicted)
	}
	slow.leave()
	if r.makeWay(now.Add(slowAfter / 4)); len(other.granted) != 1 || len(evicted) != 2 {
		t.Errorf("%v had to go, of which one wasn't slow", evicted)
	}
}

func TestSlowSendersStayWhileThatHelpsNobody(t *testing.T) {
	var evicted evictions
	start, r := time.Now(), newRoom(16)
	for range 4 {
		b := r.enter(16, start, func() {})
		b.take(14, start)
		b.settle(14) // they run
	}
	b := r.enter(16, start, evicted.of("slow"))
	b.take(1, start)
	waiting := r.enter(16, start, func() {})
	now := start.Add(time.Minute)
	if waiting.take(16, now); len(evicted) > 0 {
		t.Error("a slow sender had to go whose room isn't enough for the one that waits")
	}
}

// TestOneThatWasEvictedWaitsForNoRoom: it can have asked for more before it noticed.
func TestOneThatWasEvictedWaitsForNoRoom(t *testing.T) {
	var evicted evictions
	start, r := time.Now().Add(-time.Minute), newRoom(16)
	slow := r.enter(16, start, evicted.of("slow"))
	slow.take(8, start)
	for _, size := range []int64{4, 16, 16, 16} {
		b := r.enter(16, start, func() {})
		b.take(size, start)
		b.settle(size) // they run
	}
	one := r.enter(12, start, func() {})
	if one.take(12, time.Now()) || len(evicted) != 1 {
		t.Fatalf("%v had to go", evicted)
	}
	if slow.take(16, time.Now()) {
		t.Fatal("there is room")
	}
	until := time.Now().Add(20 * time.Second)
	if slow.await(t.Context(), until, func() bool { return false }) || !time.Now().Before(until) {
		t.Error("it waits, and holds what another wants")
	}
}

// TestNoBodyWaitsForAnotherThatWaits: whatever bodies hold and want, they all come to their end, as long as those that have
// arrived leave.
func TestNoBodyWaitsForAnotherThatWaits(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		now, r := time.Now(), newRoom(16)
		type sender struct {
			*roomed
			size, next int64
			waits      bool
		}
		var senders []*sender
		for range 20 {
			senders = append(senders, &sender{roomed: r.enter(16, now, func() { t.Error("evicted") }), size: 1 + rng.Int64N(16), next: 1})
		}
		var running []*roomed
		for steps := 0; len(senders) > 0; steps++ {
			if steps > 10_000 {
				t.Fatalf("seed %d: %d bodies wait for one another", seed, len(senders))
			}
			if r.open.taken > r.open.size || r.reserved.taken > r.reserved.size {
				t.Fatalf("seed %d: more is taken than there is: %+v, %+v", seed, r.open, r.reserved)
			}
			if len(running) > 0 && rng.IntN(4) == 0 {
				running[0].leave()
				running = running[1:]
			}
			i := rng.IntN(len(senders))
			s := senders[i]
			switch {
			case s.waits && len(s.granted) == 0:
				continue
			case s.waits:
				<-s.granted
				s.waits = false
			case !s.take(min(s.next, s.size), now):
				s.waits = true
				continue
			}
			if s.next >= s.size {
				s.settle(s.size)
				running, senders = append(running, s.roomed), append(senders[:i], senders[i+1:]...)
				continue
			}
			s.next *= 2
		}
	}
}
