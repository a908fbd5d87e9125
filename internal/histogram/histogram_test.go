package histogram_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/histogram"
)

const longest = 1<<37*time.Microsecond - time.Microsecond // what the last bucket holds

func anyDuration() *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		bits := rapid.IntRange(0, 37).Draw(t, "bits") // every scale is as likely
		return time.Duration(rapid.Int64Range(0, 1<<bits-1).Draw(t, "µs")) * time.Microsecond
	})
}

func TestP97_BucketEdges(t *testing.T) {
	for name, c := range map[string]struct {
		d    time.Duration
		want int
	}{
		"negative":                 {-time.Second, 0},
		"nothing":                  {0, 0},
		"below a microsecond":      {999, 0},
		"one microsecond":          {time.Microsecond, 1},
		"last of one each":         {15 * time.Microsecond, 15},
		"first of the doubling":    {16 * time.Microsecond, 16},
		"before a doubling's end":  {31 * time.Microsecond, 31},
		"two share a bucket":       {33 * time.Microsecond, 32},
		"the last bucket":          {longest, histogram.Buckets - 1},
		"longer than the range":    {longest + time.Microsecond, histogram.Buckets - 1},
		"the longest that Go says": {1<<63 - 1, histogram.Buckets - 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := histogram.Bucket(c.d); got != c.want {
				t.Errorf("Bucket(%v) = %d, want %d", c.d, got, c.want)
			}
		})
	}
}

func TestP97_BucketsRiseWithTheDuration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyDuration().Draw(t, "a"), anyDuration().Draw(t, "b")
		if a > b {
			a, b = b, a
		}
		if histogram.Bucket(a) > histogram.Bucket(b) {
			t.Errorf("%v is in bucket %d, %v in %d", a, histogram.Bucket(a), b, histogram.Bucket(b))
		}
	})
}

// Each quantile is within half a bucket of what sorting says: 3.2 %, or half a microsecond at the low end.
func TestP97_QuantilesAgainstSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(anyDuration(), 1, 200).Draw(t, "durations")
		q := rapid.SampledFrom([]float64{0.001, 0.25, 0.5, 0.75, 1}).Draw(t, "q")
		var h histogram.Histogram
		for _, d := range durations {
			h.Observe(d)
		}
		slices.Sort(durations)
		rank := int(q * float64(len(durations)))
		if float64(rank) < q*float64(len(durations)) {
			rank++
		}
		want, got := durations[rank-1], h.Quantile(q)
		allowed := max(want*32/1000, time.Microsecond/2)
		if diff := (got - want).Abs(); diff > allowed {
			t.Errorf("Quantile(%v) = %v, sorting says %v", q, got, want)
		}
	})
}

// Merging is what makes a fleet's figures: parts added up equal the whole, in any order.
func TestP97_MergeEqualsTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOf(anyDuration()), 0, 5).Draw(t, "parts")
		var whole, merged, reversed histogram.Histogram
		histograms := make([]histogram.Histogram, len(parts))
		for i, part := range parts {
			for _, d := range part {
				whole.Observe(d)
				histograms[i].Observe(d)
			}
		}
		for i := range histograms {
			merged.Add(&histograms[i])
			reversed.Add(&histograms[len(histograms)-1-i])
		}
		if whole != merged || whole != reversed {
			t.Error(cmp.Diff(whole, merged), cmp.Diff(whole, reversed))
		}
	})
}

func TestP97_EmptyAndMissing(t *testing.T) {
	var missing *histogram.Histogram
	var empty histogram.Histogram
	empty.Add(missing)
	if got := [2]time.Duration{missing.Quantile(0.5), empty.Quantile(0.5)}; got != [2]time.Duration{} || empty.Count != 0 {
		t.Errorf("quantiles of nothing are %v, count %d", got, empty.Count)
	}
}

// A histogram rebuilt from its buckets, as they come over the wire, has the same quantiles.
func TestP97_RebuiltFromBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h, rebuilt histogram.Histogram
		for _, d := range rapid.SliceOf(anyDuration()).Draw(t, "durations") {
			h.Observe(d)
		}
		for i, n := range h.Counts {
			if n > 0 && !rebuilt.AddBucket(i, n) {
				t.Fatalf("bucket %d was refused", i)
			}
		}
		if h.Counts != rebuilt.Counts || h.Count != rebuilt.Count || h.Quantile(0.9) != rebuilt.Quantile(0.9) {
			t.Error(cmp.Diff(h, rebuilt))
		}
	})
}

func TestP97_BucketOutOfRangeIsRefused(t *testing.T) {
	for _, i := range []int{-1, histogram.Buckets, 1 << 30} {
		var h histogram.Histogram
		if h.AddBucket(i, 1) || h.Count != 0 {
			t.Errorf("AddBucket(%d) was taken", i)
		}
	}
}
