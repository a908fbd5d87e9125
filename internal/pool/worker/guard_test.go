package worker

import (
	"math"
	"testing"
	"time"
)

func TestP76_WhenTheGuardActs(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		fill  fill
		end   bool
		again time.Duration
	}{
		"far":                 {fill{used: 100 * mib, limit: 8192 * mib}, false, latestLook},
		"nearer":              {fill{used: 276 * mib, limit: 512 * mib}, false, 100 * time.Millisecond},
		"at the line":         {fill{used: 480 * mib, limit: 512 * mib}, false, soonestLook},
		"over it":             {fill{used: 480*mib + 1, limit: 512 * mib}, true, soonestLook},
		"over, one is ending": {fill{used: 500 * mib, limit: 512 * mib, settling: true}, false, soonestLook},
		"a twentieth is free": {fill{used: 7783 * mib, limit: 8192 * mib}, true, soonestLook},
		"small":               {fill{used: 47 * mib, limit: 64 * mib}, false, soonestLook},
		"small and over":      {fill{used: 49 * mib, limit: 64 * mib}, true, soonestLook},
		"no limit any more":   {fill{used: 8192 * mib}, false, latestLook},
	} {
		t.Run(name, func(t *testing.T) {
			end, again := tc.fill.judge()
			if end != tc.end || again.Round(time.Millisecond) != tc.again {
				t.Errorf("judged %v, again in %s; want %v, %s", end, again, tc.end, tc.again)
			}
		})
	}
}

func TestP76_TheLargestEnds(t *testing.T) {
	sizes := map[int]uint64{11: 100, 12: 300, 13: 300, 14: 0}
	var all []*process
	for pid := range sizes {
		all = append(all, &process{pid: pid})
	}
	own := func(p *process) uint64 { return sizes[p.pid] }
	if p, n, sum := largest(all, own); p == nil || p.pid != 13 || n != 300 || sum != 700 {
		t.Errorf("the largest is %v with %d of %d; want 13, the younger of two, with 300 of 700", p, n, sum)
	}
	if p, _, _ := largest(all, func(*process) uint64 { return 0 }); p != nil {
		t.Errorf("process %d is the largest of those that have nothing", p.pid)
	}
}

func TestAnonymousMemory(t *testing.T) {
	status := "Name:\tpython3\nVmData:\t  900 kB\nVmRSS:\t   700 kB\nRssAnon:\t     500 kB\nRssFile:\t     200 kB\nVmSwap:\t      40 kB\n"
	if got, want := anonymous([]byte(status)), uint64(540<<10); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

func TestP76_VictimScore(t *testing.T) {
	for own, want := range map[int]int{-998: 900, 0: 900, 850: 950, 950: 1000, 1000: 1000} {
		if got := victimScore(own); got != want {
			t.Errorf("with a supervisor at %d a worker is at %d, want %d", own, got, want)
		}
	}
}

func TestDataLimit(t *testing.T) {
	for _, tc := range []struct {
		spec Spec
		want uint64
	}{
		{Spec{}, 0},
		{Spec{Memory: 100}, 200 + threadStack},
		{Spec{Memory: 100, Concurrency: 8}, 200 + 8*threadStack},
		{Spec{Concurrency: 8}, 0},
	} {
		if got := tc.spec.dataLimit(); got != tc.want {
			t.Errorf("%d bytes at a concurrency of %d: %d, want %d", tc.spec.Memory, tc.spec.Concurrency, got, tc.want)
		}
	}
	if highWater(math.MaxUint64) < math.MaxUint64/2 {
		t.Error("the line of a huge limit overflows")
	}
}
