package agent

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// TestOfferSupersedesOnlyWhatCameBefore: the applier takes a snapshot at any moment of an offer, and the offer must not
// end the apply of its own snapshot.
func TestOfferSupersedesOnlyWhatCameBefore(t *testing.T) {
	a := New(Options{Pod: newPod(), Logger: slog.New(slog.DiscardHandler)})
	a.offer(at(1, 1))
	a.offer(at(1, 2)) // before anything was taken: it takes the first one's place
	first, s := a.take(t.Context())
	if s.GetSequence() != 2 || first.Err() != nil {
		t.Errorf("took %v, %v", s, first.Err())
	}
	a.offer(at(1, 3)) // while the second is applied
	if first.Err() == nil {
		t.Error("the second goes on though there is a third")
	}
	a.release()
	second, s := a.take(t.Context())
	if s.GetSequence() != 3 || second.Err() != nil {
		t.Errorf("took %v, %v", s, second.Err())
	}
	a.release()
	if _, s := a.take(t.Context()); s != nil {
		t.Errorf("took %v a second time", s)
	}
	a.release()
}

// TestNoOfferIsLost offers snapshots while appliers are anywhere: the last one always gets through. Many agents at
// once make the scheduler interrupt them everywhere.
func TestNoOfferIsLost(t *testing.T) {
	limit := time.After(time.Minute)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { offerMany(t, 1000, limit) })
	}
	wg.Wait()
}

func offerMany(t *testing.T, n uint64, limit <-chan time.Time) {
	p := newPod()
	p.script(func(ctx context.Context, _ *controlpb.Snapshot) error {
		runtime.Gosched()
		return ctx.Err()
	})
	a := New(Options{Pod: p, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.applyAll(ctx) }()
	defer func() { cancel(); <-done }()
	for i := range n {
		a.offer(at(1, i+1))
		for acked := i%2 == 0; !acked; { // every other time, see it through
			select {
			case m := <-a.verdicts:
				acked = m.GetAck().GetSequence() == i+1
			case <-limit:
				t.Errorf("snapshot %d was neither applied nor refused", i+1)
				return
			}
		}
	}
}
