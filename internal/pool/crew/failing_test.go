package crew

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// world is what the workers of a test share: a port that one of them can have, processors, a number of starts.
type world struct {
	mu      sync.Mutex
	workers []*shiftless // all that were started; guarded by mu
	port    *shiftless   // who has it; guarded by mu
}

// shiftless is a worker whose start goes as the test says.
type shiftless struct {
	fakeWorker
	n      int
	served atomic.Uint64
	start  func(ctx context.Context, w *shiftless) error
}

func (w *shiftless) Ready(ctx context.Context) error { return w.start(ctx, w) }
func (w *shiftless) Served() uint64                  { return w.served.Load() }

// crew of such workers; it must be called in a synctest bubble, as newCrew.
func (o *world) crew(t *testing.T, start func(ctx context.Context, w *shiftless) error) (c *Crew, line *fakeLine, end func()) {
	t.Helper()
	line = &fakeLine{}
	c, end = newCrew(t, line, nil)
	c.launch = func() (Worker, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		w := &shiftless{start: start, n: len(o.workers) + 1}
		w.exited = make(chan struct{})
		o.workers = append(o.workers, w)
		return w, nil
	}
	return c, line, end
}

// bind takes the port, unless it is taken by one that lives. The failure differs each time, as an address in it may.
func (o *world) bind(_ context.Context, w *shiftless) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.port != nil {
		if _, ended := o.port.Ending(); !ended && !o.port.ended {
			return &worker.BootError{Message: fmt.Sprintf("OSError: address in use, seen by %d", w.n), Traceback: "m.py, line 3"}
		}
	}
	o.port = w
	return nil
}

func (w *shiftless) serve() { w.served.Add(1) }

// first is the worker that was started first.
func (o *world) first() *shiftless {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.workers[0]
}

// serve has all members that are up serve a request, each time.
func (o *world) serve() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.workers {
		w.serve()
	}
}

// fewStarts fails the test when there are more starts in a span than back-off allows.
func fewStarts(t *testing.T, c *Crew, span time.Duration, during func()) {
	t.Helper()
	before := stats(c).Spawned
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		during()
	}
	if n := stats(c).Spawned - before; n > 12+uint64(span/(maxDelay/2)) {
		t.Errorf("%d starts within %s", n, span)
	}
}

// TestP80_OneOldSuccessForgivesNothing: one worker has what the others can't have; it serves all the time, and looks as if
// starts worked.
func TestP80_OneOldSuccessForgivesNothing(t *testing.T) {
	for name, limits := range map[string]pool.Limits{
		"size":     {Size: 4},
		"overflow": {Size: 1, Overflow: 3},
		"a substitute in recycling": {
			Size: 1, Overflow: 1, Recycle: pool.Recycle{MaxAge: time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o world
				c, line, end := o.crew(t, o.bind)
				defer end()
				if limits.Recycle == (pool.Recycle{}) {
					line.wait(9)
				}
				c.Configure(limits)
				time.Sleep(time.Minute)
				for range 20 { // a state all the time, with the reason
					fewStarts(t, c, 30*time.Second, o.serve)
					if s := stats(c); s.Boot == nil || !strings.Contains(s.Boot.Traceback, "line 3") || s.Ready > 1 {
						t.Fatalf("boot %+v; want the traceback for as long as starts fail", s.Boot)
					}
				}
			})
		})
	}
}

// TestP80_RestartsFailAfterAGoodLife: the first worker starts and serves; no start after it works.
func TestP80_RestartsFailAfterAGoodLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, _, end := o.crew(t, func(_ context.Context, w *shiftless) error {
			if w.n > 2 {
				return &worker.BootError{Message: "no such file"}
			}
			return nil
		})
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(time.Minute)
		o.serve()
		o.first().end("") // a crash
		fewStarts(t, c, 5*time.Minute, o.serve)
		if s := stats(c); s.Boot == nil || s.Boot.Message != "no such file" {
			t.Errorf("boot %+v", s.Boot)
		}
	})
}

// TestP80_DiesRightAfterReady: as the first, but that the others notice only once they are ready.
func TestP80_DiesRightAfterReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, _, end := o.crew(t, func(_ context.Context, w *shiftless) error {
			if w.n > 1 {
				time.AfterFunc(time.Second, func() { w.end("") })
			}
			return nil
		})
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(time.Minute)
		fewStarts(t, c, 5*time.Minute, o.first().serve)
		if s := stats(c); s.Boot == nil || !s.Boot.Crashing {
			t.Errorf("boot %+v; want the crash loop as a state", s.Boot)
		}
	})
}

// TestP80_ServesAndDies: they are of use, so others take their places at once; that all of them die is a state.
func TestP80_ServesAndDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, _, end := o.crew(t, func(_ context.Context, w *shiftless) error {
			time.AfterFunc(time.Second, func() { w.end("") })
			w.serve()
			return nil
		})
		defer end()
		c.Configure(pool.Limits{Size: 2})
		time.Sleep(time.Minute + time.Second/2)
		if s := stats(c); s.Boot == nil || !s.Boot.Crashing || s.Starting > 0 {
			t.Errorf("boot %+v with %d starting; want the crash loop as a state, and no back-off", s.Boot, s.Starting)
		}
	})
}

