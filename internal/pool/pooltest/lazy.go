package pooltest

import (
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var lazy = map[string]story{
	"TestP1_LazyStartsNothingBeforeFirstUse": func(b *bench) {
		b.limits.Size, b.limits.Lazy = 2, true
		s := b.start()
		time.Sleep(300 * time.Millisecond) // the time in which nothing must start
		if st := s.Stats(); st.Spawned != 0 || st.Unstarted != 2 || st.Desired != 2 || len(children(b)) > 0 {
			b.Errorf("spawned %d, unstarted %d, desired %d, children %v; want 0, 2, 2, none", st.Spawned, st.Unstarted, st.Desired, children(b))
		}
		pid := s.pid()
		if again := s.pid(); again != pid {
			b.Errorf("worker %d, then %d: the second request needed no other one", pid, again)
		}
		if st := s.Stats(); st.Spawned != 1 || st.Unstarted != 1 {
			b.Errorf("spawned %d, unstarted %d after one request after the other; want 1, 1", st.Spawned, st.Unstarted)
		}
		_, _ = s.call("end", args{"how": "os._exit"})
		s.await("the crash", func(st pool.Stats) bool { return st.Destroyed == 1 })
		if st := s.Stats(); st.Unstarted != 2 || st.Spawned != 1 {
			b.Errorf("unstarted %d, spawned %d after a crash; want 2, 1: nothing waits", st.Unstarted, st.Spawned)
		}
		s.must("echo", args{"value": "another one"})
		s.limits.Lazy = false
		s.Configure(s.limits)
		s.awaitReady(2)
	},

	"TestP3_LazyNeverExceedsSizeUnderABurst": func(b *bench) {
		b.limits.Size, b.limits.Lazy = 3, true
		sc := &script{boot: 20 * time.Millisecond, run: nothing}
		s := b.startWith(sc.launch)
		var all sync.WaitGroup
		for range 60 {
			all.Go(func() { s.served(0) })
		}
		all.Wait()
		if n := sc.made.Load(); n != 3 {
			b.Errorf("a burst of 60 requests started %d workers, want 3", n)
		}
	},

	"TestP8_LazyGoesOnTrying": func(b *bench) {
		b.limits.Lazy = true
		b.spec.Module = "broken"
		s := b.start()
		_, err := s.callAs(b.Context(), "echo", args{"value": 1}, time.Now().Add(50*time.Millisecond))
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		boot := s.awaitBoot() // two failures, the second one's start being asked for by nobody
		_, err = s.call("echo", args{"value": 1})
		s.wants(err, pool.ResourceError, pool.NotAvailable)
		if n := s.Stats().Unstarted; n != 0 {
			b.Errorf("%d can be started, it says, though none can", n)
		}
		s.await("another try without a request", func(st pool.Stats) bool { return st.Boot != nil && st.Boot.Attempts > boot.Attempts })
	},
}
