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
// isn't counted, so that caches are as warm as they get. Whoever calls when the time is over is awaited, and counted
// with the time that it takes: workers are busy to the end.
func closedLoop(ctx context.Context, callers int, length time.Duration, call Caller) (table.Figures, error) {
	if _, err := loop(ctx, callers, 1, length/10, call); err != nil {
		return table.Figures{}, err
	}
	return loop(ctx, callers, fewest, length, call)
}

// callTimes are those of one caller.
type callTimes struct {
	total, wait []time.Duration
	elapsed     time.Duration // from the turn's begin to the end of its last call
	err         error
}

func loop(ctx context.Context, callers, atLeast int, length time.Duration, call Caller) (table.Figures, error) {
	times := make([]callTimes, callers)
	var all sync.WaitGroup
	start := time.Now()
	for i := range callers {
		all.Go(func() { times[i] = callUntil(ctx, start, start.Add(length), atLeast, i, call) })
	}
	all.Wait()
	return figures(times)
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
		t.elapsed = end.Sub(start)
		begin = end
	}
	return t
}

func figures(times []callTimes) (f table.Figures, err error) {
	var total, wait []time.Duration
	for _, t := range times {
		if t.err != nil {
			return table.Figures{}, t.err
		}
		total, wait = append(total, t.total...), append(wait, t.wait...)
		f.Rate += float64(len(t.total)) / t.elapsed.Seconds()
	}
	slices.Sort(total)
	slices.Sort(wait)
	f.Count, f.P50, f.P99, f.WaitP99 = len(total), quantile(total, 0.50), quantile(total, 0.99), quantile(wait, 0.99)
	return f, nil
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
