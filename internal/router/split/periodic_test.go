package split

import (
	"math"
	"math/rand/v2"
	"testing"
)

// cycle sends requests of so many kinds, each in its turn, through one stream: the router can't tell them apart. It
// returns how many of each kind went to the canary.
func cycle(seed uint64, weight uint32, kinds, rounds int) []int {
	s := New(seeded(seed))
	picks := make([]int, kinds)
	for range rounds {
		for kind := range picks {
			if s.Next("x", weight) {
				picks[kind]++
			}
		}
	}
	return picks
}

// chance is how far a kind's share may be from the weight's by chance (Bernstein's bound), so that fewer than one in 10⁹ are
// farther. The picks of a kind scatter no more than independent ones do: where one is picked its neighbours are less
// likely to be.
func chance(rounds int, weight uint32) float64 {
	const doubt = 21.4 // ln(2·10⁹)
	p := float64(weight) / Whole
	variance := float64(rounds) * p * (1 - p)
	return doubt/3 + math.Sqrt(doubt*doubt/9+2*doubt*variance)
}

// periodic is the test of all kinds of all periods at some weights.
func periodic(t *testing.T, weights []uint32, rounds int) {
	for _, weight := range weights {
		for kinds := 2; kinds <= 100; kinds++ {
			for kind, got := range cycle(uint64(kinds)<<32|uint64(weight), weight, kinds, rounds) {
				if want := share(rounds, weight); math.Abs(float64(got)-want) > chance(rounds, weight) {
					t.Errorf("weight %d: of kind %d of %d, which come in turn, %d of %d went to the canary, want %.0f ± %.0f",
						weight, kind+1, kinds, got, rounds, want, chance(rounds, weight))
				}
			}
		}
	}
}

// TestO15_PeriodicTraffic: an application that sends its kinds of requests in a fixed order gives the canary each kind's
// share, within chance.
func TestO15_PeriodicTraffic(t *testing.T) {
	periodic(t, []uint32{25, 500, 1000, 2500, 3333, 5000, 7500, 9000}, 200)
}

// TestO15_EachPlaceHasTheWeightAsItsChance: no place in a block, nor where blocks meet, is picked more often. Ten requests at
// weight 30 are three blocks that meet inside of requests, always of the same kinds.
func TestO15_EachPlaceHasTheWeightAsItsChance(t *testing.T) {
	const rounds = 60_000
	for kinds, weight := range map[int]uint32{10: 3000, 3: 6667, 7: 4286, 20: 9500} {
		s := New(seeded(uint64(kinds)))
		picks := make([]int, kinds)
		for range rounds {
			sequence, _ := unpack(s.shared.state.Load())
			s.shared.begin(sequence)
			for kind := range picks {
				if s.shared.next(weight) {
					picks[kind]++
				}
			}
		}
		for kind, got := range picks {
			p := float64(weight) / Whole
			if z := (float64(got) - rounds*p) / math.Sqrt(rounds*p*(1-p)); math.Abs(z) > 4.5 {
				t.Errorf("weight %d: request %d of %d went to the canary in %.4f of the rounds (%.1f standard deviations off)",
					weight, kind+1, kinds, float64(got)/rounds, z)
			}
		}
	}
}

// TestO15_BurstsOfOneKind: what comes k times in a row, and then doesn't for long, has its share as well.
func TestO15_BurstsOfOneKind(t *testing.T) {
	const rounds = 4000
	for _, weight := range []uint32{500, 1000, 2500, 5000} {
		for _, k := range []int{1, 2, 5, 10, 40} {
			s, picks := New(seeded(uint64(k))), [3]int{}
			for range rounds {
				for kind := range picks {
					for range k {
						if s.Next("x", weight) {
							picks[kind]++
						}
					}
				}
			}
			for kind, got := range picks {
				if want := share(k*rounds, weight); math.Abs(float64(got)-want) > chance(k*rounds, weight) {
					t.Errorf("weight %d, bursts of %d: of kind %d %d of %d went to the canary, want %.0f", weight, k, kind, got, k*rounds, want)
				}
			}
		}
	}
}

// TestO15_TwoRoutersDiffer: pods that get the same requests in the same rhythm don't pick the same ones.
func TestO15_TwoRoutersDiffer(t *testing.T) {
	one, other := New(rand.Uint64), New(rand.Uint64)
	for range 1000 {
		if one.Next("x", 1000) != other.Next("x", 1000) {
			return
		}
	}
	t.Error("two routers picked the same of a thousand requests")
}
