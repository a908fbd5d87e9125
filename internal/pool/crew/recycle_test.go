package crew

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

func TestP85_P86_Due(t *testing.T) {
	all := pool.Recycle{MaxRequests: 100, MaxAge: time.Hour, MaxIdle: time.Minute, MaxMemory: 1 << 20}
	fresh := wear{requests: 99, own: 1 << 20, readyAt: ago(59 * time.Minute), idle: ago(0)}
	for name, tc := range map[string]struct {
		recycle pool.Recycle
		change  func(*wear)
		want    string
		next    time.Time
	}{
		"no limits, no end":           {pool.Recycle{}, func(w *wear) { w.requests, w.own, w.readyAt = 1e6, 1<<40, time.Time{} }, "", time.Time{}},
		"not yet":                     {all, func(*wear) {}, "", in(time.Minute)},
		"idle ends before age":        {all, func(w *wear) { w.idle = ago(30 * time.Second) }, "", in(30 * time.Second)},
		"age ends before idle":        {all, func(w *wear) { w.readyAt = ago(time.Hour - time.Second) }, "", in(time.Second)},
		"its last request":            {all, func(w *wear) { w.requests = 100 }, "maxRequests", time.Time{}},
		"P88_up to a fifth earlier":   {all, func(w *wear) { w.random, w.requests = 0.999, 81 }, "maxRequests", time.Time{}},
		"P88_no more than a fifth":    {all, func(w *wear) { w.random, w.requests, w.readyAt = 0.999, 80, t0 }, "", in(time.Minute - time.Minute*999/5000)},
		"as old as it may be":         {all, func(w *wear) { w.readyAt = ago(time.Hour) }, "maxAge", time.Time{}},
		"P88_its age comes earlier":   {all, func(w *wear) { w.random, w.requests = 0.5, 0 }, "maxAge", time.Time{}},
		"idle for as long as it may":  {all, func(w *wear) { w.idle = ago(time.Minute) }, "maxIdle", time.Time{}},
		"more memory than it may":     {all, func(w *wear) { w.own++ }, "maxMemory", time.Time{}},
		"has it without any request":  {all, func(w *wear) { w.own, w.requests = 1<<30, 0 }, "", in(time.Minute)},
		"memory that nobody can read": {pool.Recycle{MaxMemory: 1}, func(w *wear) { w.own = 0 }, "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := fresh
			tc.change(&w)
			got, next := w.due(tc.recycle, t0)
			if got != tc.want || !next.Round(time.Microsecond).Equal(tc.next.Round(time.Microsecond)) {
				t.Errorf("due %q, next %s; want %q, %s", got, next, tc.want, tc.next)
			}
		})
	}
}

func TestP85_SmallLimitsAreExact(t *testing.T) {
	for limit := int64(1); limit <= 1000; limit++ {
		low, high := earlier(limit, 0.999999), earlier(limit, 0)
		if high != limit || low < 1 || low < limit-limit/5 || limit < 5 && low != limit {
			t.Errorf("a limit of %d requests is between %d and %d", limit, low, high)
		}
	}
}

// One that can't be spared serves on; one that has served all that it may doesn't.
func TestP85_P87_CheckinOfTheWorn(t *testing.T) {
	for name, tc := range map[string]struct {
		overflow int
		requests int64
		worn     bool
		want     bool // it goes
	}{
		"as new":                       {0, 7, false, false},
		"worn, and one may be missing": {0, 7, true, true},
		"worn, and none may":           {1, 7, true, false},
		"all its requests":             {1, 10, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := &fakeLine{}
				c, end := newCrew(t, line, func(n int, w *fakeWorker) {
					if n > 2 {
						w.bootTime = time.Hour // no substitute in time
					}
				})
				defer end()
				c.Configure(pool.Limits{Size: 2, Overflow: tc.overflow, Recycle: pool.Recycle{MaxRequests: 10}})
				synctest.Wait()
				m := line.WithdrawIdle(time.Now())
				m.random = 0
				m.requests.Store(tc.requests)
				m.worn.Store(tc.worn)
				c.Checkin(m, "")
				synctest.Wait()
				if s := stats(c); s.Exits["recycled"] == 1 != tc.want {
					t.Errorf("exits %v; want it to go: %v", s.Exits, tc.want)
				}
			})
		})
	}
}

