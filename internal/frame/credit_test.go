package frame_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// TestP109_CreditBoundsWhatIsHeld plays a sender and a reader of random speeds: what is held never exceeds the window and
// one chunk, nobody waits for the other at the same time, and no chunk within its credit is refused.
func TestP109_CreditBoundsWhatIsHeld(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		largest := 1 + rng.IntN(100_000)
		var w frame.Window
		var held [][]byte
		credit, bytes := frame.StreamWindow, 0
		for range 2_000 {
			if credit > 0 && (len(held) == 0 || rng.IntN(2) == 0) {
				chunk := make([]byte, rng.IntN(largest))
				credit -= frame.ChunkCost(chunk)
				if held, bytes = append(held, chunk), bytes+len(chunk); !w.Receive(chunk) {
					t.Fatalf("seed %d: a chunk within its credit is refused", seed)
				}
			} else if len(held) > 0 {
				credit += w.Take(held[0])
				bytes -= len(held[0])
				held = held[1:]
			} else {
				t.Fatalf("seed %d: nothing is held, and the sender has no credit", seed)
			}
			if len(held) > frame.StreamWindow || bytes > frame.StreamWindow*frame.CreditUnit+largest {
				t.Fatalf("seed %d: %d chunks of %d bytes are held", seed, len(held), bytes)
			}
		}
	}
}

func TestP109_ChunksBeyondTheirCredit(t *testing.T) {
	for name, tc := range map[string]struct {
		size, taken, more int // chunks of that size; of those that fill the window so many are taken, and then more may come
	}{
		"small, none taken":           {size: 1, taken: 0, more: 0},
		"small, too few for a Credit": {size: frame.CreditUnit, taken: 7, more: 0},
		"small, half":                 {size: 1, taken: 8, more: 8},
		"of two units":                {size: frame.CreditUnit + 1, taken: 4, more: 4},
		"one that is the window":      {size: frame.StreamWindow * frame.CreditUnit, taken: 1, more: 1},
		"one that is more":            {size: 1 << 20, taken: 1, more: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var w frame.Window
			chunk := make([]byte, tc.size)
			for w.Receive(chunk) {
			}
			for range tc.taken {
				w.Take(chunk)
			}
			more := 0
			for w.Receive(chunk) {
				more++
			}
			if more != tc.more {
				t.Errorf("%d more, want %d", more, tc.more)
			}
		})
	}
}

func TestCreditIsRead(t *testing.T) {
	if n, err := frame.NewCredit(7, 10, 1<<31).Credit(); n != 1<<31 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, payload := range []string{"", "123", "12345"} {
		if _, err := (&frame.Frame{Kind: frame.Credit, Payload: []byte(payload)}).Credit(); !errors.Is(err, frame.ErrMalformed) {
			t.Errorf("of %d bytes: %v", len(payload), err)
		}
	}
}
