package pooltest

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// unshared are the stories that don't hold for workers with several requests, and why; sharing has what does.
var unshared = map[string]string{
	"TestP30_EachStepHasItsTime": "it isn't ended while others could run in it; TestP107_TaskPastItsGraceQuarantines has its end",
	"TestP29_CancelledOperation": "its handler isn't async, and a thread can't be interrupted",
	"TestP78_StrayHoldsThePipe":  "its handler forks behind Python's back, which takes the process's first thread",
}

// sharing holds for workers that serve several requests at the same time.
var sharing = map[string]story{
	"TestP107_RequestsOfOneWorkerAtOnce": func(b *bench) {
		s := b.sharing(1, 8)
		running := s.each(8, func(int) result { return s.result("meet", args{"n": 8}) })
		pids := map[any]bool{}
		for r := range running {
			if r.err != nil {
				b.Fatalf("one of 8 that wait for each other: %v", r.err)
			}
			pids[r.value] = true
		}
		if st := s.Stats(); len(pids) != 1 || st.Spawned != 1 {
			b.Errorf("served by %d processes of %d; want one", len(pids), st.Spawned)
		}
	},

	"TestP107_OneMoreThanPlacesWaits": func(b *bench) {
		b.limits.QueueLimit = 1
		s := b.sharing(2, 3)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(7, func(int) result { return s.result("wait_for", args{"path": path}) })
		s.await("six running and one waiting", func(st pool.Stats) bool { return st.Busy == 2 && st.Queued == 1 })
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.ResourceError, pool.QueueFull)
		if busy := err.Context["busy"]; busy != 2 {
			b.Errorf("queue_full tells of %v busy workers; want 2", busy)
		}
		s.release(path, running)
	},

	"TestP107_RequestsSpreadOverWorkers": func(b *bench) {
		s := b.sharing(3, 4)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(6, func(int) result { return s.result("wait_for", args{"path": path}) })
		s.await("all busy", func(st pool.Stats) bool { return st.Busy == 3 })
		for pid, n := range s.release(path, running) {
			if n != 2 {
				b.Errorf("worker %v served %d of 6 requests; each of three has two", pid, n)
			}
		}
	},

	"TestP107_CancellingOneDisturbsNoOther": func(b *bench) {
		s := b.sharing(1, 3)
		path, cleanup := filepath.Join(b.TempDir(), "go"), filepath.Join(b.TempDir(), "cleanup")
		running := s.each(2, func(int) result { return s.result("wait_for", args{"path": path}) })
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan *pool.Error, 1)
		go func() {
			_, err := s.callAs(ctx, "wait_for", args{"path": path, "cleanup": cleanup}, time.Time{})
			ended <- err
		}()
		b.until("the handler", func() bool { return exists(cleanup + ".begun") })
		cancel()
		s.wants(<-ended, pool.RequestError, pool.Cancelled)
		b.until("finally block of the handler", func() bool { return exists(cleanup) })
		s.must("echo", args{"value": "its place is free"})
		s.release(path, running)
		if st := s.Stats(); st.Spawned != 1 || st.Cancelled != 1 {
			b.Errorf("%d workers started, %d cancelled; want 1, 1", st.Spawned, st.Cancelled)
		}
	},

	"TestP107_LateAnswersReachNobody": func(b *bench) {
		s := b.sharing(1, 4)
		var timeouts sync.Map
		for r := range s.each(4, func(caller int) result {
			for i := range 50 {
				value := strconv.Itoa(caller) + "/" + strconv.Itoa(i)
				_, err := s.callAs(b.Context(), "late", args{"ms": 60000, "value": value}, time.Now().Add(5*time.Millisecond))
				if err == nil || err.Type != pool.CommandTimeout && err.Type != pool.DeadlineExceeded {
					return result{err: err, value: "no timeout"}
				}
				timeouts.Store(value, err.Type)
				if v, err := s.call("echo", args{"value": value}); err != nil || v != value {
					return result{value: v, err: err}
				}
			}
			return result{}
		}) {
			if r.err != nil || r.value != nil {
				b.Errorf("among late answers: %v, %v", r.value, r.err)
			}
		}
		if st := s.Stats(); st.Timeouts != 200 || st.Spawned != 1 {
			b.Errorf("%d timeouts with %d workers; want 200 with 1, as each handler ended within its grace", st.Timeouts, st.Spawned)
		}
	},

	"TestP107_TaskPastItsGraceQuarantines": func(b *bench) {
		s := b.sharing(1, 4)
		path, never := filepath.Join(b.TempDir(), "go"), filepath.Join(b.TempDir(), "never")
		running := s.each(2, func(int) result { return s.result("wait_for", args{"path": path}) })
		_, err := s.callAs(b.Context(), "wait_for", args{"path": never, "deaf": true}, time.Now().Add(20*time.Millisecond))
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		before := s.pid()
		waiting := make(chan result, 1)
		b.until("quarantine", func() bool {
			_, err := s.callAs(b.Context(), "echo", args{"value": 1}, time.Now().Add(100*time.Millisecond))
			return err != nil && err.Type == pool.DeadlineExceeded
		})
		go func() { waiting <- s.result("pid", nil) }()
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 && st.Spawned == 1 })
		for pid := range s.release(path, running) { // those that it had end well
			if pid != float64(before) {
				b.Errorf("served by %v, not by the quarantined %d", pid, before)
			}
		}
		if r := <-waiting; r.err != nil || r.value == float64(before) {
			b.Errorf("after quarantine: %v, %v; want another worker than %d", r.value, r.err, before)
		}
		if n := s.Stats().Exits["timeout"]; n != 1 {
			b.Errorf("exits %v; want one for its timeout", s.Stats().Exits)
		}
	},

	"TestP107_KillFailsAtMostWhatItRan": func(b *bench) {
		s := b.sharing(2, 4)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(12, func(int) result { return s.result("wait_for", args{"path": path}) })
		s.await("8 running, 4 waiting", func(st pool.Stats) bool { return st.Busy == 2 && st.Queued == 4 })
		if err := syscall.Kill(b.workers()[0], syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		s.await("replaced", func(st pool.Stats) bool { return st.Crashed == 1 && st.Queued == 0 })
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		failed := 0
		for r := range running {
			if r.err != nil {
				s.wants(r.err, pool.CommunicationError, pool.PortExited)
				failed++
			}
		}
		if failed != 4 {
			b.Errorf("%d requests failed for a worker that ran 4", failed)
		}
	},

	"TestP75_ConstantKillingOfSharedWorkers": func(b *bench) {
		b.spec.Concurrency, b.limits.Size, b.limits.Concurrency = 4, 2, 4
		b.killing(3*time.Second, 4)
	},

	"TestP108_SyncHandlersOfOneWorkerAtOnce": func(b *bench) {
		s := b.sharing(1, 3)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(2, func(int) result { return s.result("hold", args{"path": path}) })
		s.await("running", func(st pool.Stats) bool { return st.Busy == 1 && st.Queued == 0 })
		s.must("echo", args{"value": "beside two that sleep"})
		s.release(path, running)
	},

	"TestP109_SlowReaderBlocksNoOtherOfItsWorker": func(b *bench) {
		s := b.sharing(1, 3)
		s.besideASlowReader()
		if st := s.Stats(); st.Spawned != 1 {
			b.Errorf("%d workers were started; want one that served all", st.Spawned)
		}
	},

	"TestP109_MoreThanItsCreditEndsTheWorker": func(b *bench) {
		s := b.sharing(1, 2)
		before := s.pid()
		r := s.stream("flood", args{"n": 100}, &reading{read: func(context.Context, int) error {
			b.until("an end of the worker", func() bool { return !alive(before) })
			return nil
		}})
		s.wants(r.err, pool.CommunicationError, pool.ResponseMismatch)
		if len(r.items) > 16 || !strings.Contains(r.err.Message, "credit") {
			b.Errorf("%d items of the flood were kept, then %q", len(r.items), r.err.Message)
		}
		if after := s.pid(); after == before {
			b.Errorf("worker %d serves again", before)
		}
	},

	"TestP85_NeverOneMoreOfSeveral": func(b *bench) {
		b.limits.Recycle.MaxRequests, b.limits.QueueLimit = 10, 200
		s := b.sharing(2, 4)
		most := map[any]float64{}
		for r := range s.each(200, func(int) result { return s.result("count", nil) }) {
			if r.err != nil {
				b.Fatalf("a request failed for recycling: %v", r.err)
			}
			seen, _ := r.value.([]any)
			n, _ := seen[1].(float64)
			most[seen[0]] = max(most[seen[0]], n)
		}
		if worst := slices.Max(slices.Collect(maps.Values(most))); worst > 10 || len(most) < 20 {
			b.Errorf("%d workers served at most %v requests each; want none above 10", len(most), worst)
		}
	},

	"TestP89_ResetOfSharedWorkersFailsNothing": func(b *bench) {
		s := b.sharing(2, 4)
		running := s.each(100, func(int) result { return s.result("count", nil) })
		s.await("busy", func(st pool.Stats) bool { return st.Busy == 2 })
		s.Reset()
		for r := range running {
			if r.err != nil {
				b.Errorf("a request failed for a reset: %v", r.err)
			}
		}
		s.await("two new ones", func(st pool.Stats) bool { return st.Spawned == 4 && st.Ready == 2 })
	},

	"TestP92_ScalingDownSharedWorkersKillsNoBusyOne": func(b *bench) {
		s := b.sharing(3, 2)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(6, func(int) result { return s.result("wait_for", args{"path": path}) })
		s.await("all busy", func(st pool.Stats) bool { return st.Busy == 3 })
		s.limits.Size = 1
		s.Configure(s.limits)
		s.release(path, running)
		s.awaitReady(1)
	},

	"TestP100_PauseOfSharedWorkersHolds": func(b *bench) {
		s := b.sharing(1, 4)
		path := filepath.Join(b.TempDir(), "go")
		running := s.each(2, func(int) result { return s.result("wait_for", args{"path": path}) })
		s.await("running", func(st pool.Stats) bool { return st.Busy == 1 })
		paused := make(chan error, 1)
		go func() { paused <- s.Pause(b.Context()) }()
		s.await("paused", func(st pool.Stats) bool { return st.Paused })
		held := s.each(3, func(int) result { return s.result("pid", nil) })
		s.await("held although there are places", func(st pool.Stats) bool { return st.Queued == 3 })
		s.release(path, running)
		if err := <-paused; err != nil {
			b.Fatal(err)
		}
		s.Resume()
		for r := range held {
			if r.err != nil {
				b.Errorf("after a pause: %v", r.err)
			}
		}
	},
}

