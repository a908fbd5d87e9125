package analysis

import (
	"math"
	"testing"
)

// Reference values by brute force in numpy over all tables and 4,001 rates of the stable, with the score of
// score_test.go's reference; those without an allowed increase agree with scipy.stats.barnard_exact to 8 digits.
func TestExact(t *testing.T) {
	for name, c := range map[string]struct {
		table table
		want  float64
	}{
		"three failed on stable": {table{12, 60, 3, 120, 0.01}, 1.64424e-4},
		"one failed on stable":   {table{8, 40, 1, 150, 0.01}, 1.9128e-5},
		"none failed on stable":  {table{9, 100, 0, 200, 0.01}, 8.78023e-5},
		"more allowed":           {table{20, 80, 20, 200, 0.05}, 0.0288611},
		"nothing allowed":        {table{6, 30, 2, 90, 0}, 0.00183992},
		"nothing allowed, more":  {table{15, 60, 10, 120, 0}, 0.00182582},
	} {
		t.Run(name, func(t *testing.T) {
			const level = 1e-12 // so that every rate that the brute force searched is possible
			got := c.table.exact(c.table.score(), level)
			if got < c.want*0.997 || got > c.want*1.001 {
				t.Errorf("exact = %.6g, want %.6g", got, c.want)
			}
		})
	}
}

// The chance of a false alarm of one test, summed over every table: at most the level, at every rate of the stable.
// The score's own probability breaks it by more than an order of magnitude, which is why there is an exact one.
func TestExactKeepsItsLevel(t *testing.T) {
	for name, c := range map[string]struct {
		n1, n2       int
		delta, level float64
	}{
		"few samples":           {50, 100, 0.01, 1e-3},
		"first look":            {100, 300, 0.01, Alpha / 4},
		"late look":             {100, 300, 0.01, 1e-6},
		"nothing allowed":       {100, 300, 0, Alpha / 4},
		"more canary than rest": {300, 80, 0.02, 1e-5},
	} {
		t.Run(name, func(t *testing.T) {
			exact := boundary(c.n1, c.n2, func(x1, x2 int) bool {
				p, _ := excess(Proportion{Bad: uint64(x1), Requests: uint64(c.n1)},
					Proportion{Bad: uint64(x2), Requests: uint64(c.n2)}, c.delta, c.level)
				return p <= c.level
			})
			normal := boundary(c.n1, c.n2, func(x1, x2 int) bool {
				return upperTail(table{x1, c.n1, x2, c.n2, c.delta}.score()) <= c.level
			})
			got, rate := worstSize(exact, c.n1, c.n2, c.delta)
			byScore, _ := worstSize(normal, c.n1, c.n2, c.delta)
			t.Logf("level %g: exact %.3g (at a stable's rate of %.3f), by the score alone %.3g", c.level, got, rate, byScore)
			if got > c.level {
				t.Errorf("false alarms %g at a stable's rate of %g, level %g", got, rate, c.level)
			}
			if got < c.level/20 {
				t.Errorf("false alarms %g: the test wastes its level %g", got, c.level)
			}
		})
	}
}

// boundary returns for each x2 the smallest x1 that fails, n1+1 if none does.
func boundary(n1, n2 int, fails func(x1, x2 int) bool) []int {
	out := make([]int, n2+1)
	x1 := 0
	for x2 := range out {
		for x1 <= n1 && !fails(x1, x2) {
			x1++
		}
		out[x2] = x1
	}
	return out
}

// worstSize is the largest chance of a table beyond the boundary when the canary is exactly delta worse.
func worstSize(least []int, n1, n2 int, delta float64) (worst, at float64) {
	c1, c2 := logChoose(n1, 0, n1), logChoose(n2, 0, n2)
	for i := range 400 {
		p2 := (1 - delta) * float64(i) / 400
		tail := append(tails(c1, 0, n1, p2+delta), 0)
		chance := binomial(n2, p2)
		var sum float64
		for x2, x1 := range least {
			sum += chance(c2[x2], x2) * tail[x1]
		}
		if sum > worst {
			worst, at = sum, p2
		}
	}
	return worst, at
}

func TestExcessChoosesItsTest(t *testing.T) {
	for name, c := range map[string]struct {
		canary, stable Proportion
		want           Test
	}{
		"within what is allowed": {Proportion{Bad: 4, Requests: 400}, Proportion{Bad: 12, Requests: 1200}, Score},
		"few failures":           {Proportion{Bad: 61, Requests: 412}, Proportion{Bad: 3, Requests: 1240}, Exact},
		"few on one side":        {Proportion{Bad: 60, Requests: 400}, Proportion{Bad: 20_000, Requests: 400_000}, Exact},
		"thousands on both":      {Proportion{Bad: 14_000, Requests: 100_000}, Proportion{Bad: 36_000, Requests: 300_000}, Score},
	} {
		t.Run(name, func(t *testing.T) {
			p, test := excess(c.canary, c.stable, 0.01, 1e-6)
			if test != c.want || math.IsNaN(p) || p < 0 || p > 1 {
				t.Errorf("%s with p %g, want %s", test, p, c.want)
			}
		})
	}
}

// A look costs what a status write costs, whatever the counts.
func BenchmarkExcess(b *testing.B) {
	for name, c := range map[string]struct{ canary, stable Proportion }{
		"412 of 1652":   {Proportion{Bad: 61, Requests: 412}, Proportion{Bad: 3, Requests: 1240}},
		"40 k of 160 k": {Proportion{Bad: 3_000, Requests: 40_000}, Proportion{Bad: 7_000, Requests: 120_000}},
		"100 k of 10 M": {Proportion{Bad: 8_000, Requests: 100_000}, Proportion{Bad: 650_000, Requests: 10_000_000}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				excess(c.canary, c.stable, 0.01, 1e-6)
			}
		})
	}
}
