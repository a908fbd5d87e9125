package pooltest

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var recycling = map[string]story{
	"TestP85_MaxRequestsIsExact": func(b *bench) {
		b.limits.Size, b.limits.Recycle.MaxRequests = 3, 3
		ended := b.used(1200)
		for _, r := range ended {
			if r.served != 3 {
				b.Errorf("a worker was recycled after %d requests, want 3", r.served)
			}
		}
		if len(ended) < 1200/3-3 {
			b.Errorf("%d workers recycled over 1200 requests, want at least %d", len(ended), 1200/3-3)
		}
	},

	"TestP85_P88_MaxRequestsIsJittered": func(b *bench) {
		b.limits.Size, b.limits.Recycle.MaxRequests = 3, 50
		counts := map[uint64]int{}
		for _, r := range b.used(6000) {
			counts[r.served]++
			if r.served < 40 || r.served > 50 {
				b.Errorf("a worker was recycled after %d requests, want 40 to 50", r.served)
			}
		}
		if len(counts) < 3 {
			b.Errorf("workers were recycled after %v requests (how many: how often), want various numbers", counts)
		}
	},

	"TestP85_OneRequestEach": func(b *bench) {
		b.limits.Size, b.limits.Recycle.MaxRequests = 2, 1
		s := b.ready()
		const n = 10
		seen := map[int]bool{}
		for range n {
			seen[s.pid()] = true
		}
		if len(seen) != n {
			b.Errorf("%d requests were served by %d processes", n, len(seen))
		}
		s.await("all recycled", func(st pool.Stats) bool { return st.Exits["recycled"] == n && st.Ready == 2 })
		if st := s.Stats(); st.Crashed != 0 || st.Spawned != n+2 {
			b.Errorf("crashed %d, spawned %d; want 0, %d", st.Crashed, st.Spawned, n+2)
		}
	},

	"TestP86_MaxAge": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		running := s.occupy()
		s.limits.Recycle.MaxAge = time.Millisecond // it has been ready for longer
		s.Configure(s.limits)
		time.Sleep(100 * time.Millisecond) // the time in which it mustn't end
		running.release()
		s.await("the worker recycled for its age", func(st pool.Stats) bool { return st.Exits["recycled"] >= 1 })
		s.limits.Recycle = pool.Recycle{}
		s.Configure(s.limits)
		if again := s.pid(); again == pid {
			b.Error("a recycled worker serves again")
		}
		if st := s.Stats(); st.Crashed != 0 {
			b.Errorf("%d crashed", st.Crashed)
		}
	},

	"TestP86_MaxIdle": func(b *bench) {
		b.limits.Recycle.MaxIdle = time.Second
		sc := &script{run: func(context.Context, []byte) []byte { time.Sleep(1200 * time.Millisecond); return nil }}
		s := b.startWith(sc.launch)
		s.awaitUp(1)
		s.served(0) // for longer than it may be idle
		if ended, _ := sc.retirements(); len(ended) > 0 {
			b.Error("a worker was recycled although it wasn't idle")
		}
		begin := time.Now()
		s.await("the worker recycled for its idleness", func(st pool.Stats) bool { return st.Exits["recycled"] >= 1 })
		if idle := time.Since(begin); idle < 700*time.Millisecond {
			b.Errorf("recycled after %s, at most a fifth before 1s", idle)
		}
	},

	"TestP86_MaxMemory": func(b *bench) {
		b.limits.Recycle.MaxMemory = 100 << 20
		s := b.ready()
		for i, command := range []string{"grow", "grow_child"} {
			pid := s.pid()
			s.must(command, args{"mb": 50})
			if again := s.pid(); again != pid {
				b.Fatalf("%s: recycled with half of the memory that it may have", command)
			}
			s.must(command, args{"mb": 100})
			s.await(command+": the worker recycled for its memory", func(st pool.Stats) bool {
				return st.Exits["recycled"] == uint64(i+1) && st.Ready == 1
			})
			b.until(command+": its processes gone", func() bool { return !alive(pid) && len(b.workers()) == 1 })
		}
	},

	"TestP87_RecyclingAllKeepsTheOthers": func(b *bench) {
		b.limits.Size = 4
		s, sc := b.aged(50 * time.Millisecond)
		s.await("all recycled twice", func(st pool.Stats) bool { return st.Exits["recycled"] >= 8 })
		if _, least := sc.retirements(); least < 3 {
			b.Errorf("only %d of 4 were ready while all were recycled, want at least 3", least)
		}
	},

	"TestP88_EqualStartsDontRecycleTogether": func(b *bench) {
		b.limits.Size = 8
		s, sc := b.aged(0)
		s.await("all recycled", func(st pool.Stats) bool { return st.Exits["recycled"] >= 8 })
		ended, _ := sc.retirements()
		if spread := ended[7].at.Sub(ended[0].at); spread < 20*time.Millisecond {
			b.Errorf("8 workers that started together were recycled within %s", spread)
		}
	},

	"TestP89_P90_ResetReplacesAllAndFailsNothing": func(b *bench) {
		b.limits.Size = 3
		s := b.ready()
		before := map[int]bool{}
		for _, w := range s.Stats().Workers {
			before[w.PID] = true
		}
		running := s.occupy()
		s.Reset()
		s.await("the idle ones replaced", func(st pool.Stats) bool { return st.Exits["recycled"] == 2 && st.Starting == 0 })
		running.release()
		s.await("all workers replaced and ready", func(st pool.Stats) bool { return st.Exits["recycled"] == 3 && st.Ready == 3 })
		st := s.Stats()
		for _, w := range st.Workers {
			if before[w.PID] {
				b.Errorf("worker %d is there after the reset", w.PID)
			}
		}
		if st.Crashed != 0 || st.Spawned != 6 {
			b.Errorf("crashed %d, spawned %d; want 0, 6", st.Crashed, st.Spawned)
		}
	},

	"TestP89_ResetUnderLoad": func(b *bench) {
		b.limits.Size = 4
		sc := &script{boot: 20 * time.Millisecond, run: nothing}
		s := b.startWith(sc.launch)
		s.awaitUp(4)
		stop := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						s.served(0)
					}
				}
			})
		}
		s.Reset()
		s.await("all replaced", func(st pool.Stats) bool { return st.Exits["recycled"] == 4 })
		close(stop)
		all.Wait()
		if _, least := sc.retirements(); least < 3 {
			b.Errorf("only %d of 4 were ready during the reset, want at least 3", least)
		}
		s.awaitReady(4)
		if st := s.Stats(); st.Exits["recycled"] != 4 || st.Errors+st.Infrastructure+st.Shed > 0 {
			b.Errorf("exits %v, %d errors, %d crashes, %d shed; want 4 recycled and nothing else", st.Exits, st.Errors, st.Infrastructure, st.Shed)
		}
	},

	"TestP100_PauseDrainsAndHolds": func(b *bench) {
		b.limits.Overflow = 2
		s, release, order := b.gated(1)
		var all sync.WaitGroup
		all.Go(func() { s.served(0) })
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		hurried, cancel := context.WithTimeout(b.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Pause(hurried); err == nil {
			b.Error("paused, it says, while an operation runs")
		}
		const n = 5
		for i := 1; i < n; i++ {
			all.Go(func() { s.served(byte(i)) })
			s.await("queued", func(st pool.Stats) bool { return st.Queued == i })
		}
		b.send(release)
		if err := s.Pause(b.Context()); err != nil {
			b.Errorf("Pause: %v", err)
		}
		time.Sleep(100 * time.Millisecond) // long enough for overflow to start, were it to
		if st := s.Stats(); len(order.all()) != 1 || st.Queued != n-1 || st.Spawned != 1 || !st.Paused {
			b.Errorf("%d were run in the pause, queued %d, spawned %d, paused %v; want 0, %d, 1, true",
				len(order.all())-1, st.Queued, st.Spawned, st.Paused, n-1)
		}
		s.limits.Overflow = 0 // so that one after the other is served
		s.Configure(s.limits)
		close(release)
		s.Resume()
		s.await("those who waited served, in the order of their coming", func(st pool.Stats) bool { return st.Requests == n })
		all.Wait()
		order.check(b, n)
		s.served(n)
	},

	"TestP100_PauseUnderLoad": func(b *bench) {
		b.limits.Size = 3
		sc := &script{run: nothing}
		s := b.startWith(sc.launch)
		s.awaitUp(3)
		const callers, each = 8, 500
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range each {
					s.served(0)
				}
			})
		}
		for range 50 {
			if err := s.Pause(b.Context()); err != nil {
				b.Errorf("Pause: %v", err)
			}
			if n := sc.inside.Load(); n > 0 {
				b.Errorf("%d operations run in a pause", n)
			}
			s.Resume()
		}
		all.Wait()
		if st := s.Stats(); st.Requests != callers*each || st.Shed+st.Cancelled > 0 || st.Destroyed > 0 {
			b.Errorf("%d requests, %d shed, %d workers destroyed; want %d, 0, 0", st.Requests, st.Shed, st.Destroyed, callers*each)
		}
	},

	"TestP20_WarmWorkersAnswerWithinASecond": func(b *bench) {
		b.limits.Size = 4
		s := b.ready()
		for range 8 {
			begin := time.Now()
			s.must("echo", args{"value": 1})
			if took := time.Since(begin); took >= time.Second {
				b.Errorf("an idle worker took %s", took)
			}
		}
	},

	"TestP98_FiguresOfAWorker": func(b *bench) {
		s := b.ready()
		s.must("grow", args{"mb": 40})
		s.must("spin", args{"ms": 300})
		s.await("memory, CPU seconds and open files of the worker", func(st pool.Stats) bool {
			w := st.Workers[0]
			const least = 40 << 20
			return w.USS >= least && w.PSS >= w.USS && w.PSS <= w.RSS+1<<20 && w.CPU >= 0.25 && w.CPU < 60 && w.FDs >= 5 && w.FDs < 50
		})
	},
}