// TestP87_OneAfterTheOther has members of the same age, whose successors take a second to start.
func TestP87_OneAfterTheOther(t *testing.T) {
	for name, tc := range map[string]struct{ overflow, least, most int }{
		"without overflow": {0, 3, 4},
		"with overflow":    {1, 4, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				line := &fakeLine{}
				c, end := newCrew(t, line, func(_ int, w *fakeWorker) { w.bootTime = time.Second })
				defer end()
				c.Configure(pool.Limits{Size: 4, Overflow: tc.overflow, Recycle: pool.Recycle{MaxAge: time.Minute}})
				time.Sleep(2 * time.Second)
				for range 7000 {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					s := stats(c)
					if live := int(s.Spawned - s.Destroyed); line.len() < tc.least || live > tc.most {
						t.Fatalf("%d idle of %d members; want at least %d, at most %d", line.len(), live, tc.least, tc.most)
					}
				}
				if n := stats(c).Exits["recycled"]; n != 4 {
					t.Errorf("%d recycled, want the 4 first", n)
				}
			})
		})
	}
}

func TestP87_NobodyGoesWhileStartsFail(t *testing.T) {
	f := facts{size: 4, overflow: 2, live: 6, worn: 4}
	if p := decide(f, t0); p.recycle != 2 {
		t.Errorf("recycles %d of the two that are beyond size, want both", p.recycle)
	}
	f.failing = true
	if p := decide(f, t0); p.recycle != 0 || p.start != 0 {
		t.Errorf("recycles %d, starts %d while starts fail; want none", p.recycle, p.start)
	}
}

// TestP86_LimitsChangeLive has members that a new limit makes old, and one that another makes young again.
func TestP86_LimitsChangeLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		c, end := newCrew(t, line, func(_ int, w *fakeWorker) { w.bootTime = time.Second })
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(time.Hour)
		busy := line.WithdrawIdle(time.Now())
		c.Configure(pool.Limits{Size: 2, Recycle: pool.Recycle{MaxAge: time.Minute}})
		synctest.Wait()
		if s := stats(c); s.Exits["recycled"] != 1 || !busy.worn.Load() {
			t.Fatalf("exits %v, the busy one worn %v; want the idle one recycled, the busy one to be", s.Exits, busy.worn.Load())
		}
		time.Sleep(2 * time.Second)
		c.Configure(pool.Limits{Size: 2, Recycle: pool.Recycle{MaxAge: 24 * time.Hour}})
		synctest.Wait()
		c.Checkin(busy, "")
		synctest.Wait()
		if s := stats(c); s.Exits["recycled"] != 1 {
			t.Errorf("exits %v; want nothing more once the limit allows for its age", s.Exits)
		}
	})
}

func TestP89_P90_ResetReachesThoseThatStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		c, end := newCrew(t, line, func(_ int, w *fakeWorker) { w.bootTime = time.Second })
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(500 * time.Millisecond)
		c.Reset()
		time.Sleep(10 * time.Second)
		if s := stats(c); s.Exits["recycled"] != 2 || s.Spawned != 4 || line.len() != 2 {
			t.Errorf("exits %v, spawned %d, %d idle; want 2 recycled, 4, 2", s.Exits, s.Spawned, line.len())
		}
	})
}

func TestP86_MemoryIsLookedAtWithoutRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		c, end := newCrew(t, line, func(n int, w *fakeWorker) {
			if n == 1 {
				w.usage = worker.Usage{USS: 60, Swap: 41, PSS: 1000}
			}
		})
		defer end()
		c.Configure(pool.Limits{Size: 1, Recycle: pool.Recycle{MaxMemory: 100}})
		synctest.Wait()
		for m := range line.Resting() {
			m.requests.Store(1)
		}
		time.Sleep(sampleEvery)
		synctest.Wait()
		if s := stats(c); s.Exits["recycled"] != 1 || s.Spawned != 2 {
			t.Errorf("exits %v, spawned %d; want the first one recycled", s.Exits, s.Spawned)
		}
	})
}

// TestP98_NewcomersDontPutReadingsOff has members come one after the other, each before the reading that it asks for.
func TestP98_NewcomersDontPutReadingsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		c, end := newCrew(t, line, func(n int, w *fakeWorker) {
			w.usage.USS = 1 << 20
			if n > 1 {
				w.bootTime = sampleSoon / 2
				time.AfterFunc(sampleSoon*3/4, func() { w.end(worker.ReasonRetired) })
			}
		})
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(2 * sampleSoon)
		synctest.Wait()
		if s := stats(c); s.Spawned < 4 {
			t.Fatalf("%d members came; want more", s.Spawned)
		}
		if first := c.Workers(line.Resting())[0]; first.USS != 1<<20 {
			t.Errorf("nothing was read of %+v after %s", first, 2*sampleSoon)
		}
	})
}

func TestSooner(t *testing.T) {
	times := []time.Time{{}, t0, in(time.Second)}
	for i, a := range times {
		for j, b := range times {
			want := times[max(i, j)]
			if i > 0 && j > 0 {
				want = slices.MinFunc([]time.Time{a, b}, time.Time.Compare)
			}
			if got := sooner(a, b); !got.Equal(want) {
				t.Errorf("sooner(%s, %s) = %s", a, b, got)
			}
		}
	}
}
