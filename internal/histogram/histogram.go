// Package histogram counts durations in log-linear buckets that merge by addition: 16 buckets for each doubling,
// so that a quantile is within 3.2 % of the truth (half a bucket's width), from 1 µs to 38 hours.
package histogram

import (
	"math/bits"
	"time"
)

const (
	subBits = 4 // 2^subBits buckets for each power of two
	sub     = 1 << subBits
	// Buckets is the number of buckets: the first 16 hold one µs each.
	Buckets = (36-subBits+1)*sub + sub
)

// Histogram holds counts by bucket. The zero value is ready; not safe for concurrent use.
type Histogram struct {
	Counts [Buckets]uint64
	Count  uint64
	SumUS  uint64 // µs
}

// Bucket returns the index of the bucket that holds d; durations outside the range go to the ends.
func Bucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < sub {
		return int(us)
	}
	exp := bits.Len64(us) - 1 - subBits
	return min(exp*sub+int(us>>exp), Buckets-1)
}

// bounds returns a bucket's lower and upper edge in µs.
func bounds(i int) (lower, upper uint64) {
	if i < sub {
		return uint64(i), uint64(i) + 1
	}
	exp := i/sub - 1
	m := uint64(i - exp*sub)
	return m << exp, (m + 1) << exp
}

// Observe counts d once.
func (h *Histogram) Observe(d time.Duration) {
	h.Counts[Bucket(d)]++
	h.Count++
	h.SumUS += uint64(max(d, 0) / time.Microsecond)
}

// Add counts everything in o as well.
func (h *Histogram) Add(o *Histogram) {
	if o == nil {
		return
	}
	for i, c := range o.Counts {
		h.Counts[i] += c
	}
	h.Count += o.Count
	h.SumUS += o.SumUS
}

// AddBucket counts n durations of bucket i, as they come over the wire; an index out of range is ignored and
// reported as false.
func (h *Histogram) AddBucket(i int, n uint64) bool {
	if i < 0 || i >= Buckets {
		return false
	}
	h.Counts[i] += n
	h.Count += n
	return true
}

// Quantile returns the middle of the bucket in which the q-th part (0 < q ≤ 1) of the observations ends;
// 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h == nil || h.Count == 0 {
		return 0
	}
	rank := uint64(q * float64(h.Count))
	if float64(rank) < q*float64(h.Count) || rank == 0 {
		rank++
	}
	var seen uint64
	for i, c := range h.Counts {
		if seen += c; seen >= rank {
			lower, upper := bounds(i)
			return time.Duration(lower+upper) * time.Microsecond / 2
		}
	}
	return 0
}
