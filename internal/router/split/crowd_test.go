package split

import (
	"fmt"
	"math"
	"testing"
)

// More commands than there are streams: those with one have their own exact share, the others have theirs together.
func TestMoreCommandsThanStreams(t *testing.T) {
	const commands, rounds, weight = 3 * maxCommands, 60, 1000
	s := New(seeded(5))
	picks := make([]int, commands)
	for range rounds {
		for i := range commands {
			if s.Next(fmt.Sprint(i), weight) {
				picks[i]++
			}
		}
	}
	shared := 0
	for i, got := range picks {
		if i >= maxCommands {
			shared += got
		} else if got != rounds/10 {
			t.Errorf("command %d: %d of %d requests went to the canary, want %d", i, got, rounds, rounds/10)
		}
	}
	if of := (commands - maxCommands) * rounds; math.Abs(float64(shared)-share(of, weight)) > 1 {
		t.Errorf("of the commands without a stream %d of %d requests went to the canary", shared, of)
	}
	if n := s.streams.Load().size; n != maxCommands {
		t.Errorf("%d streams, want %d: all are in use", n, maxCommands)
	}
}

// Names that somebody makes up fill the table; commands that come after them get a stream all the same, and soon.
func TestMadeUpNamesMakeRoom(t *testing.T) {
	s := New(seeded(6))
	made := 0
	makeUp := func(n int) {
		for range n {
			made++
			s.Next(fmt.Sprint("made-up-", made), 1000)
		}
	}
	makeUp(10 * maxCommands)
	for range 2 * reviewEvery {
		s.Next("embed", 1000)
		makeUp(1) // and it goes on
	}
	if s.streams.Load().find("embed") == nil {
		t.Error("embed has no stream of its own beside names that are used once")
	}
	makeUp(100 * maxCommands)
	if n := s.streams.Load().size; n > maxCommands {
		t.Errorf("%d streams, want at most %d", n, maxCommands)
	}
}
