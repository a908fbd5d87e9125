package pooltest

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// affinities hold for requests that ask for the worker of their key. With V1 a worker is busy while it serves; what waits
// for its turn only isn't.
var affinities = map[string]story{
	"TestP68_KeysComeBackToTheirWorkers": func(b *bench) {
		b.limits.Size = 3
		s := b.ready()
		homes := s.homes("a", "b", "c")
		for _, mode := range []pool.AffinityMode{pool.AffinityHint, pool.AffinityStrict, pool.AffinityStrictNow} {
			for _, key := range []string{"c", "a", "a", "b", "c", "b", "a"} {
				if pid := s.mustAsk(key, mode); pid != homes[key] {
					b.Errorf("%s of key %s: served by %v, not by its worker %v", mode, key, pid, homes[key])
				}
			}
		}
	},

	"TestP68_StrictNowIsRefusedWhileItsWorkerIsBusy": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		running := s.hold("a")
		_, err := s.ask("a", pool.AffinityStrictNow)
		s.wants(err, pool.ResourceError, pool.WorkerBusy)
		if ms, ok := err.Context["retry_after_ms"].(int64); !ok || ms < 1 || err.Context["worker"] == "" || err.Sent {
			b.Errorf("%+v doesn't say which worker and when to retry, or that it was sent", err)
		}
		if st := s.Stats(); st.Queued != 0 || st.Shed != 1 {
			b.Errorf("%d queued, %d shed; want 0, 1", st.Queued, st.Shed)
		}
		home := running.release()
		if pid := s.mustAsk("a", pool.AffinityStrictNow); pid != home {
			b.Errorf("then served by %v, not by %v", pid, home)
		}
	},

	// Who is pinged isn't idle meanwhile, and is its keys' worker all the same.
	"TestP68_P96_PingsEndNoAffinity": func(b *bench) {
		b.limits.Size = 3
		b.limits.Heartbeat = brisk
		s := b.ready()
		homes := s.homes("a", "b", "c")
		time.Sleep(5 * brisk.Every)
		for _, key := range []string{"c", "a", "b"} {
			if pid := s.mustAsk(key, pool.AffinityStrict); pid != homes[key] {
				b.Errorf("key %s: served by %v, not by its worker %v", key, pid, homes[key])
			}
		}
	},

	"TestP69_AffinityGoesWithItsWorker": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		for i, mode := range []pool.AffinityMode{pool.AffinityStrict, pool.AffinityStrictNow, pool.AffinityHint} {
			home := s.mustAsk("a", mode)
			if err := syscall.Kill(int(home), syscall.SIGKILL); err != nil {
				b.Fatal(err)
			}
			s.await("replaced", func(st pool.Stats) bool { return st.Crashed == uint64(i+1) && st.Ready == 2 })
			next := s.mustAsk("a", mode)
			if again := s.mustAsk("a", mode); next == home || again != next {
				b.Errorf("after the end of %v served by %v, then by %v; want a new home", home, next, again)
			}
		}
	},

	"TestP69_DeadWorkerCostsNoRequest": func(b *bench) {
		b.limits.Size = 2
		sc := &script{run: nothing}
		s := b.startWith(sc.launch)
		s.awaitUp(2)
		for range 50 {
			sc.spoilt.Store(1)
			for range 2 {
				req := pool.Request{Command: "x", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityStrict}}
				if _, err := s.Do(b.Context(), req); err != nil {
					b.Fatalf("a request whose worker turned out to be dead: %v", err)
				}
			}
			s.awaitReady(2)
		}
	},

	"TestP100_PauseKeepsAffinity": func(b *bench) {
		b.limits.Size = 3
		s := b.ready()
		homes := s.homes("a", "b", "c")
		if err := s.Pause(b.Context()); err != nil {
			b.Fatal(err)
		}
		ends := map[string]<-chan result{}
		for _, key := range []string{"c", "a", "b"} {
			ends[key] = s.askAsync(key, pool.AffinityStrictNow)
		}
		s.await("three held", func(st pool.Stats) bool { return st.Queued == 3 })
		s.Resume()
		for key, end := range ends {
			if r := <-end; r.err != nil || r.value != homes[key] {
				b.Errorf("after a pause key %s got %v, %v; want its worker %v", key, r.value, r.err, homes[key])
			}
		}
	},

	"TestP31_WhoWaitsForAWorkerCounts": func(b *bench) {
		b.limits.Size, b.limits.QueueLimit = 2, 1
		s := b.ready()
		running := s.hold("a")
		waiting := []<-chan result{s.askAsync("a", pool.AffinityStrict), s.askAsync("a", pool.AffinityStrict)}
		s.await("two waiting", func(st pool.Stats) bool { return st.Queued == 2 })
		_, err := s.call("pid", nil)
		s.wants(err, pool.ResourceError, pool.QueueFull)
		home := running.release()
		for _, end := range waiting {
			s.servedBy(home, end)
		}
	},
}

