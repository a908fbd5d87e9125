package status

import (
	"math"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
)

// served are the requests that a worker answered.
func (f *Figures) served() uint64 { return f.Executed() + f.UpstreamErrors }

// perSecond is a rate over the time that the figures speak for.
func (f *Figures) perSecond(n float64) float64 {
	if f.Span <= 0 {
		return 0
	}
	return n / f.Span.Seconds()
}

// utilization is the share of what the workers can serve at the same time that requests took, in whole percent; empty
// without workers. A request counts when it ends, with all its time: so it is at most 100.
func (f *Figures) utilization() string {
	if f.Places == 0 || f.Span <= 0 {
		return ""
	}
	available := float64(f.Places) * f.Span.Seconds()
	return strconv.Itoa(int(math.Round(min(f.Busy.Seconds()/available, 1) * 100)))
}

// mebibytes keeps three significant digits; nil: none.
func mebibytes(bytes uint64) *resource.Quantity {
	if bytes == 0 {
		return nil
	}
	return resource.NewQuantity(max(significant(float64(bytes)/(1<<20)), 1)<<20, resource.BinarySI)
}

// cores is what was used over the span of the figures, with three significant digits, in thousandths; nil: nothing.
func (f *Figures) cores() *resource.Quantity {
	milli := significant(f.perSecond(f.CPU.Seconds()) * 1000)
	if milli == 0 {
		return nil
	}
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}

// significant is a whole number with at most three digits that aren't zero.
func significant(n float64) int64 {
	grain := math.Pow(10, max(math.Floor(math.Log10(max(n, 1)))-2, 0))
	return int64(math.Round(n/grain) * grain)
}
