package control

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/analysis"
)

// The window over which figures are kept, and its grain. A pool's figures cost at most maxRevisions × grains
// histograms (about 5 KiB each), and only those in which there was traffic.
const (
	window = time.Minute
	grain  = 5 * time.Second
	grains = int(window / grain)
)

// reportsEvery is how often routers report: no figures speak for less.
const reportsEvery = time.Second

// period is the time between two reports of a router, in which what is new in the second was counted.
type period struct{ from, to time.Time }

// until is a period that ends with a report. The router's last one before may be unknown, or of a clock that was ahead.
func until(last, now time.Time) period {
	if last.IsZero() || last.After(now) {
		last = now.Add(-reportsEvery)
	}
	return period{last, now}
}

// number of the grain that a time falls into, since the epoch of time.
func number(t time.Time) int64 { return t.UnixNano() / int64(grain) }

// begins is when a grain does.
func begins(number int64) time.Time { return time.Unix(0, number*int64(grain)) }

// ahead reports whether a time is of a clock that was set back since; by less than a grain it doesn't matter.
func ahead(t, now time.Time) bool { return t.Sub(now) > grain }

// portion is the part of a period that falls into one grain, from and to as fractions of the period.
type portion struct {
	number   int64
	from, to float64
}

// portions divides a period among the grains of the window that ends with it; what is before the window is left out. A
// report that was late so doesn't make all that it tells of look like the last seconds' work.
func (p period) portions() []portion {
	last, length := number(p.to), float64(p.to.Sub(p.from))
	if length <= 0 {
		return []portion{{number: last, from: 0, to: 1}}
	}
	var out []portion
	for n := max(number(p.from), last-int64(grains)+1); n <= last; n++ {
		part := portion{number: n, from: max(float64(begins(n).Sub(p.from))/length, 0), to: 1}
		if n < last {
			part.to = float64(begins(n+1).Sub(p.from)) / length
		}
		out = append(out, part)
	}
	return out
}

// of is the portion's part of a count: those of a whole period add up to it.
func (p portion) of(n uint64) uint64 {
	const exact = 1 << 53 // up to which a float64 has every number
	if n > exact {
		if p.to < 1 {
			return 0
		}
		return n
	}
	return uint64(float64(n)*p.to) - uint64(float64(n)*p.from)
}

func (p portion) ofTime(d time.Duration) time.Duration { return time.Duration(p.of(uint64(d))) }

func (p portion) ofCounts(c analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests:       p.of(c.Requests),
		Errors:         p.of(c.Errors),
		Infrastructure: p.of(c.Infrastructure),
		Timeouts:       p.of(c.Timeouts),
		Shed:           p.of(c.Shed),
		CallerErrors:   p.of(c.CallerErrors),
		UpstreamErrors: p.of(c.UpstreamErrors),
	}
}

// covered is the time that the cells of a window speak for: since counting began, or the oldest cell does, until the last
// report.
func covered(began, reported, now time.Time) time.Duration {
	from, to := begins(number(now)-int64(grains)+1), now
	if began.After(from) {
		from = began
	}
	if reported.Before(to) {
		to = reported
	}
	return max(to.Sub(from), reportsEvery)
}