var surging = map[string]story{
	"TestP87_RecyclingAllWithOverflowKeepsSize": func(b *bench) {
		b.limits.Size, b.limits.Overflow = 4, 1
		s, sc := b.aged(50 * time.Millisecond)
		s.await("all recycled twice", func(st pool.Stats) bool { return st.Exits["recycled"] >= 8 })
		if _, least := sc.retirements(); least < 4 {
			b.Errorf("only %d were ready while all were recycled, want 4 with a substitute", least)
		}
		if n := s.Stats().Exits["retired"]; n > 0 {
			b.Errorf("%d substitutes were retired instead of those that they stood in for", n)
		}
	},
}

// aged makes a pool of scripted workers that takes each for old soon after it got ready.
func (b *bench) aged(boot time.Duration) (*subject, *script) {
	b.limits.Recycle.MaxAge = 500 * time.Millisecond
	sc := &script{boot: boot, run: func(_ context.Context, p []byte) []byte { return p }}
	return b.startWith(sc.launch), sc
}

// used has n requests served by a few callers at once, and returns the workers that were recycled meanwhile.
func (b *bench) used(n int) []retirement {
	sc := &script{run: func(_ context.Context, p []byte) []byte { return p }}
	s := b.startWith(sc.launch)
	s.awaitUp(b.limits.Size)
	const callers = 4
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range n / callers {
				s.served(0)
			}
		})
	}
	all.Wait()
	ended, _ := sc.retirements()
	if st := s.Stats(); st.Requests != uint64(n) || st.Exits["recycled"] > uint64(len(ended)) || st.Crashed > 0 {
		b.Errorf("%d requests, exits %v, crashed %d; want %d, %d recycled, 0", st.Requests, st.Exits, st.Crashed, n, len(ended))
	}
	return ended
}
