package pooltest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Benchmark measures what a pool itself costs: admission, hand-over of a worker and its return, by 1 to 64 callers
// with 8 workers that answer at once.
func Benchmark(b *testing.B, factory Factory) {
	for _, callers := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			limits := pool.Limits{Size: 8, QueueLimit: callers, Checkout: time.Minute, Operation: time.Minute}
			p := factory(b.Context(), name, instant, limits, slog.New(slog.DiscardHandler))
			await(b, patience, "ready workers", func() bool { return p.Stats().Ready == limits.Size })
			b.ReportAllocs()
			b.ResetTimer()
			share(b, callers, func() {
				if _, err := p.Do(b.Context(), pool.Request{Command: "x"}); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			if err := p.Close(context.WithoutCancel(b.Context())); err != nil {
				b.Error(err)
			}
		})
	}
}

// share has b.N operations done by so many callers at once.
func share(b *testing.B, callers int, operation func()) {
	var begun atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				operation()
			}
		})
	}
	all.Wait()
}

// instant makes workers that have answered before they are asked.
func instant() (crew.Worker, error) {
	return &instantWorker{scripted{script: &script{}, id: "i", exited: make(chan struct{})}}, nil
}

type instantWorker struct{ scripted }

func (*instantWorker) RoundTrip(context.Context, worker.Call) worker.Outcome {
	return worker.Outcome{Service: 1}
}

// BenchmarkBesideWaiters measures the same by one caller while so many requests wait for a worker that is busy with their
// key: each hand-over passes them over.
func BenchmarkBesideWaiters(b *testing.B, factory Factory) {
	for _, waiters := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("waiters=%d", waiters), func(b *testing.B) {
			limits := pool.Limits{Size: 2, QueueLimit: waiters + 1, Checkout: time.Hour, Operation: time.Hour}
			free := make(chan struct{})
			sc := &script{run: func(_ context.Context, payload []byte) []byte {
				if payload != nil {
					<-free
				}
				return nil
			}}
			p := factory(b.Context(), name, sc.launch, limits, slog.New(slog.DiscardHandler))
			await(b, patience, "ready workers", func() bool { return p.Stats().Ready == limits.Size })
			var all sync.WaitGroup
			strict := pool.Request{Command: "x", Payload: []byte{1}, Affinity: pool.Affinity{Key: "a", Mode: pool.AffinityStrict}}
			for range waiters + 1 {
				all.Go(func() {
					if _, err := p.Do(b.Context(), strict); err != nil {
						b.Error(err)
					}
				})
			}
			await(b, patience, "waiters", func() bool { s := p.Stats(); return s.Busy == 1 && s.Queued == waiters })
			b.ResetTimer()
			for range b.N {
				if _, err := p.Do(b.Context(), pool.Request{Command: "x"}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			close(free)
			all.Wait()
			if err := p.Close(context.WithoutCancel(b.Context())); err != nil {
				b.Error(err)
			}
		})
	}
}
