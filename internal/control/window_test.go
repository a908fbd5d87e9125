package control

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// perSecond is what a revision's figures say of its requests, CPU time and busy workers, each per second.
func perSecond(f Figures) (requests, cpu, busy float64) {
	s := f.Span.Seconds()
	return float64(f.Requests) / s, f.CPU.Seconds() / s, f.Busy.Seconds() / s
}

// TestRatesAreTheTraffic: 100 requests a second, each of which keeps a worker busy for 10 ms and takes 5 ms of CPU, are that
// whenever one looks, and whatever happened before.
func TestRatesAreTheTraffic(t *testing.T) {
	type step struct {
		pass    time.Duration // without a report
		seconds int           // of a report each, afterwards
	}
	for name, steps := range map[string][]step{
		"right after the start":           {{0, 1}},
		"after a few seconds":             {{0, 7}},
		"after a minute":                  {{0, 61}},
		"later, in mid-grain":             {{0, 123}},
		"later, just before a grain ends": {{0, 184}},
		"a report was late":               {{0, 90}, {20 * time.Second, 1}},
		"reports were away for long":      {{0, 90}, {10 * time.Minute, 1}},
		"and have come again":             {{0, 90}, {10 * time.Minute, 30}},
		"the clock went back":             {{0, 90}, {-time.Hour, 12}},
		"by a moment":                     {{0, 90}, {-10 * time.Millisecond, 12}},
		"an hour without a report":        {{0, 90}, {time.Hour, 12}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			m := b.join("p", "i")
			served, at := 0.0, b.watch.Now()
			report := func() {
				n := uint64(math.Round(served))
				r := withWorkers(counters(n, 0, 0), &controlpb.RevisionWorkers{Revision: counted, Live: 1, Spawned: 1, CpuMs: 5 * n})
				r.Revisions[0].Service = &controlpb.Histogram{Buckets: []uint32{1}, Counts: []uint64{n}, SumUs: 10_000 * n}
				m.reports(r)
			}
			report()
			for _, s := range steps {
				b.watch.pass(s.pass)
				for range s.seconds {
					b.watch.pass(time.Second)
					if d := b.watch.Now().Sub(at); d > 0 && s.pass >= 0 {
						served += 100 * d.Seconds()
					} else {
						served += 100 // the clock's leap took no time
					}
					at, s.pass = b.watch.Now(), 0
					report()
				}
			}
			f := b.View(pool).Figures[counted]
			requests, cpu, busy := perSecond(f)
			if math.Abs(requests-100) > 1.01 || math.Abs(cpu-0.5) > 0.006 || math.Abs(busy-1) > 0.011 {
				t.Errorf("%.2f requests, %.3f s of CPU, %.3f busy workers a second, of %v; want 100, 0.5 and 1", requests, cpu, busy, f.Span)
			}
			if f.Span > window {
				t.Errorf("figures of %v, want a minute at most", f.Span)
			}
		})
	}
}

// What ended isn't the rate of now: it goes down as the window moves on, and begins anew after it.
func TestRatesOfTrafficThatEnds(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	n := uint64(0)
	m.reports(counters(0, 0, 0))
	pass := func(seconds int, each uint64) {
		for range seconds {
			b.watch.pass(time.Second)
			n += each
			m.reports(counters(n, 0, 0))
		}
	}
	rate := func() string {
		f := b.View(pool).Figures[counted]
		if f.Requests == 0 {
			return "none"
		}
		return fmt.Sprintf("%.0f", float64(f.Requests)/f.Span.Seconds())
	}
	var got []string
	for _, s := range []struct {
		seconds int
		each    uint64
	}{{65, 100}, {30, 0}, {30, 0}, {2, 100}} {
		pass(s.seconds, s.each)
		got = append(got, rate())
	}
	if diff := cmp.Diff([]string{"100", "45", "none", "100"}, got); diff != "" {
		t.Errorf("requests per second: full, half a minute after the end, a minute after it, and once more (-want +got):\n%s", diff)
	}
}

func TestPortionsAddUp(t *testing.T) {
	t0 := time.Unix(1_800_000_000, 0) // the beginning of a grain
	for name, tc := range map[string]struct {
		in   period
		n    uint64
		want []uint64
	}{
		"within a grain":                  {period{t0.Add(time.Second), t0.Add(2 * time.Second)}, 7, []uint64{7}},
		"over a grain's edge":             {period{t0.Add(4 * time.Second), t0.Add(6 * time.Second)}, 7, []uint64{3, 4}},
		"no time":                         {period{t0, t0}, 7, []uint64{7}},
		"longer than the window":          {period{t0.Add(-10 * time.Minute), t0.Add(time.Second)}, 6010, []uint64{50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 10}},
		"more than can be":                {period{t0.Add(4 * time.Second), t0.Add(6 * time.Second)}, math.MaxUint64, []uint64{0, math.MaxUint64}},
		"the last report's clock was off": {until(t0.Add(time.Hour), t0.Add(time.Second)), 7, []uint64{7}},
		"there was no last report":        {until(time.Time{}, t0.Add(time.Second)), 7, []uint64{7}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []uint64
			for _, p := range tc.in.portions() {
				got = append(got, p.of(tc.n))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
