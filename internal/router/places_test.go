package router

import (
	"context"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestP31_WaitingForASlotIsBounded(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Limits.QueueLimit = 5 }), nil)
	r.a.Stop()
	r.until(func() bool { return !r.slots["a"].Serving() })
	const places = 4 + 5 // its workers and the queue
	answers := make(chan *answer, places)
	for range places {
		go func() { answers <- r.post("x", "{}") }()
	}
	r.until(func() bool { return r.waiting.Load() == places })
	a := r.post("x", "{}")
	if a.code != 503 || a.failure.Type != "queue_full" || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", a.code, a.body)
	}
	r.a.Start()
	for range places {
		if a := <-answers; a.slot() != "a" {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
}

func TestP31_OneMoreThanTheSlotTakesIsRefusedAtOnce(t *testing.T) {
	inside, finish := make(chan struct{}, 100), make(chan struct{})
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) {
		s.Slots[0].Size, s.Slots[0].Overflow, s.Limits.QueueLimit = 2, 1, 4
	}), map[string]slottest.Handler{
		"hold": func(context.Context, slottest.Call) (string, error) {
			inside <- struct{}{}
			<-finish
			return `"a"`, nil
		},
	})
	const places = 2 + 1 + 4
	answers := make(chan *answer, places)
	for range places {
		go func() { answers <- r.post("hold", "{}") }()
	}
	for range places {
		<-inside
	}
	a := r.post("x", "{}")
	if a.code != 503 || a.failure.Type != "queue_full" || !strings.Contains(a.failure.Message, "3 workers busy and 4 requests waiting") {
		t.Errorf("one more: %d %s", a.code, a.body)
	}
	if n := len(r.a.Calls()); n != places {
		t.Errorf("%d requests reached the slot, want %d", n, places)
	}
	close(finish)
	for range places {
		if a := <-answers; a.slot() != "a" {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	if got := r.revisionFigures("r1"); got.Shed != 1 || got.Infrastructure != 0 {
		t.Errorf("the one that was refused is counted as %+v", got)
	}
	if a := r.post("x", "{}"); a.slot() != "a" {
		t.Errorf("once there is room: %d %s", a.code, a.body)
	}
}

func TestPlacesStayBelowTheSlotsConnections(t *testing.T) {
	for queue, want := range map[int]int{0: 3, 100: 103, 3997: 4000, 100_000: 4000} {
		if got := placesOf(3, limits{queue: queue}); got != want {
			t.Errorf("queueLimit %d with 3 workers: %d places, want %d", queue, got, want)
		}
	}
}

func TestPlacesCountWhatWorkersServeAtTheSameTime(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) {
		s.Slots[0].Revision.Concurrency, s.Slots[0].Overflow, s.Limits.QueueLimit = 8, 1, 100
	}), nil)
	if stable := r.table.Load().stable; stable.places != 5*8+100 || stable.workers != 5 {
		t.Errorf("%d places with %d workers; want 140 with 5", stable.places, stable.workers)
	}
}
