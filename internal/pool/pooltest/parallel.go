package pooltest

import (
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var checkoutOnly = map[string]story{
	"TestP14_Parallel": func(b *bench) {
		const n, ms = 4, 1000
		b.limits.Size = n
		s := b.ready()
		begin := time.Now()
		s.sleepAll(n, ms)
		if took := time.Since(begin); took >= ms*time.Millisecond*3/2 {
			b.Errorf("%d sleeps of %d ms on %d workers took %s", n, ms, n, took)
		}
	},

	"TestP15_OneMoreWaits": func(b *bench) {
		const n, ms = 3, 200
		b.limits.Size = n
		s := b.ready()
		begin := time.Now()
		s.sleepAll(n+1, ms)
		if took := time.Since(begin); took < 2*ms*time.Millisecond {
			b.Errorf("%d sleeps of %d ms on %d workers took only %s", n+1, ms, n, took)
		}
	},

	"TestP16_StalledOperationDelaysNobody": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		stopped := s.pid() // the one that was used last is taken next
		if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
			b.Fatal(err)
		}
		stalled := s.async("echo", args{"value": strings.Repeat("x", 1<<20)}) // more than a pipe holds
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		fastest := time.Hour
		for range 50 {
			begin := time.Now()
			s.Stats()
			fastest = min(fastest, time.Since(begin))
		}
		if fastest >= 10*time.Millisecond {
			b.Errorf("Stats takes %s beside a stalled operation", fastest)
		}
		s.must("echo", args{"value": "the other worker"})
		if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil {
			b.Fatal(err)
		}
		if r := <-stalled; r.err != nil {
			b.Errorf("the stalled operation: %v", r.err)
		}
	},

	"TestP18_OverflowKeepsTheOrder": func(b *bench) {
		const n = 8
		b.limits.Overflow = 1
		s, release, order := b.gated(1)
		defer close(release)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { s.served(byte(i)) })
			s.await("submitted", func(st pool.Stats) bool { return st.Queued+st.Busy == i+1 && st.Busy > 0 })
		}
		s.await("an extra worker busy", func(st pool.Stats) bool { return st.Busy == 2 })
		b.until("it runs its operation", func() bool { return len(order.all()) == 2 })
		for i := 2; i < n; i++ {
			b.send(release)
			b.until("the next one served", func() bool { return len(order.all()) == i+1 })
		}
		for range 2 {
			b.send(release)
		}
		all.Wait()
		order.check(b, n)
	},

	"TestP14_OverflowComesAndGoes": func(b *bench) {
		b.limits.Size, b.limits.Overflow = 1, 2
		s := b.ready()
		sleeps := make([]<-chan result, 3)
		for i := range sleeps {
			sleeps[i] = s.async("sleep", args{"ms": 3000, "value": "slept"})
		}
		s.await("two extra workers under load", func(st pool.Stats) bool { return st.Overflow == 2 && st.Busy == 3 && st.Queued == 0 })
		for _, sleep := range sleeps {
			s.succeeded(sleep)
		}
		s.await("extra workers retired when idle", func(st pool.Stats) bool {
			return st.Overflow == 0 && st.Ready == 1 && st.Exits["retired"] == 2 && st.Crashed == 0
		})
	},
}

func (s *subject) sleepAll(n, ms int) {
	s.Helper()
	running := make([]<-chan result, n)
	for i := range running {
		running[i] = s.async("sleep", args{"ms": ms, "value": "slept"})
	}
	for _, r := range running {
		s.succeeded(r)
	}
}

func (s *subject) succeeded(running <-chan result) {
	s.Helper()
	if r := <-running; r.err != nil || r.value != "slept" {
		s.Errorf("an operation ended with %v, %v", r.value, r.err)
	}
}
