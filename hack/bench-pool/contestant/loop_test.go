package contestant

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestClosedLoop(t *testing.T) {
	const callers = 3
	var inside, peak, calls atomic.Int64
	figures, err := closedLoop(t.Context(), callers, 30*time.Millisecond, func(ctx context.Context, _ int) (time.Duration, error) {
		if ctx.Done() == nil {
			t.Error("a call's context can't be cancelled")
		}
		peak.Store(max(peak.Load(), inside.Add(1)))
		defer inside.Add(-1)
		calls.Add(1)
		time.Sleep(2 * time.Millisecond)
		return time.Millisecond, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if peak.Load() > callers {
		t.Errorf("%d calls at a time, of %d callers", peak.Load(), callers)
	}
	if figures.Count < callers*fewest || int64(figures.Count) >= calls.Load() {
		t.Errorf("%d of %d calls counted; those that warm up mustn't be, each caller's %d at least must", figures.Count, calls.Load(), fewest)
	}
	if figures.P50 < 2*time.Millisecond || figures.P99 < figures.P50 || figures.WaitP99 != time.Millisecond {
		t.Errorf("p50 %s, p99 %s, wait %s of calls that take 2 ms and wait 1 ms", figures.P50, figures.P99, figures.WaitP99)
	}
	if most := callers / 0.002; figures.Rate <= 0 || figures.Rate > most {
		t.Errorf("%.0f calls a second of callers who can have %.0f", figures.Rate, most)
	}
}

// TestRate: callers that stop at different times; the rate is the sum of their own.
func TestRate(t *testing.T) {
	calls := func(n int) []time.Duration { return make([]time.Duration, n) }
	f, err := figures([]callTimes{{total: calls(10), elapsed: time.Second}, {total: calls(10), elapsed: 2 * time.Second}})
	if err != nil || f.Count != 20 || f.Rate != 15 {
		t.Errorf("%+v, %v; want 20 calls, 15 a second", f, err)
	}
}

// TestClosedLoopOfSlowCalls: a turn that is shorter than a call has some all the same, and counts their whole time.
func TestClosedLoopOfSlowCalls(t *testing.T) {
	figures, err := loop(t.Context(), 2, fewest, time.Millisecond, func(context.Context, int) (time.Duration, error) {
		time.Sleep(5 * time.Millisecond)
		return 0, nil
	})
	if err != nil || figures.Count != 2*fewest || figures.Rate > 2/0.005 {
		t.Errorf("%+v, %v; want %d calls, at most 400 a second", figures, err, 2*fewest)
	}
}

func TestClosedLoopFails(t *testing.T) {
	broken := errors.New("broken")
	_, err := closedLoop(t.Context(), 4, time.Millisecond, func(_ context.Context, caller int) (time.Duration, error) {
		if caller == 2 {
			return 0, broken
		}
		return 0, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("the round ended with %v", err)
	}
}

func TestQuantile(t *testing.T) {
	of := func(n int) (d []time.Duration) {
		for i := range n {
			d = append(d, time.Duration(i+1))
		}
		return d
	}
	for name, tc := range map[string]struct {
		sorted []time.Duration
		q      float64
		want   time.Duration
	}{
		"none":          {nil, 0.5, 0},
		"one":           {of(1), 0.99, 1},
		"p50 of even":   {of(10), 0.5, 5},
		"p50 of odd":    {of(11), 0.5, 6},
		"p99 of 100":    {of(100), 0.99, 99},
		"p99 of 1000":   {of(1000), 0.99, 990},
		"p99 of few":    {of(5), 0.99, 5},
		"the very last": {of(5), 1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(tc.sorted, tc.q); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
