package pooltest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// crowds are the stories of many callers; their workers are scripted.
var crowds = map[string]story{
	"TestP17_NeverSharedByTwoCallers": func(b *bench) {
		b.limits.Size, b.limits.QueueLimit = 4, 1000
		sc := &script{run: func(_ context.Context, p []byte) []byte { return p }}
		s := b.startWith(sc.launch)
		s.awaitUp(4)
		const callers, each = 50, 2000
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range each {
					if _, err := s.Do(b.Context(), pool.Request{Command: "x"}); err != nil {
						b.Errorf("Do: %v", err)
						return
					}
				}
			})
		}
		all.Wait()
		if n := sc.shared.Load(); n > 0 {
			b.Errorf("%d operations found their worker taken", n)
		}
		if st := s.Stats(); st.Requests != callers*each || st.Destroyed != 0 {
			b.Errorf("%d requests, %d workers destroyed; want %d, 0", st.Requests, st.Destroyed, callers*each)
		}
	},

	"TestP99_NothingGrows": func(b *bench) {
		b.limits.Size = 4
		b.flat((&script{run: nothing}).launch)
	},

	"TestP18_FirstComeFirstServed": func(b *bench) {
		s, release, order := b.gated(1)
		const n = 50
		var all sync.WaitGroup
		all.Go(func() { s.served(0) })
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		for i := 1; i <= n; i++ {
			all.Go(func() { s.served(byte(i)) })
			s.await("queued", func(st pool.Stats) bool { return st.Queued == i })
		}
		close(release)
		all.Wait()
		order.check(b, n+1)
	},

	"TestP18_DeadWorkerCostsNoPlace": func(b *bench) {
		const n = 8
		s, release, order := b.gated(2)
		defer close(release)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { s.served(byte(i)) })
			s.await("submitted", func(st pool.Stats) bool { return st.Queued+len(order.all()) == i+1 })
		}
		held := s.Stats().Busy
		for i := held; i < n; i++ {
			order.script.spoilt.Store(1)
			b.send(release)
			b.until("the next one served", func() bool { return len(order.all()) == i+1 })
		}
		for range held {
			b.send(release)
		}
		all.Wait()
		order.check(b, n)
	},

	"TestP19_IdlePoolServesOneRequest": func(b *bench) {
		sc := &script{run: func(_ context.Context, p []byte) []byte { return p }}
		s := b.startWith(sc.launch)
		s.awaitUp(1)
		for range 2000 {
			if _, err := s.Do(b.Context(), pool.Request{Command: "x", Deadline: time.Now().Add(b.patience)}); err != nil {
				b.Fatalf("an idle pool refused: %v", err)
			}
		}
	},

	"TestRecallTakesBackWhatWaits": func(b *bench) {
		s, release, order := b.gated(1)
		recall, ends := make(chan struct{}), make(chan *pool.Error, 3)
		begin := func(payload byte) {
			_, err := s.Do(b.Context(), pool.Request{Command: "x", Payload: []byte{payload}, Recall: recall})
			if err == nil {
				ends <- nil
				return
			}
			ends <- s.fourParts(err)
		}
		go begin(0)
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		go begin(1)
		go begin(2)
		s.await("two queued", func(st pool.Stats) bool { return st.Queued == 2 })
		close(recall)
		for range 2 {
			err := <-ends
			s.wants(err, pool.ResourceError, pool.NotAvailable)
			if err != nil && err.Sent {
				b.Error("a request that no worker had says that it was sent")
			}
		}
		close(release)
		if err := <-ends; err != nil {
			b.Errorf("the one that a worker had: %v, want its result", err)
		}
		if ran := order.all(); len(ran) != 1 || ran[0] != 0 {
			b.Errorf("workers got %v, want the first request alone", ran)
		}
	},

	"TestP25_GivingUpAtHandOver": func(b *bench) {
		b.limits.Size = 2
		sc := &script{run: func(context.Context, []byte) []byte { time.Sleep(50 * time.Microsecond); return nil }}
		s := b.startWith(sc.launch)
		s.awaitUp(2)
		var all sync.WaitGroup
		var gaveUp atomic.Int64
		for range 8 {
			all.Go(func() {
				for range 500 {
					ctx, cancel := context.WithCancel(b.Context())
					time.AfterFunc(time.Duration(rand.Int64N(int64(300*time.Microsecond))), cancel)
					if _, err := s.Do(ctx, pool.Request{Command: "x"}); err != nil {
						gaveUp.Add(1)
					}
					cancel()
				}
			})
		}
		all.Wait()
		s.awaitReady(2)
		if gaveUp.Load() == 0 {
			b.Error("nobody gave up: the test has shown nothing")
		}
		if n := sc.shared.Load(); n > 0 {
			b.Errorf("%d operations found their worker taken", n)
		}
	},

	"TestP31_BoundedQueueIsExact": func(b *bench) {
		b.limits.Size, b.limits.Overflow, b.limits.QueueLimit = 2, 1, 10
		s, release, _ := b.gated(2)
		const submits, fits = 1000, 2 + 1 + 10
		var refused, served atomic.Int64
		var all sync.WaitGroup
		for range submits {
			all.Go(func() {
				err := s.do(b.Context(), 0)
				switch {
				case err == nil:
					served.Add(1)
				case err.Type == pool.QueueFull && err.Context["retry_after_ms"] != nil:
					refused.Add(1)
				default:
					b.Errorf("refused with %v", err)
				}
			})
		}
		b.until("all but those that fit refused", func() bool { return refused.Load() >= submits-fits })
		close(release)
		all.Wait()
		if served.Load() != fits {
			b.Errorf("%d served, %d refused; want exactly %d served", served.Load(), refused.Load(), fits)
		}
	},

	"TestP93_FiguresAddUp": func(b *bench) {
		b.limits.Size = 2
		b.limits.Operation = 300 * time.Millisecond
		s := b.ready()
		var all sync.WaitGroup
		stop := make(chan struct{})
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = s.call([]string{"pid", "freeze"}[n%2], nil)
			}
		})
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			st := s.Stats()
			if st.Starting < 0 || st.Ready < 0 || st.Busy < 0 || st.Starting+st.Ready+st.Busy != int(st.Spawned-st.Destroyed) {
				b.Errorf("starting %d + ready %d + busy %d isn't spawned %d - destroyed %d", st.Starting, st.Ready, st.Busy, st.Spawned, st.Destroyed)
			}
		}
		close(stop)
		all.Wait()
		s.awaitReady(2)
		if n := len(b.workers()); n != 2 {
			b.Errorf("%d processes with 2 ready workers", n)
		}
	},
}

