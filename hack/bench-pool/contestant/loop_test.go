package contestant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClosedLoop(t *testing.T) {
	const callers = 3
	var inside, peak, calls atomic.Int64
	figures, err := closedLoop(t.Context(), callers, callers, 30*time.Millisecond, func(ctx context.Context, _ int) (time.Duration, error) {
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

// beat is the ends of calls of so many workers that each take 10 ms and began at the same time.
func beat(workers, calls int) (ends []time.Duration) {
	for i := range calls {
		ends = append(ends, time.Duration(i/workers+1)*10*time.Millisecond)
	}
	return ends
}

// rates are what rate has to be; peers.py has to agree.
var rates = map[string]struct {
	ends             []time.Duration
	callers, workers int
	stopped          time.Duration
	want             float64
}{
	"a worker":                      {beat(1, 60), 8, 1, 520 * time.Millisecond, 100},
	"workers in step":               {beat(4, 240), 8, 4, 595 * time.Millisecond, 400},
	"cut in the middle of a beat":   {beat(4, 238), 8, 4, 600 * time.Millisecond, 400},
	"the last callers have no peer": {append(beat(4, 40), 500*time.Millisecond), 8, 4, 100 * time.Millisecond, 400},
	"one caller":                    {beat(1, 10), 1, 4, 100 * time.Millisecond, 100},
	"too few":                       {beat(4, 8), 8, 4, 20 * time.Millisecond, 400},
}

func TestRate(t *testing.T) {
	for name, tc := range rates {
		t.Run(name, func(t *testing.T) {
			if got := rate(tc.ends, tc.callers, tc.workers, tc.stopped); math.Abs(got-tc.want) > 1e-6 {
				t.Errorf("%v calls a second, want %v", got, tc.want)
			}
		})
	}
}

func TestRateOfPeers(t *testing.T) {
	for name, tc := range rates {
		t.Run(name, func(t *testing.T) {
			ends := strings.ReplaceAll(fmt.Sprintf("%d", tc.ends), " ", ",")
			code := fmt.Sprintf("import peers; print(peers.rate(%s, %d, %d, %d))", ends, tc.callers, tc.workers, tc.stopped)
			python := exec.Command("python3", "-B", "-c", code)
			python.Dir = filepath.Join("..", "python")
			out, err := python.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err != nil || math.Abs(got-tc.want) > 1e-6 {
				t.Errorf("%s calls a second, %v; want %v", out, err, tc.want)
			}
		})
	}
}

// TestClosedLoopOfSlowCalls: a turn that is shorter than a call has some all the same, and counts their whole time.
func TestClosedLoopOfSlowCalls(t *testing.T) {
	figures, err := loop(t.Context(), 2, 2, fewest, time.Millisecond, func(context.Context, int) (time.Duration, error) {
		time.Sleep(5 * time.Millisecond)
		return 0, nil
	})
	if err != nil || figures.Count != 2*fewest || figures.Rate > 2/0.005 {
		t.Errorf("%+v, %v; want %d calls, at most 400 a second", figures, err, 2*fewest)
	}
}

func TestClosedLoopFails(t *testing.T) {
	broken := errors.New("broken")
	_, err := closedLoop(t.Context(), 4, 2, time.Millisecond, func(_ context.Context, caller int) (time.Duration, error) {
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