// placing holds for requests that ask for a place in the worker of their key.
var placing = map[string]story{
	"TestP68_PlacesOfAKeysWorker": func(b *bench) {
		s := b.sharing(2, 2)
		one, other := s.hold("a"), s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting beside an idle worker", func(st pool.Stats) bool { return st.Queued == 1 && st.Ready == 1 })
		_, err := s.ask("a", pool.AffinityStrictNow)
		s.wants(err, pool.ResourceError, pool.WorkerBusy)
		home := one.release()
		s.servedBy(home, waiting)
		if pid := s.mustAsk("a", pool.AffinityStrictNow); pid != home { // beside the other one
			b.Errorf("served by %v, not by %v, which has a place", pid, home)
		}
		if pid := other.release(); pid != home {
			b.Errorf("the second of the key had %v, the first %v", pid, home)
		}
	},

	"TestP68_KeyThatMovesTakesItsWaitersAlong": func(b *bench) {
		s := b.sharing(2, 2)
		one, other := s.hold("a"), s.hold("a")
		waiting := make(chan result, 1)
		go func() {
			v, err := s.request(b.Context(), pool.Request{
				Command: "pid", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityStrict}, Deadline: time.Now().Add(b.patience / 2),
			}, nil)
			waiting <- result{v, err}
		}()
		s.await("one waiting beside an idle worker", func(st pool.Stats) bool { return st.Queued == 1 && st.Ready == 1 })
		moved := s.begin("a", pool.AffinityHint)
		r := <-waiting // beside the hint, which runs on
		if home := moved.release(); r.err != nil || r.value != home {
			b.Errorf("got %v, %v; want the key's new worker %v", r.value, r.err, home)
		}
		if home := one.release(); home == r.value || other.release() != home {
			b.Errorf("the first two had %v, and so had the hint", home)
		}
	},

	"TestP18_StrictWaiterBlocksNoPlace": func(b *bench) {
		s := b.sharing(2, 2)
		one, other := s.hold("a"), s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		idle := s.mustAsk("b", pool.AffinityStrictNow)
		for range 3 {
			if pid := float64(s.pid()); pid != idle {
				b.Errorf("served by %v, which has no place", pid)
			}
		}
		home := one.release()
		s.servedBy(home, waiting)
		other.release()
	},

	"TestP69_WhoWaitsForAQuarantinedWorkerTakesAny": func(b *bench) {
		s := b.sharing(2, 2)
		running := s.hold("a")
		_, err := s.request(b.Context(), pool.Request{
			Command: "wait_for", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityStrict}, Deadline: time.Now().Add(50 * time.Millisecond),
		}, args{"path": filepath.Join(b.TempDir(), "never"), "deaf": true})
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		next := s.mustAsk("a", pool.AffinityStrict) // it waits for the place of the deaf one, until the quarantine
		if home := running.release(); home == next {
			b.Errorf("served by %v, which was in quarantine", home)
		}
	},
}

// sharing starts a pool of size workers for so many requests each, and waits until they can serve.
func (b *bench) sharing(size, concurrency int) *subject {
	b.Helper()
	b.spec.Module, b.spec.Concurrency = "sharing", concurrency
	b.limits.Size, b.limits.Concurrency = size, concurrency
	return b.ready()
}

// each calls n times at once; the channel has the results, and is closed after the last one.
func (s *subject) each(n int, call func(i int) result) <-chan result {
	results := make(chan result, n)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() { results <- call(i) })
	}
	go func() {
		calls.Wait()
		close(results)
	}()
	return results
}

// release lets go of requests that wait for path, all of which must succeed, and counts them by their results.
func (s *subject) release(path string, running <-chan result) map[any]int {
	s.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		s.Fatal(err)
	}
	count := map[any]int{}
	for r := range running {
		if r.err != nil {
			s.Errorf("a request that was let go: %v", r.err)
		}
		count[r.value]++
	}
	return count
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
