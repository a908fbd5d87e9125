package slotclient

import (
	"context"
	"errors"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// TestRecallTakesBackWhatNoWorkerHas: of three requests one runs, one waits, and one may not be taken back.
func TestRecallTakesBackWhatNoWorkerHas(t *testing.T) {
	entered, finish := make(chan string), make(chan struct{})
	slot := slottest.New(t, t.TempDir(), "a", func(_ context.Context, call slottest.Call) (string, error) {
		entered <- call.Command
		if call.Command == "waiting" {
			select {
			case <-call.Recalled:
				return "", pool.NewRecalled("summarizer")
			case <-finish:
			}
		}
		<-finish
		return call.Payload, nil
	})
	c := configured(t, slot)
	recall := make(chan struct{})
	type end struct {
		command string
		err     error
	}
	ends := make(chan end)
	for _, command := range []string{"running", "waiting", "not to be recalled"} {
		r := request(command, "{}")
		if command != "not to be recalled" {
			r.Recall = recall
		}
		go func() { _, err := c.Do(t.Context(), r); ends <- end{command, err} }()
		<-entered
	}
	close(recall)
	c.Recall()
	back := <-ends
	var e *pool.Error
	if back.command != "waiting" || !errors.As(back.err, &e) || e.Type != pool.NotAvailable || e.Sent {
		t.Errorf("%s came back first with %v; want the one that waited, unsent", back.command, back.err)
	}
	close(finish)
	for range 2 {
		if got := <-ends; got.err != nil {
			t.Errorf("%s: %v, want its result", got.command, got.err)
		}
	}
	late := request("late", "{}")
	late.Recall = recall
	if _, err := c.Do(t.Context(), late); !errors.As(err, &e) || e.Type != pool.NotAvailable || e.Sent {
		t.Errorf("one that came after the recall: %v", err)
	}
	if n := len(slot.Calls()); n != 3 {
		t.Errorf("%d requests reached the slot, want 3", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.running); n != 0 {
		t.Errorf("%d requests are remembered after their end", n)
	}
}
