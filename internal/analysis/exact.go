package analysis

import "math"

const (
	// suspicious is how many times the level the score's own probability may be for the exact one to be computed.
	// Failures being rarer than successes, the exact one is the larger of the two; where it isn't, this errs on the
	// canary's side.
	suspicious = 1000
	// normalFrom is the variance of both sides' counts from which the score is normal enough, this far out: at five
	// standard deviations its probability is right within a fifth.
	normalFrom = 1e4
	// nuisanceSteps is how finely the stable's possible rates are searched for the worst; less than a quarter of their
	// standard deviation a step, in which the probability changes little around its maximum.
	nuisanceSteps = 64
	// setAside is the part of the level that is spent on outcomes and rates so unlikely that they aren't looked at.
	setAside = 0.01
	// negligible is the logarithm of a chance (1e-35) below which outcomes aren't summed up; levels are above 1e-20.
	negligible = -80
)

// excess returns the chance of a difference like this, or a larger one, if the canary's rate were at most allowed
// above the stable's; level is what it will be compared with.
func excess(canary, stable Proportion, allowed, level float64) (float64, Test) {
	t := table{
		x1: int(canary.Bad), n1: int(canary.Requests), x2: int(stable.Bad), n2: int(stable.Requests),
		delta: min(1, max(0, allowed)),
	}
	z := t.score()
	p1, p2 := t.constrained()
	large := min(float64(t.n1)*p1*(1-p1), float64(t.n2)*p2*(1-p2)) >= normalFrom
	if large || upperTail(z) > suspicious*level {
		return upperTail(z), Score
	}
	return t.exact(z, level), Exact
}

// exact is the largest chance, over the stable's rates that its counts leave possible, of a table with a score of at
// least z. What is left out has a chance of setAside·level at most, and is added.
func (t table) exact(z, level float64) float64 {
	out := setAside * level / 3 // each: rates, counts of the stable, counts of the canary
	low, high := possibleRates(t.x2, t.n2, out)
	low, high = min(low, 1-t.delta), min(high, 1-t.delta)
	r := t.region(z, low, high, out)
	var worst float64
	from, to := math.Asin(math.Sqrt(low)), math.Asin(math.Sqrt(high))
	for i := range nuisanceSteps + 1 { // in steps of equal standard deviation
		root := math.Sin(from + (to-from)*float64(i)/nuisanceSteps)
		p2 := min(root*root, 1-t.delta)
		worst = max(worst, r.chance(p2+t.delta, p2))
	}
	return min(1, worst+3*out)
}

// region is the set of tables with a score of at least z: for each x2 from first on, those with x1 ≥ least[x2−first].
type region struct {
	n1, n2 int
	first  int
	least  []int
	last   int       // largest x1 that is likely enough to look at
	c1, c2 []float64 // logarithms of n1 over x1, from least[0] on; of n2 over x2, from first on
}

// region finds the boundary. A higher x2 never needs a lower x1, which makes delta itself the worst difference that
// the null hypothesis allows (Röhmel and Mansmann, Biometrical Journal 41 (1999) 149–170); where rounding disagrees,
// the region grows.
func (t table) region(z, low, high, out float64) region {
	first, _ := likelyCounts(low, t.n2, out)
	_, end := likelyCounts(high, t.n2, out)
	_, last := likelyCounts(high+t.delta, t.n1, out)
	r := region{n1: t.n1, n2: t.n2, first: first, last: last, least: make([]int, end-first+1)}
	reaches := func(x1, x2 int) bool {
		return table{x1: x1, n1: t.n1, x2: x2, n2: t.n2, delta: t.delta}.score() >= z-1e-9
	}
	x1 := t.n1 + 1
	for below := 0; below < x1; { // bisection: what is below doesn't reach z at the largest x2
		if middle := (below + x1) / 2; reaches(middle, end) {
			x1 = middle
		} else {
			below = middle + 1
		}
	}
	for x2 := end; x2 >= first; x2-- {
		for x1 > 0 && reaches(x1-1, x2) {
			x1--
		}
		r.least[x2-first] = x1
	}
	r.c1 = logChoose(t.n1, r.least[0], last)
	r.c2 = logChoose(t.n2, first, end)
	return r
}

