package analysis

import "math"

// table is what a test is made of: x of n requests were bad, of the canary (1) and of the stable (2), and delta is
// the increase that the null hypothesis allows, 0 ≤ delta ≤ 1.
type table struct {
	x1, n1, x2, n2 int
	delta          float64
}

// score is Farrington and Manning's statistic: how many standard deviations the difference of the rates lies above
// delta, with the variance at the most likely rates that differ by exactly delta.
func (t table) score() float64 {
	n1, n2 := float64(t.n1), float64(t.n2)
	excess := float64(t.x1)/n1 - float64(t.x2)/n2 - t.delta
	p1, p2 := t.constrained()
	variance := p1*(1-p1)/n1 + p2*(1-p2)/n2
	if variance <= 0 {
		return 0 // both rates 0, or both 1, and delta 0: no difference
	}
	return excess / math.Sqrt(variance)
}

// constrained returns the maximum likelihood rates under p1 − p2 = delta: the root of a cubic, in the closed form of
// Farrington and Manning's appendix.
func (t table) constrained() (p1, p2 float64) {
	r1, r2 := float64(t.x1)/float64(t.n1), float64(t.x2)/float64(t.n2)
	s, theta := t.delta, float64(t.n2)/float64(t.n1)
	if s == 0 {
		pooled := float64(t.x1+t.x2) / float64(t.n1+t.n2)
		return pooled, pooled
	}
	a := 1 + theta
	b := -(1 + theta + r1 + theta*r2 + s*(theta+2))
	c := s*s + s*(2*r1+theta+1) + r1 + theta*r2
	d := -r1 * s * (1 + s)
	q := b / (3 * a)
	v := q*q*q - b*c/(6*a*a) + d/(2*a)
	u := math.Copysign(math.Sqrt(max(0, q*q-c/(3*a))), v)
	w := math.Pi / 3
	if u != 0 { // 0: a triple root at −q
		w = (math.Pi + math.Acos(min(1, max(-1, v/(u*u*u))))) / 3
	}
	p1 = min(1, max(s, 2*u*math.Cos(w)-q))
	return p1, p1 - s
}

// upperTail is the chance that a standard normal variable is at least z.
func upperTail(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }
