package analysis

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// traffic is a simulated rollout's: requests a second of the fleet, and by how many in a hundred each side fails.
type traffic struct {
	perSecond      int
	canary, stable float64 // error rates
}

// The rollout that is simulated: at each weight at least looksEach looks, then on with the first that passes.
var weights = []float64{0.05, 0.25, 0.5}

const (
	looksEach = 60
	looksMost = 2000 // of a rollout that neither passes nor fails
)

// outcome of a simulated rollout.
type outcome struct {
	back, promoted bool
	requests       uint64 // of the canary
}

// rollout plays one rollout to its end; at each weight counting starts anew, as the package's comment asks.
func rollout(dice *dice, tr traffic) outcome {
	var o outcome
	progress := Progress{}
	k := 0
	for _, w := range weights {
		n := tr.perSecond * int(DefaultInterval/time.Second)
		canary := int(math.Round(w * float64(n)))
		var p Pod
		for looks, verdict := 0, Insufficient; looks < looksEach || verdict != Pass; looks++ {
			if k++; k > looksMost {
				return o
			}
			p.Canary = p.Canary.Add(dice.counts(canary, tr.canary))
			p.Stable = p.Stable.Add(dice.counts(n-canary, tr.stable))
			o.requests += uint64(canary)
			in := look(k, p)
			in.Progress = progress
			r := Decide(in)
			if verdict, progress = r.Verdict, r.Progress; verdict == Fail {
				o.back = true
				return o
			}
		}
	}
	o.promoted = true
	return o
}

// sameOnBothSides: a canary as good as the stable is rolled back in less than 0.1 % of all rollouts, and promoted in the
// others.
func sameOnBothSides(t *testing.T, rollouts int) {
	for name, tr := range map[string]traffic{
		"1 % errors":                 {100, 0.01, 0.01},
		"10 % errors":                {100, 0.10, 0.10},
		"1 % errors, little traffic": {10, 0.01, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			back, promoted := play(tr, rollouts)
			t.Logf("A/A at %s, %d req/s: %d of %d rollouts rolled back (%.3f %%), %d promoted",
				name, tr.perSecond, back, rollouts, 100*float64(back)/float64(rollouts), promoted)
			if back*1000 >= rollouts {
				t.Errorf("%d of %d rolled back, want fewer than 0.1 %%", back, rollouts)
			}
			if back+promoted != rollouts {
				t.Errorf("%d of %d came to no end", rollouts-back-promoted, rollouts)
			}
		})
	}
}

// worseByWhatIsAllowed: the same bound holds for a canary that is worse by exactly what is allowed, where the test has the
// least room.
func worseByWhatIsAllowed(t *testing.T, rollouts int) {
	back, promoted := play(traffic{20, 0.02, 0.01}, rollouts)
	t.Logf("2 %% against 1 %%, 1 %% allowed: %d of %d rollouts rolled back, %d promoted", back, rollouts, promoted)
	if back*1000 >= rollouts {
		t.Errorf("%d of %d rolled back, want fewer than 0.1 %%", back, rollouts)
	}
}

func play(tr traffic, rollouts int) (back, promoted int) {
	d := newDice(29)
	for range rollouts {
		switch o := rollout(d, tr); {
		case o.back:
			back++
		case o.promoted:
			promoted++
		}
	}
	return back, promoted
}

// detection: how many canary requests it takes until a bad canary is rolled back, in all rollouts that are played.
func detection(t *testing.T, rollouts int) {
	for name, c := range map[string]struct {
		traffic traffic
		within  uint64
	}{
		"5 % against 1 %":                  {traffic{100, 0.05, 0.01}, 3000},
		"30 % against 1 %":                 {traffic{100, 0.30, 0.01}, 250},
		"30 % against 1 %, little traffic": {traffic{20, 0.30, 0.01}, 250},
		"15 % against 10 %":                {traffic{100, 0.15, 0.10}, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDice(26)
			late := 0
			var sum uint64
			for range rollouts {
				o := rollout(d, c.traffic)
				sum += o.requests
				if !o.back || o.requests > c.within {
					late++
				}
				if o.promoted {
					t.Error("a bad canary was promoted")
				}
			}
			t.Logf("%s: rolled back after %d canary requests on average; %d of %d took more than %d",
				name, sum/uint64(rollouts), late, rollouts, c.within)
			if late > 0 {
				t.Errorf("%d of %d weren't rolled back within %d canary requests", late, rollouts, c.within)
			}
		})
	}
}

// dice draws binomial numbers quickly, always the same ones.
type dice struct {
	rand *rand.Rand
	cdf  map[draw][]float64
}

type draw struct {
	n int
	p float64
}

func newDice(seed uint64) *dice {
	return &dice{rand: rand.New(rand.NewPCG(seed, 1)), cdf: map[draw][]float64{}}
}

// counts of n requests, of which each fails with chance p and times out with 0.1 %.
func (d *dice) counts(n int, p float64) Counts {
	return Counts{Requests: uint64(n), Errors: d.binomial(draw{n, p}), Timeouts: d.binomial(draw{n, 0.001})}
}

func (d *dice) binomial(of draw) uint64 {
	cdf, known := d.cdf[of]
	if !known {
		chance := binomial(of.n, of.p)
		var sum float64
		for x, c := range logChoose(of.n, 0, of.n) {
			sum += chance(c, x)
			cdf = append(cdf, sum)
		}
		d.cdf[of] = cdf
	}
	u := d.rand.Float64()
	x := int(float64(of.n) * of.p) // the mean: most draws end near it
	for x > 0 && cdf[x-1] > u {
		x--
	}
	for x < of.n && cdf[x] <= u {
		x++
	}
	return uint64(x)
}
