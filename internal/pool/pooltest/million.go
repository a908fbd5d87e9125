//go:build long

package pooltest

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// What may come on top between the first tenth of a million requests and its end. A leak of two bytes a request in
// the supervisor, or of one Python object in eight requests of a worker, is more.
const (
	heapGrowth   = 2 << 20
	workerGrowth = 1 << 20
)

// longPatience bounds what takes a moment when all is well.
const longPatience = time.Minute

// MillionRequests sends 10⁶ requests through a pool with 4 real workers, and fails when its memory grows, or that of a
// worker, or when a worker has to be replaced.
func MillionRequests(t *testing.T, factory Factory) {
	const total = 1_000_000
	const warm = total / 10
	spec := Spec(t)
	host, err := worker.NewHost(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	launch := func() (crew.Worker, error) {
		w, err := worker.Launch(host, &spec)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	p := factory(t.Context(), name, launch, pool.Limits{
		Size: 4, QueueLimit: 100, Checkout: longPatience, Operation: longPatience, Drain: longPatience,
	}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), longPatience)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	awaitReady(t, p)

	start := time.Now()
	send(t, p, warm)
	before := weigh(t, p)
	send(t, p, total-warm)
	after := weigh(t, p)
	t.Logf("%d requests in %s; heap %d → %d KB, %d goroutines → %d, workers (KB) %v → %v", total, time.Since(start).Round(time.Second),
		before.heap>>10, after.heap>>10, before.goroutines, after.goroutines, before.workers, after.workers)
	after.isNoMoreThan(t, before)
	if s := p.Stats(); s.Requests != total || s.Spawned != 4 || s.Errors+s.Infrastructure != 0 {
		t.Errorf("%d requests, %d workers spawned, %d failures; want %d, 4, 0", s.Requests, s.Spawned, s.Errors+s.Infrastructure, total)
	}
}

// awaitReady waits until all workers can serve and none does.
func awaitReady(t *testing.T, p pool.Pool) {
	for until := time.Now().Add(longPatience); p.Stats().Ready < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d of 4 workers are ready after %s", p.Stats().Ready, longPatience)
		}
	}
}

func send(t *testing.T, p pool.Pool, total int) {
	const callers = 8
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range total / callers {
				reply, err := p.Do(t.Context(), pool.Request{Command: "echo", Payload: []byte(`{"value":"héllo"}`)})
				if err != nil || string(reply.Payload) != `"héllo"` {
					t.Errorf("Do: %q, %v", reply.Payload, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// weight is what a pool holds when nobody calls. Workers are those of Stats, in KB by id.
type weight struct {
	heap       uint64
	goroutines int
	workers    map[string]uint64
}

func weigh(t *testing.T, p pool.Pool) weight {
	awaitReady(t, p)
	for range 2 { // what a finaliser frees is free after the next
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := weight{heap: m.HeapAlloc, goroutines: runtime.NumGoroutine(), workers: map[string]uint64{}}
	for _, s := range p.Stats().Workers {
		w.workers[s.ID] = s.RSS >> 10
	}
	return w
}

func (w weight) isNoMoreThan(t *testing.T, before weight) {
	if w.heap > before.heap+heapGrowth {
		t.Errorf("the heap has grown from %d to %d bytes", before.heap, w.heap)
	}
	if w.goroutines > before.goroutines {
		t.Errorf("%d goroutines, %d before", w.goroutines, before.goroutines)
	}
	for id, kb := range w.workers {
		if kb == 0 || kb > before.workers[id]+workerGrowth>>10 {
			t.Errorf("worker %s has grown from %d to %d KB", id, before.workers[id], kb)
		}
	}
}