// sequence is the order in which operations were run, each known by the first byte of its payload.
type sequence struct {
	script *script // of the workers that run them
	mu     sync.Mutex
	ran    []byte // guarded by mu
}

func (q *sequence) note(operation byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ran = append(q.ran, operation)
}

func (q *sequence) all() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.ran)
}

// check wants n operations that were submitted as 0, 1, 2 and so on.
func (q *sequence) check(b *bench, n int) {
	b.Helper()
	ran := q.all()
	if len(ran) != n || !slices.IsSorted(ran) {
		b.Errorf("%d of %d served, in the order %v", len(ran), n, ran)
	}
}

// gated makes a pool of scripted workers that hold each operation until something comes from release or it is
// closed.
func (b *bench) gated(size int) (s *subject, release chan struct{}, order *sequence) {
	release, order = make(chan struct{}), &sequence{}
	b.limits.Size = size
	sc := &script{run: func(ctx context.Context, p []byte) []byte {
		order.note(p[0])
		select {
		case <-release:
		case <-ctx.Done():
		}
		return p
	}}
	order.script = sc
	s = b.startWith(sc.launch)
	s.awaitUp(size)
	return s, release, order
}

// send lets one held operation end.
func (b *bench) send(release chan<- struct{}) {
	b.Helper()
	select {
	case release <- struct{}{}:
	case <-b.Context().Done():
		b.Fatal("no operation is held")
	}
}

func (s *subject) do(ctx context.Context, payload byte) *pool.Error {
	if _, err := s.Do(ctx, pool.Request{Command: "x", Payload: []byte{payload}}); err != nil {
		return s.fourParts(err)
	}
	return nil
}

// served runs an operation that has to succeed.
func (s *subject) served(payload byte) {
	if err := s.do(s.Context(), payload); err != nil {
		s.Errorf("operation %d: %v", payload, err)
	}
}