// choosing holds where requests run side by side.
var choosing = map[string]story{
	"TestP68_HintFallsBack": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		running := s.hold("a")
		other, err := s.request(b.Context(), pool.Request{
			Command: "pid", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityHint}, Deadline: time.Now().Add(b.patience / 2),
		}, nil)
		if home := running.release(); err != nil || other == home {
			b.Errorf("served by %v, %v; want another worker than %v, which was busy", other, err, home)
		}
		if pid := s.mustAsk("a", pool.AffinityStrictNow); pid != other {
			b.Errorf("then served by %v, not by %v, which served it last", pid, other)
		}
	},

	"TestP68_WhoNeverHadARequestIsntItsKeysWorker": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		running := s.hold("a")
		_, err := s.request(b.Context(), pool.Request{
			Command: "pid", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityHint}, Deadline: time.Now().Add(-time.Millisecond),
		}, nil)
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		home := running.release()
		if pid := s.mustAsk("a", pool.AffinityStrictNow); pid != home {
			b.Errorf("served by %v, not by %v, which served it last", pid, home)
		}
	},

	"TestP68_StrictWaits": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		running := s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting beside an idle worker", func(st pool.Stats) bool { return st.Queued == 1 && st.Ready == 1 })
		_, err := s.request(b.Context(), pool.Request{
			Command: "pid", Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityStrict}, Deadline: time.Now().Add(20 * time.Millisecond),
		}, nil)
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		if st := s.Stats(); st.Queued != 1 {
			b.Errorf("%d wait after one has given up; want 1", st.Queued)
		}
		s.servedBy(running.release(), waiting)
	},

	"TestP18_StrictWaiterBlocksNoOther": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		one, other := s.hold("a"), s.hold("b")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		behind := make([]<-chan result, 3)
		for i := range behind {
			behind[i] = s.async("pid", nil)
			s.await("one more waiting", func(st pool.Stats) bool { return st.Queued == i+2 })
		}
		pid := other.release()
		for _, end := range behind {
			s.servedBy(pid, end)
		}
		if st := s.Stats(); st.Queued != 1 {
			b.Errorf("%d wait; want the one for a busy worker", st.Queued)
		}
		s.servedBy(one.release(), waiting)
	},

	// Two workers, a and b by the keys that they have; each is handed to the first of those who take it.
	"TestP18_OrderAmongThoseWhoTakeTheSameWorker": func(b *bench) {
		var gates [7]chan struct{}
		for i := range gates {
			gates[i] = make(chan struct{})
		}
		order := &sequence{}
		b.limits.Size = 2
		s := b.startWith((&script{run: func(ctx context.Context, p []byte) []byte {
			order.note(p[0])
			select {
			case <-gates[p[0]]:
			case <-ctx.Done():
			}
			return nil
		}}).launch)
		s.awaitUp(2)
		var all sync.WaitGroup
		for i, key := range []string{"a", "b", "a", "", "a", "", "b"} {
			req := pool.Request{Command: "x", Payload: []byte{byte(i)}}
			if key != "" {
				req.Affinity = pool.Affinity{Key: key, Mode: pool.AffinityStrict}
			}
			all.Go(func() {
				if _, err := s.Do(b.Context(), req); err != nil {
					b.Errorf("operation %d: %v", i, err)
				}
			})
			s.await("submitted", func(st pool.Stats) bool { return st.Queued+len(order.all()) == i+1 })
		}
		for _, step := range []struct{ ends, next int }{{0, 2}, {2, 3}, {1, 5}, {5, 6}, {3, 4}} {
			close(gates[step.ends])
			b.until("the next one served", func() bool {
				ran := order.all()
				return int(ran[len(ran)-1]) == step.next
			})
		}
		close(gates[6])
		close(gates[4])
		all.Wait()
	},

	"TestP69_WhoWaitsForAWorkerThatDiesTakesAny": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		idle := s.homes("a", "b")["b"]
		running := s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting beside an idle worker", func(st pool.Stats) bool { return st.Queued == 1 && st.Ready == 1 })
		running.kill()
		s.servedBy(idle, waiting)
	},

	"TestP69_WhoWaitsForAWorkerThatIsRecycledTakesAny": func(b *bench) {
		b.limits.Size, b.limits.Recycle.MaxRequests = 2, 1
		b.spec.Env = append(b.spec.Env, "FIXTURE_STOP_SLEEP=1")
		s := b.ready()
		running := s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting beside an idle worker", func(st pool.Stats) bool { return st.Queued == 1 && st.Ready == 1 })
		home := running.release()
		if r := <-waiting; r.err != nil || r.value == home {
			b.Errorf("got %v, %v; want another worker than %v, which is at its end", r.value, r.err, home)
		}
		if !alive(int(home)) {
			b.Error("it waited until the process of its worker had ended")
		}
	},

	"TestP14_WhoWaitsForAWorkerHasNoOtherStarted": func(b *bench) {
		b.limits.Overflow = 1
		s := b.ready()
		running := s.hold("a")
		waiting := s.askAsync("a", pool.AffinityStrict)
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		time.Sleep(200 * time.Millisecond) // more than overflow takes
		if st := s.Stats(); st.Spawned != 1 {
			b.Errorf("%d workers were started; want the one that it waits for", st.Spawned)
		}
		plain := s.async("pid", nil)
		s.await("an extra worker for another one", func(st pool.Stats) bool { return st.Spawned == 2 && st.Queued == 1 })
		home := running.release()
		s.servedBy(home, waiting)
		if r := <-plain; r.err != nil || r.value == home {
			b.Errorf("the other one: %v, %v; want the extra worker", r.value, r.err)
		}
	},
}
