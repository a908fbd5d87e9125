package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffGrowsToItsMaximumAndResets(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for _, full := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		full *= time.Millisecond
		if d := b.Next(); d < full/2 || d > full {
			t.Errorf("delay %v, want between %v and %v", d, full/2, full)
		}
	}
	b.Reset()
	if d := b.Next(); d > 100*time.Millisecond {
		t.Errorf("delay %v after Reset, want at most 100ms", d)
	}
}

func TestBackoffWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Min: time.Hour, Max: time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if b.Wait(ctx) {
			t.Error("Wait reports a full delay after its context ended")
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %v, want 1s", waited)
		}
		if !b.Wait(t.Context()) {
			t.Error("Wait reports a cancelled delay after a full one")
		}
	})
}
