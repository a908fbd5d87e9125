// Package table turns what rounds of a benchmark have shown into rows with their targets, tables of figures and lines
// of JSON. It measures nothing.
package table

import (
	"fmt"
	"slices"
	"time"
)

// Figures are what one round of calls has shown. Durations are nanoseconds in JSON.
type Figures struct {
	Count int `json:"count"`
	// Rate is calls a second while all callers call.
	Rate    float64       `json:"rate"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	WaitP99 time.Duration `json:"waitP99,omitempty"` // for a worker; 0 where the contestant doesn't know
	// Private is the median of what each worker owns of its memory after a call, in bytes; only of rounds of starts.
	Private float64 `json:"private,omitempty"`
}

// Key says whose rounds, of what.
type Key struct {
	Contestant string
	Workload   Workload
}

// Workload is one kind of load.
type Workload struct {
	Command string // echo, sleep, burn or start
	Size    string // of the payload, one of contestant.Sizes
	Callers int
	Workers int
	Pinned  bool // all processes on one core
	// Beside names the only peer of rounds that were taken apart from the others, against V2; else "".
	Beside string
}

// Results hold the rounds of each key, in their order. The rounds of one workload are interleaved: those with the
// same index were taken within seconds of each other, and only those are compared.
type Results map[Key][]Figures

// metric is what of a round is compared.
type metric func(Figures) float64

func median50(f Figures) float64  { return microseconds(f.P50) }
func perSecond(f Figures) float64 { return f.Rate }
func waitP99(f Figures) float64   { return microseconds(f.WaitP99) / 1000 } // ms
func startP50(f Figures) float64  { return microseconds(f.P50) / 1000 }     // ms
func private(f Figures) float64   { return f.Private / 1e6 }                // MB

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// value is the median of a metric over the rounds of a contestant.
func (r Results) value(who string, w Workload, m metric) (float64, error) {
	rounds := r[Key{who, w}]
	if len(rounds) == 0 {
		return 0, fmt.Errorf("%s wasn't measured", who)
	}
	values := make([]float64, len(rounds))
	for i, f := range rounds {
		values[i] = m(f)
	}
	return median(values), nil
}

// ratio is the median of what a metric of one contestant is over that of another, round by round: what slows the
// machine for some seconds slows both.
func (r Results) ratio(over, under string, w Workload, m metric) (float64, error) {
	return r.ratioOf(Key{over, w}, Key{under, w}, m)
}

func (r Results) ratioOf(over, under Key, m metric) (float64, error) {
	pairs := min(len(r[over]), len(r[under]))
	var ratios []float64
	for i := range pairs {
		if divisor := m(r[under][i]); divisor > 0 {
			ratios = append(ratios, m(r[over][i])/divisor)
		}
	}
	if len(ratios) == 0 {
		return 0, fmt.Errorf("%s and %s weren't measured in the same rounds", over.Contestant, under.Contestant)
	}
	return median(ratios), nil
}

// median of at least one value; of an even number the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
