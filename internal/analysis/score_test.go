package analysis

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Reference values: the constrained rates by scipy 1.17 (brentq on the derivative of the likelihood, to 1e-14), from
// them the statistic and scipy.stats.norm.sf. No closed form was used for them.
func TestScore(t *testing.T) {
	for name, c := range map[string]struct {
		table       table
		z, p1, tail float64
	}{
		"far apart":           {table{61, 412, 3, 1240, 0.01}, 12.616604335, 0.039635258, 8.55193e-37},
		"a little worse":      {table{12, 200, 9, 600, 0.01}, 2.553420640, 0.031545067, 0.00533353},
		"stable never failed": {table{9, 200, 0, 800, 0.01}, 4.974683382, 0.01, 3.26772e-07},
		"nothing allowed":     {table{40, 400, 30, 1200, 0}, 6.351073488, 0.04375, 1.06909e-10},
		"more allowed":        {table{150, 1000, 280, 3000, 0.02}, 3.131536786, 0.121460850, 0.00086947},
		"equal":               {table{3, 100, 3, 100, 0.01}, -0.409519324, 0.035786899, 0.658921},
		"neither failed":      {table{0, 100, 0, 300, 0.01}, -1.005037815, 0.01, 0.842561},
		"one always failed":   {table{100, 100, 0, 50, 0.5}, 7.071067812, 1, 7.6873e-13},
		"stable much worse":   {table{5, 50, 50, 50, 0.1}, -10.085611023, 0.591547595, 1},
		"large":               {table{700, 5000, 900, 10000, 0.01}, 7.402908963, 0.112616540, 6.66165e-14},
	} {
		t.Run(name, func(t *testing.T) {
			z := c.table.score()
			p1, p2 := c.table.constrained()
			near(t, "score", z, c.z, 1e-6)
			near(t, "p1", p1, c.p1, 1e-7)
			near(t, "p2", p2, c.p1-c.table.delta, 1e-7)
			near(t, "tail", upperTail(z)/c.tail, 1, 1e-5)
		})
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s = %.12g, want %.12g ± %g", what, got, want, tolerance)
	}
}

// The closed form against the dumb twin: no other rate is likelier.
func TestConstrainedIsMostLikely(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := anyTable(t, 2000)
		p1, p2 := tb.constrained()
		if p1 < tb.delta-1e-12 || p1 > 1+1e-12 || math.Abs(p1-p2-tb.delta) > 1e-12 {
			t.Fatalf("%+v: rates %g, %g", tb, p1, p2)
		}
		best := tb.logLikelihood(p2)
		for i := range 1001 {
			q := (1 - tb.delta) * float64(i) / 1000
			if other := tb.logLikelihood(q); other > best+1e-6*math.Abs(best)+1e-9 {
				t.Fatalf("%+v: %g is likelier than %g: %g > %g", tb, q, p2, other, best)
			}
		}
	})
}

func (t table) logLikelihood(p2 float64) float64 {
	term := func(k int, p float64) float64 {
		if k == 0 {
			return 0
		}
		return float64(k) * math.Log(max(p, 0))
	}
	p1 := p2 + t.delta
	return term(t.x1, p1) + term(t.n1-t.x1, 1-p1) + term(t.x2, p2) + term(t.n2-t.x2, 1-p2)
}

func anyTable(t *rapid.T, most int) table {
	tb := table{n1: rapid.IntRange(1, most).Draw(t, "n1"), n2: rapid.IntRange(1, most).Draw(t, "n2")}
	tb.x1 = rapid.IntRange(0, tb.n1).Draw(t, "x1")
	tb.x2 = rapid.IntRange(0, tb.n2).Draw(t, "x2")
	tb.delta = rapid.SampledFrom([]float64{0, 0.001, 0.01, 0.05, 0.5, 1}).Draw(t, "delta")
	return tb
}

// More failures of the canary, or fewer of the stable, never lower the score: what the exact test's region rests on.
func TestScoreIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := anyTable(t, 500)
		z := tb.score()
		if tb.x1 < tb.n1 {
			worse := tb
			worse.x1++
			if worse.score() < z-1e-9 {
				t.Fatalf("%+v: %g, with one more failure %g", tb, z, worse.score())
			}
		}
		if tb.x2 > 0 {
			worse := tb
			worse.x2--
			if worse.score() < z-1e-9 {
				t.Fatalf("%+v: %g, with one less failure of the stable %g", tb, z, worse.score())
			}
		}
	})
}
