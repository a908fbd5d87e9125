package split

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// seeded draws the same numbers in every run.
func seeded(seed uint64) func() uint64 { return rand.New(rand.NewPCG(seed, 15)).Uint64 }

// someWeights are whole ones and fractions, small and large, such as divide 100 and such as don't.
var someWeights = []uint32{
	1, 25, 99, 100, 250, 500, 750, 997, 1000, 1250, 2000, 2500, 3000, 3333, 4000, 5000, 6000, 6667, 7500, 8000, 9000, 9500, 9900, 9975, 9999,
}

func TestO15_ExactShareOfEachCommand(t *testing.T) {
	commands := []string{"embed", "summarize", "rank"}
	for _, weight := range append([]uint32{0, Whole}, someWeights...) {
		s := New(seeded(1))
		dice := rand.New(rand.NewPCG(uint64(weight), 2))
		picks, of := map[string]int{}, map[string]int{}
		for range 2 * Whole {
			command := commands[dice.IntN(len(commands))]
			of[command]++
			if s.Next(command, weight) {
				picks[command]++
			}
			if want := share(of[command], weight); math.Abs(float64(picks[command])-want) >= 1 {
				t.Fatalf("weight %d: %d of the first %d requests of %s went to the canary, want %.2f, rounded down or up",
					weight, picks[command], of[command], command, want)
			}
		}
	}
}

// TestO15_ExactShareOfEveryWindow: a window of whole blocks is off by at most one wherever it begins, and any window by
// less than two. No sequence that isn't regular can promise less.
func TestO15_ExactShareOfEveryWindow(t *testing.T) {
	for _, weight := range someWeights {
		s := New(seeded(3))
		sum := make([]int, 2*Whole+1) // picks before each request
		for i := range 2 * Whole {
			sum[i+1] = sum[i]
			if s.Next("x", weight) {
				sum[i+1]++
			}
		}
		if sum[Whole] != int(weight) || sum[2*Whole] != 2*int(weight) {
			t.Errorf("weight %d: %d of %d requests went to the canary, and %d of twice as many", weight, sum[Whole], Whole, sum[2*Whole])
		}
		for start := range Whole {
			if d := sum[start+Whole] - sum[start] - int(weight); d < -1 || d > 1 {
				t.Fatalf("weight %d: the %d requests from %d on are off by %d", weight, Whole, start, d)
			}
			length := 1 + start*7%400
			if d := float64(sum[start+length]-sum[start]) - share(length, weight); math.Abs(d) >= 2 {
				t.Fatalf("weight %d: the %d requests from %d on are off by %.2f", weight, length, start, d)
			}
		}
	}
}

func TestO15_WeightChangesMidStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(seeded(rapid.Uint64().Draw(t, "seed")))
		picks, owed := 0, 0.0
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			weight := rapid.Uint32Range(0, Whole).Draw(t, "weight")
			for range rapid.IntRange(1, 200).Draw(t, "requests") {
				owed += share(1, weight)
				if s.Next("x", weight) {
					picks++
				}
				if math.Abs(float64(picks)-owed) >= 1+1e-6 {
					t.Fatalf("%d requests went to the canary, the weights ask for %.2f, rounded down or up", picks, owed)
				}
			}
		}
	})
}

func TestO15_ExactUnderConcurrency(t *testing.T) {
	const callers, each = 16, 5 * Whole / 4
	for _, weight := range []uint32{1, 1000, 3333, 9999} {
		s := New(rand.Uint64)
		var picks [2]atomic.Int64
		var wg sync.WaitGroup
		for i := range callers {
			command := i % 2
			wg.Go(func() {
				for range each {
					if s.Next(fmt.Sprint(command), weight) {
						picks[command].Add(1)
					}
				}
			})
		}
		wg.Wait()
		for command := range picks {
			if got, want := picks[command].Load(), int64(weight)*callers/2*each/Whole; got != want {
				t.Errorf("weight %d: %d of %d requests of command %d went to the canary, want %d", weight, got, callers/2*each, command, want)
			}
		}
	}
}

func TestO17_WeightZeroPicksNothing(t *testing.T) {
	s := New(seeded(4))
	first := 0
	for range 9 {
		if s.Next("x", 1000) { // leaves a tenth of a request to come
			first++
		}
	}
	for i := range 3 * Whole {
		if s.Next("x", 0) {
			t.Fatalf("request %d went to the canary at weight 0", i)
		}
	}
	if last := s.Next("x", 1000); last == (first == 1) {
		t.Errorf("%d of nine requests went to the canary before weight 0, and of the tenth, after it: %v; want one of ten", first, last)
	}
}

func TestNoAllocationPerRequest(t *testing.T) {
	s := New(rand.Uint64)
	for i := range 2 * maxCommands {
		s.Next(fmt.Sprint(i), 1000)
	}
	for name, command := range map[string]string{"a stream of its own": "1", "a shared one": fmt.Sprint(2*maxCommands - 1)} {
		if n := testing.AllocsPerRun(100, func() { s.Next(command, 1000) }); n > 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

// share is how many of n requests are the canary's.
func share(n int, weight uint32) float64 { return float64(n) * float64(weight) / Whole }

func BenchmarkNext(b *testing.B) {
	s := New(rand.Uint64)
	commands := make([]string, maxCommands+1)
	for i := range commands {
		commands[i] = fmt.Sprintf("summarize-%d", i)
		s.Next(commands[i], 1000)
	}
	for name, command := range map[string]string{"own": commands[0], "shared": commands[maxCommands]} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Next(command, 1000)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.Next(command, 1000)
				}
			})
		})
	}
}
