package slot

import (
	"context"
	"testing"

	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestOverflowShrinksFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		size, overflow, max    int
		wantSize, wantOverflow int
		wantCut                bool
	}{
		"no limit":         {4, 2, 0, 4, 2, false},
		"it fits exactly":  {4, 2, 6, 4, 2, false},
		"less overflow":    {4, 2, 5, 4, 1, true},
		"no overflow":      {4, 2, 4, 4, 0, true},
		"less size":        {4, 2, 3, 3, 0, true},
		"only size is cut": {4, 0, 3, 3, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			limits, cut := capped(slotproto.Config{Size: tc.size, Overflow: tc.overflow}, tc.max)
			if limits.Size != tc.wantSize || limits.Overflow != tc.wantOverflow || cut != tc.wantCut {
				t.Errorf("size %d, overflow %d, cut %v", limits.Size, limits.Overflow, cut)
			}
		})
	}
}

func TestCancelBeforeItsRequest(t *testing.T) {
	is := newInstances()
	leave := is.join("i", true)
	defer leave()
	is.cancel("i", 7)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer is.begin("i", 8, cancel)()
	if ctx.Err() != nil {
		t.Fatal("another request was cancelled")
	}
	defer is.begin("i", 7, cancel)()
	if ctx.Err() == nil {
		t.Error("a cancel that was read before its request had no effect")
	}
}

func TestEarlyCancelsAreBounded(t *testing.T) {
	is := newInstances()
	defer is.join("i", true)()
	for id := range uint64(10 * maxEarly) {
		is.cancel("i", id)
	}
	if i := is.byName["i"]; len(i.early) != maxEarly || len(i.order) != maxEarly {
		t.Errorf("%d, %d kept; want %d", len(i.early), len(i.order), maxEarly)
	}
}

func TestInstancesAreForgotten(t *testing.T) {
	is := newInstances()
	leaveControl, leaveData := is.join("i", true), is.join("i", false)
	leaveControl()
	leaveData()
	if len(is.byName) != 0 {
		t.Errorf("%d instances without a connection", len(is.byName))
	}
}
