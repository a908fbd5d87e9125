package crew

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// fakeWorker is a worker without a process.
type fakeWorker struct {
	bootTime time.Duration
	usage    worker.Usage
	exited   chan struct{}
	answer   worker.Reason // to pings

	mu     sync.Mutex
	pings  []time.Time   // guarded by mu
	ending worker.Reason // guarded by mu
	ended  bool          // guarded by mu
}

func (w *fakeWorker) Ready(context.Context) error {
	time.Sleep(w.bootTime)
	return nil
}

// end is safe to call twice; an empty reason is a crash.
func (w *fakeWorker) end(r worker.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.ended, w.ending = true, r
		close(w.exited)
	}
}

func (w *fakeWorker) Ending() (worker.Reason, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ending, w.ending != ""
}

func (w *fakeWorker) RoundTrip(context.Context, worker.Call) worker.Outcome { return worker.Outcome{} }
func (w *fakeWorker) Discard(r worker.Reason)                               { w.end(r) }
func (w *fakeWorker) Kill(r worker.Reason)                                  { w.end(r) }
func (w *fakeWorker) Exited() <-chan struct{}                               { return w.exited }
func (w *fakeWorker) Gone() <-chan struct{}                                 { return w.exited }
func (w *fakeWorker) Exit() worker.Exit                                     { return worker.Exit{Code: 9} }
func (w *fakeWorker) ID() string                                            { return "fake" }
func (w *fakeWorker) Commands() []string                                    { return nil }
func (w *fakeWorker) Codec() string                                         { return "" }
func (w *fakeWorker) PID() int                                              { return 0 }
func (w *fakeWorker) Served() uint64                                        { return 0 }
func (w *fakeWorker) RSS() uint64                                           { return 0 }
func (w *fakeWorker) Said() string                                          { return "loaded" }
func (w *fakeWorker) Usage(*worker.Groups) worker.Usage                     { return w.usage }

func (w *fakeWorker) Ping(context.Context, time.Time) worker.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pings = append(w.pings, time.Now())
	return w.answer
}

// sent are the times of its pings.
func (w *fakeWorker) sent() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pings)
}

// fakeLine has idle members and no requests.
type fakeLine struct {
	offerTime time.Duration // before a member is among the idle
	mu        sync.Mutex
	idle      Idle // guarded by mu
	waiting   int  // requests, which nobody ever takes; guarded by mu
}

func (l *fakeLine) Offer(m *Member) {
	if l.offerTime > 0 {
		time.Sleep(l.offerTime)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle.Push(m, time.Now())
}

func (l *fakeLine) Withdraw(m *Member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle.Remove(m)
}

func (l *fakeLine) Lend(m *Member) bool { return l.Withdraw(m) }

func (l *fakeLine) Restore(m *Member) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle.Restore(m)
	return true
}

func (l *fakeLine) WithdrawIdle(t time.Time) *Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle.RemoveIdleSince(t)
}

func (l *fakeLine) Resting() map[*Member]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle.All()
}

func (l *fakeLine) Demand() Demand {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Demand{Waiting: l.waiting, Idle: l.idle.Len(), IdleSince: l.idle.Since()}
}

// wait has so many requests wait.
func (l *fakeLine) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = n
}

func (l *fakeLine) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle.Len()
}

// newCrew must be called in a synctest bubble, and end before the bubble's end. prepare sees each worker, the first
// with n = 1, before it is started.
func newCrew(t *testing.T, line *fakeLine, prepare func(n int, w *fakeWorker)) (c *Crew, end func()) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	c = New(t.Context(), func() (Worker, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		w := &fakeWorker{exited: make(chan struct{})}
		prepare(n, w)
		return w, nil
	}, line, slog.New(slog.DiscardHandler))
	return c, func() {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func stats(c *Crew) (s pool.Stats) {
	c.Fill(&s)
	return s
}

// TestP80_RecoveryIsSeenWithoutRequests has no event after the good member got ready: only its age proves it.
func TestP80_RecoveryIsSeenWithoutRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := newCrew(t, &fakeLine{}, func(n int, w *fakeWorker) {
			if n <= 2 {
				time.AfterFunc(time.Second, func() { w.end("") })
			}
		})
		defer end()
		c.Configure(pool.Limits{Size: 1})
		time.Sleep(provenAfter / 2) // two crashes, their back-off, and a third member that lives
		if s := stats(c); s.Boot == nil || s.Spawned != 3 {
			t.Fatalf("boot %+v, spawned %d; want a failure, and a third member", s.Boot, s.Spawned)
		}
		time.Sleep(provenAfter)
		if s := stats(c); s.Boot != nil {
			t.Errorf("boot %+v although a member has lived for %s", s.Boot, provenAfter)
		}
	})
}

func TestCheckinOfAMemberThatWasStruckOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{}
		var first *fakeWorker
		c, end := newCrew(t, line, func(n int, w *fakeWorker) {
			if n == 1 {
				first = w
			}
		})
		defer end()
		c.Configure(pool.Limits{Size: 1})
		synctest.Wait()
		m := line.WithdrawIdle(time.Now())
		if m == nil {
			t.Fatal("no member is idle")
		}
		c.Configure(pool.Limits{Size: 0}) // nobody takes its place
		first.end("")
		synctest.Wait()
		c.Checkin(m, "")
		if n := line.len(); n != 0 {
			t.Error("a member whose process is gone is offered")
		}
	})
}

// TestP9_FrozenCrewReplacesNobody has a member end while its pool waits for the last requests.
func TestP9_FrozenCrewReplacesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var workers []*fakeWorker
		c, end := newCrew(t, &fakeLine{}, func(_ int, w *fakeWorker) { workers = append(workers, w) })
		defer end()
		c.Configure(pool.Limits{Size: 2})
		synctest.Wait()
		c.Freeze()
		workers[0].end(worker.ReasonTimeout)
		time.Sleep(time.Minute)
		if s := stats(c); s.Spawned != 2 || s.Destroyed != 1 {
			t.Errorf("spawned %d, destroyed %d; want 2, 1", s.Spawned, s.Destroyed)
		}
	})
}

// TestP92_SurplusThatBecomesIdleLate has the crew plan between a member's being up and its being idle.
func TestP92_SurplusThatBecomesIdleLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &fakeLine{offerTime: time.Millisecond}
		c, end := newCrew(t, line, func(_ int, w *fakeWorker) { w.bootTime = time.Second })
		defer end()
		c.Configure(pool.Limits{Size: 2})
		synctest.Wait()
		c.Configure(pool.Limits{Size: 1})
		time.Sleep(2 * time.Second)
		if s := stats(c); s.Spawned-s.Destroyed != 1 || line.len() != 1 {
			t.Errorf("%d members, %d idle; want 1, 1", s.Spawned-s.Destroyed, line.len())
		}
	})
}

// TestP80_DeadBeforeItIsIdle has members end between their being up and their being idle.
func TestP80_DeadBeforeItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := newCrew(t, &fakeLine{offerTime: time.Second}, func(_ int, w *fakeWorker) {
			time.AfterFunc(time.Millisecond, func() { w.end("") })
		})
		defer end()
		c.Configure(pool.Limits{Size: 1})
		time.Sleep(time.Minute)
		if s := stats(c); s.Boot == nil || s.Spawned > 10 {
			t.Errorf("boot %+v after %d starts in a minute; want a failure, and back-off", s.Boot, s.Spawned)
		}
	})
}
