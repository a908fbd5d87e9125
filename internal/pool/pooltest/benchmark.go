package pooltest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Benchmark measures what a pool itself costs: ns/op of Do with 4 workers that answer at once, for 1 to 64 callers.
// With more callers than workers it is the hand-over from one to the next. ns/op is of all callers together.
func Benchmark(b *testing.B, factory Factory) {
	for _, callers := range []int{1, 2, 4, 8, 16, 32, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkDo(b, factory, callers) })
	}
}

func benchmarkDo(b *testing.B, factory Factory, callers int) {
	launch := func() (crew.Worker, error) { return &instant{gone: make(chan struct{})}, nil }
	p := factory(b.Context(), name, launch, pool.Limits{
		Size: 4, QueueLimit: callers, Checkout: time.Minute, Operation: time.Minute, Drain: time.Minute,
	}, slog.New(slog.DiscardHandler))
	defer func() {
		if err := p.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	}()
	for p.Stats().Ready < 4 {
		<-p.Changed()
	}
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for caller := range callers {
		calls := b.N / callers
		if caller < b.N%callers {
			calls++
		}
		all.Go(func() {
			for range calls {
				if _, err := p.Do(b.Context(), pool.Request{Command: "x"}); err != nil {
					b.Errorf("Do: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}

// instant is a worker that does nothing in no time. What it embeds is nil: a method that the pool shouldn't need for
// operations that succeed ends the benchmark.
type instant struct {
	crew.Worker
	once sync.Once
	gone chan struct{}
}

func (*instant) ID() string                    { return "instant" }
func (*instant) PID() int                      { return 0 }
func (*instant) Ready(context.Context) error   { return nil }
func (*instant) Served() uint64                { return 0 }
func (*instant) RSS() uint64                   { return 0 }
func (*instant) Exit() worker.Exit             { return worker.Exit{} }
func (*instant) Ending() (worker.Reason, bool) { return worker.ReasonClosed, true }
func (w *instant) Exited() <-chan struct{}     { return w.gone }
func (w *instant) Gone() <-chan struct{}       { return w.gone }
func (w *instant) Discard(worker.Reason)       { w.once.Do(func() { close(w.gone) }) }
func (w *instant) Kill(r worker.Reason)        { w.Discard(r) }

func (*instant) RoundTrip(context.Context, worker.Call) worker.Outcome {
	return worker.Outcome{Service: time.Nanosecond}
}
