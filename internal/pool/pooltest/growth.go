package pooltest

import (
	"runtime"
	"sync"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
)

// flat sends 10⁵ requests through workers that are recycled after 100 each, and fails when something has come to stay
// since the first tenth of them: a goroutine, a file descriptor, a process.
func (b *bench) flat(launch crew.Launch) {
	b.Helper()
	const total, each = 100_000, 100
	b.limits.Recycle.MaxRequests = each
	s := b.startWith(launch)
	s.awaitUp(b.limits.Size)
	s.echoes(total / 10)
	s.awaitReady(b.limits.Size)
	goroutines, fds, processes := runtime.NumGoroutine(), openFDs(b), len(children(b))
	s.echoes(total - total/10)
	s.awaitReady(b.limits.Size)
	b.until("no more goroutines than before", func() bool { return runtime.NumGoroutine() <= goroutines })
	b.until("no more file descriptors than before", func() bool { return openFDs(b) <= fds })
	b.until("no more processes than before", func() bool { return len(children(b)) <= processes })
	if st := s.Stats(); st.Requests != total || st.Exits["recycled"] < total/each || st.Errors+st.Infrastructure > 0 {
		b.Errorf("%d requests, %d workers recycled, %d failures; want %d, at least %d, 0",
			st.Requests, st.Exits["recycled"], st.Errors+st.Infrastructure, total, total/each)
	}
}

// echoes sends so many requests with eight callers.
func (s *subject) echoes(total int) {
	s.Helper()
	const callers = 8
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range total / callers {
				if _, err := s.Do(s.Context(), pool.Request{Command: "echo", Payload: []byte(`{"value":1}`)}); err != nil {
					s.Errorf("Do: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
}
