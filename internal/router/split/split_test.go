package split

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestO15_ExactShareOfEveryWindow(t *testing.T) {
	for _, weight := range []uint32{1, 25, 99, 1000, 2500, 3333, 5000, 9999, Whole} {
		var s Scheduler
		picked := make([]bool, 3*Whole)
		for i := range picked {
			picked[i] = s.Next(weight)
		}
		for _, start := range []int{0, 1, 777, Whole - 1, 2 * Whole} {
			if got := count(picked[start : start+Whole]); got != int(weight) {
				t.Errorf("weight %d: %d of the %d requests from %d on went to the canary", weight, got, Whole, start)
			}
		}
	}
}

func TestO15_TenPercentIsEveryTenth(t *testing.T) {
	var s Scheduler
	for i := 1; i <= 1000; i++ {
		if got, want := s.Next(1000), i%10 == 0; got != want {
			t.Fatalf("request %d: canary %t, want %t", i, got, want)
		}
	}
}

func TestO15_EvenlySpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weight := rapid.Uint32Range(0, Whole).Draw(t, "weight")
		var s Scheduler
		picks := 0
		for n := 1; n <= 2000; n++ {
			if s.Next(weight) {
				picks++
			}
			if want := float64(n) * float64(weight) / Whole; math.Abs(float64(picks)-want) > 1 {
				t.Fatalf("weight %d: %d of the first %d, want %.2f ± 1", weight, picks, n, want)
			}
		}
	})
}

func TestO15_WeightChangesMidStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Scheduler
		picks, owed := 0, 0.0
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			weight := rapid.Uint32Range(0, Whole).Draw(t, "weight")
			for range rapid.IntRange(1, 200).Draw(t, "requests") {
				owed += float64(weight) / Whole
				if s.Next(weight) {
					picks++
				}
				if math.Abs(float64(picks)-owed) > 1+1e-6 {
					t.Fatalf("%d requests went to the canary, the weights ask for %.2f ± 1", picks, owed)
				}
			}
		}
	})
}

func TestO15_ExactUnderConcurrency(t *testing.T) {
	const callers, each = 16, 5 * Whole / 4
	for _, weight := range []uint32{1, 1000, 3333, 9999} {
		var s Scheduler
		var picks atomic.Int64
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if s.Next(weight) {
						picks.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if want := int64(weight) * callers * each / Whole; picks.Load() != want {
			t.Errorf("weight %d: %d of %d went to the canary, want %d", weight, picks.Load(), callers*each, want)
		}
	}
}

func TestO17_WeightZeroPicksNothing(t *testing.T) {
	var s Scheduler
	for range 9 {
		s.Next(1000) // leaves nine tenths of a request owed
	}
	for i := range 3 * Whole {
		if s.Next(0) {
			t.Fatalf("request %d went to the canary at weight 0", i)
		}
	}
	if !s.Next(1000) {
		t.Error("what was owed before weight 0 is lost")
	}
}

func count(picked []bool) int {
	n := 0
	for _, p := range picked {
		if p {
			n++
		}
	}
	return n
}

func BenchmarkNext(b *testing.B) {
	var s Scheduler
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Next(1000)
		}
	})
}
