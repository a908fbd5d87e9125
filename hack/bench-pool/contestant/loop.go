package contestant

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// Caller makes one call for the caller of that number (from 0) and returns how long the call waited for a worker,
// where its contestant knows. Calls of different callers run at the same time; each has a context of its own, which
// can be cancelled as that of any real caller can: what this costs belongs to a call.
type Caller func(ctx context.Context, caller int) (wait time.Duration, err error)

// fewest calls that each caller makes, however little time there is: a median of one says nothing.
const fewest = 3

// closedLoop has callers call, each again as soon as it is answered, for as long as given: first a tenth of it that
// isn't counted, so that caches are as warm as they get. Whoever calls when the time is over is awaited. workers is how
// many calls can be served at a time.
func closedLoop(ctx context.Context, callers, workers int, length time.Duration, call Caller) (table.Figures, error) {
	if _, err := loop(ctx, callers, workers, 1, length/10, call); err != nil {
		return table.Figures{}, err
	}
	return loop(ctx, callers, workers, fewest, length, call)
}

// callTimes are those of one caller.
type callTimes struct {
	total, wait []time.Duration
	ends        []time.Duration // since the turn's begin
	err         error
}

func loop(ctx context.Context, callers, workers, atLeast int, length time.Duration, call Caller) (table.Figures, error) {
	times := make([]callTimes, callers)
	var all sync.WaitGroup
	start := time.Now()
	for i := range callers {
		all.Go(func() { times[i] = callUntil(ctx, start, start.Add(length), atLeast, i, call) })
	}
	all.Wait()
	return figures(times, workers)
}

func callUntil(ctx context.Context, start, until time.Time, atLeast, caller int, call Caller) (t callTimes) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for begin := start; begin.Before(until) || len(t.total) < atLeast; {
		wait, err := call(ctx, caller)
		end := time.Now()
		if err != nil {
			t.err = fmt.Errorf("call %d of caller %d: %w", len(t.total)+1, caller, err)
			return t
		}
		t.total, t.wait = append(t.total, end.Sub(begin)), append(t.wait, wait)
		t.ends = append(t.ends, end.Sub(start))
		begin = end
	}
	return t
}

func figures(times []callTimes, workers int) (f table.Figures, err error) {
	var total, wait, ends []time.Duration
	var last []time.Duration // call of each caller
	for _, t := range times {
		if t.err != nil {
			return table.Figures{}, t.err
		}
		total, wait, ends = append(total, t.total...), append(wait, t.wait...), append(ends, t.ends...)
		last = append(last, t.ends[len(t.ends)-1])
	}
	slices.Sort(total)
	slices.Sort(wait)
	slices.Sort(ends)
	return table.Figures{
		Count: len(total), Rate: rate(ends, len(times), workers, slices.Min(last)),
		P50: quantile(total, 0.50), P99: quantile(total, 0.99), WaitP99: quantile(wait, 0.99),
	}, nil
}

// rate is calls a second between two ends of calls: from when the queue is as long as it gets, which is after as many
// calls as there are callers, to when the first caller stopped. Workers that began together end together, again and
// again, so only a multiple of their number is counted: else the figure would depend on where in such a beat the turn
// was cut. When too few calls were made for that, it is all of them by the time of the last.
func rate(ends []time.Duration, callers, workers int, stopped time.Duration) float64 {
	before, _ := slices.BinarySearch(ends, stopped+1) // calls that ended by then
	if beats := (before - callers) / workers; beats > 0 {
		from, to := ends[callers-1], ends[callers-1+beats*workers]
		if to > from {
			return float64(beats*workers) / (to - from).Seconds()
		}
	}
	return float64(len(ends)) / ends[len(ends)-1].Seconds()
}

// quantile is the smallest of the sorted values that at least the share q of all doesn't exceed; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q * float64(len(sorted)))
	if float64(rank) == q*float64(len(sorted)) {
		rank--
	}
	return sorted[min(max(rank, 0), len(sorted)-1)]
}