// TestP80_EveryThirdStartWorks: the crew gets complete, and then nothing is reported.
func TestP80_EveryThirdStartWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, line, end := o.crew(t, func(_ context.Context, w *shiftless) error {
			if w.n%3 != 0 {
				return &worker.BootError{Message: "unlucky"}
			}
			return nil
		})
		defer end()
		c.Configure(pool.Limits{Size: 8})
		begin := time.Now()
		for line.len() < 8 {
			if time.Sleep(time.Second); time.Since(begin) > 10*time.Minute {
				t.Fatalf("%d of 8 are ready", line.len())
			}
		}
		if s := stats(c); s.Boot != nil || s.Startup != nil {
			t.Errorf("boot %+v, startup %+v though all are ready", s.Boot, s.Startup)
		}
	})
}

// TestP80_NobodyMissesIt: what failed was overflow that no request waits for any more, or members beyond a lower size.
func TestP80_NobodyMissesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, line, end := o.crew(t, o.bind)
		defer end()
		line.wait(9)
		c.Configure(pool.Limits{Size: 1, Overflow: 3})
		time.Sleep(time.Minute)
		line.wait(0)
		time.Sleep(2 * forgetAfter)
		if s := stats(c); s.Boot != nil {
			t.Errorf("boot %+v though nothing is missing for long", s.Boot)
		}
	})
}

// TestP2_NoRetryStorm: each start takes two seconds of one of two processors, and may take five.
func TestP2_NoRetryStorm(t *testing.T) {
	for name, limits := range map[string]pool.Limits{
		"size":     {Size: 8, Start: 5 * time.Second},
		"overflow": {Size: 1, Overflow: 7, Start: 5 * time.Second},
		"lazy":     {Size: 8, Lazy: true, Start: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o world
				var running atomic.Int64
				c, line, end := o.crew(t, func(ctx context.Context, _ *shiftless) error {
					return compute(ctx, &running, 2*time.Second, limits.Start)
				})
				defer end()
				line.wait(99)
				c.Configure(limits)
				begin, said := time.Now(), false
				for line.len() < 8 {
					s := stats(c)
					said = said || s.Startup != nil && strings.Contains(s.Startup.Pace, "starts at once took longer than 5s: starting")
					if time.Sleep(100 * time.Millisecond); time.Since(begin) > 2*time.Minute {
						t.Fatalf("%d of 8 are ready after 2 minutes and %d starts", line.len(), stats(c).Spawned)
					}
				}
				s := stats(c)
				if !said || s.Boot != nil || s.Spawned > 24 {
					t.Errorf("said what it does: %v; boot %+v after %d starts", said, s.Boot, s.Spawned)
				}
			})
		})
	}
}

// compute takes so much of two processors that all who compute share, unless that takes longer than the limit.
func compute(ctx context.Context, running *atomic.Int64, work, limit time.Duration) error {
	defer running.Add(-1)
	running.Add(1)
	const slice = 50 * time.Millisecond
	for end := time.Now().Add(limit); work > 0; work -= slice * 2 / time.Duration(max(2, running.Load())) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(end) {
			return &worker.BootError{Message: "wasn't ready after " + limit.String(), Crowd: "took longer than " + limit.String()}
		}
		time.Sleep(slice)
	}
	return nil
}

// TestP8_AllAloneIsNoCrowd: fewer at a time can't help one that is alone, and what isn't for want of time has no pace.
func TestP8_AllAloneIsNoCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o world
		c, _, end := o.crew(t, func(context.Context, *shiftless) error { return errors.New("no") })
		defer end()
		c.Configure(pool.Limits{Size: 8})
		time.Sleep(time.Minute)
		if s := stats(c); s.Boot == nil || s.Startup == nil || s.Startup.Pace != "" {
			t.Errorf("boot %+v, startup %+v; want a failure, and no pace", s.Boot, s.Startup)
		}
	})
}

// TestP8_StartupSaysSinceWhen: what a person who waits for a long import sees.
func TestP8_StartupSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := newCrew(t, &fakeLine{}, func(_ int, w *fakeWorker) { w.bootTime = 140 * time.Second })
		defer end()
		begin := time.Now()
		c.Configure(pool.Limits{Size: 2, Start: 5 * time.Minute})
		time.Sleep(time.Minute)
		s := stats(c).Startup
		if s == nil || !s.Since.Equal(begin) || s.Limit != 5*time.Minute || s.Line != "loaded" || s.Pace != "" {
			t.Errorf("startup %+v; want since %s, for 5m0s, and the line", s, begin)
		}
		time.Sleep(2 * time.Minute)
		if s := stats(c).Startup; s != nil {
			t.Errorf("startup %+v though all are ready", s)
		}
	})
}
