package table

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for name, tc := range map[string]struct {
		values []float64
		want   float64
	}{
		"one":             {[]float64{3}, 3},
		"odd, unsorted":   {[]float64{9, 1, 5}, 5},
		"even":            {[]float64{4, 1, 2, 100}, 3},
		"one is far away": {[]float64{1, 1, 1, 1, 1e9}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), tc.values...)
			if got := median(tc.values); got != tc.want {
				t.Errorf("median(%v) = %v, want %v", tc.values, got, tc.want)
			}
			for i := range before {
				if tc.values[i] != before[i] {
					t.Fatalf("the values were reordered: %v", tc.values)
				}
			}
		})
	}
}

// took makes rounds with these medians, in µs.
func took(us ...int) (rounds []Figures) {
	for _, v := range us {
		rounds = append(rounds, Figures{P50: time.Duration(v) * time.Microsecond})
	}
	return rounds
}

// served makes rounds with so many calls a second.
func served(counts ...int) (rounds []Figures) {
	for _, n := range counts {
		rounds = append(rounds, Figures{Rate: float64(n)})
	}
	return rounds
}

// TestRatioOfTheSameRounds: the machine is ten times slower in the second half. Each round's ratio is 2; that of the
// medians of all rounds would be another.
func TestRatioOfTheSameRounds(t *testing.T) {
	w := alone("200 B")
	r := Results{
		{V2, w}:       took(20, 20, 200, 200, 200),
		{PingPong, w}: took(10, 10, 100, 100), // one round is missing
	}
	got, err := r.ratio(V2, PingPong, w, median50)
	if err != nil || got != 2 {
		t.Errorf("ratio = %v, %v; want 2", got, err)
	}
	if _, err := r.ratio(V2, V1, w, median50); err == nil {
		t.Error("a ratio without rounds has a value")
	}
	if _, err := r.ratio(V2, PingPong, alone("4 KB"), median50); err == nil {
		t.Error("a ratio of another workload has a value")
	}
}

func TestValue(t *testing.T) {
	w := together("4 KB")
	r := Results{{V2, w}: {{Rate: 100}, {Rate: 10}, {Rate: 150}}}
	if got, err := r.value(V2, w, perSecond); err != nil || got != 100 {
		t.Errorf("value = %v, %v; want 100", got, err)
	}
	if _, err := r.value(V1, w, perSecond); err == nil {
		t.Error("who wasn't measured has a value")
	}
}