// chance is the region's probability at the given rates.
func (r *region) chance(p1, p2 float64) float64 {
	tail := tails(r.c1, r.least[0], r.n1, p1)
	at := binomial(r.n2, p2)
	var sum float64
	for i, c := range r.c2 {
		if j := r.least[i] - r.least[0]; j < len(tail) {
			sum += at(c, r.first+i) * tail[j]
		}
	}
	return sum
}

// tails returns the chances of x or more, for each x from first on; choose are the logarithms of n over x.
func tails(choose []float64, first, n int, p float64) []float64 {
	out := make([]float64, len(choose))
	at := binomial(n, p)
	var sum float64
	for i := len(choose) - 1; i >= 0; i-- {
		sum += at(choose[i], first+i)
		out[i] = sum
	}
	return out
}

// binomial returns the chance of x of n at rate p, given the logarithm of n over x.
func binomial(n int, p float64) func(logChoose float64, x int) float64 {
	certain := -1
	switch {
	case p <= 0:
		certain = 0
	case p >= 1:
		certain = n
	}
	yes, no := math.Log(p), math.Log1p(-p)
	return func(logChoose float64, x int) float64 {
		switch {
		case certain < 0:
			if log := logChoose + float64(x)*yes + float64(n-x)*no; log > negligible {
				return math.Exp(log)
			}
			return 0
		case x == certain:
			return 1
		}
		return 0
	}
}

// logChoose returns the logarithms of n over x for x from first to last.
func logChoose(n, first, last int) []float64 {
	var out []float64
	all, _ := math.Lgamma(float64(n) + 1)
	for x := first; x <= last; x++ {
		in, _ := math.Lgamma(float64(x) + 1)
		rest, _ := math.Lgamma(float64(n-x) + 1)
		out = append(out, all-in-rest)
	}
	return out
}

// possibleRates returns the rates at which x of n isn't less likely than out allows: a confidence interval of level
// 1 − out at least, by Chernoff's bound P(X/n beyond r) ≤ exp(−n·divergence(r, p)).
func possibleRates(x, n int, out float64) (low, high float64) {
	r, most := float64(x)/float64(n), math.Log(2/out)/float64(n)
	low = edge(r, 0, func(p float64) bool { return divergence(r, p) <= most })
	high = edge(r, 1, func(p float64) bool { return divergence(r, p) <= most })
	return low, high
}

// likelyCounts returns the counts out of n at rate p, but for some that together have a chance of out at most.
func likelyCounts(p float64, n int, out float64) (first, last int) {
	most := math.Log(2/out) / float64(n)
	low := edge(p, 0, func(r float64) bool { return divergence(r, p) <= most })
	high := edge(p, 1, func(r float64) bool { return divergence(r, p) <= most })
	return int(math.Floor(low * float64(n))), int(math.Ceil(high * float64(n)))
}

// edge walks from a point that holds towards limit and returns the last one that does, by bisection.
func edge(from, limit float64, holds func(float64) bool) float64 {
	if holds(limit) {
		return limit
	}
	for range 60 {
		if middle := (from + limit) / 2; holds(middle) {
			from = middle
		} else {
			limit = middle
		}
	}
	return limit
}

// divergence of Kullback and Leibler between the rates r and p; infinite where p excludes r.
func divergence(r, p float64) float64 {
	part := func(a, b float64) float64 {
		switch {
		case a <= 0:
			return 0
		case b <= 0:
			return math.Inf(1)
		}
		return a * math.Log(a/b)
	}
	return part(r, p) + part(1-r, 1-p)
}
