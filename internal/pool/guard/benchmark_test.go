package guard

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

type readyPool struct{ pool.Pool }

func (readyPool) Do(context.Context, pool.Request) (pool.Reply, error) { return pool.Reply{}, nil }

// BenchmarkGuard is what the guard costs a request that succeeds at once.
func BenchmarkGuard(b *testing.B) {
	guarded := New(readyPool{}, "p", pool.Limits{}, quiet)
	request := pool.Request{Deadline: time.Now().Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := guarded.Do(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
