//go:build long

package pooltest

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// RunLong checks what takes minutes to show.
func RunLong(t *testing.T, version pool.Version, factory Factory) {
	tellAll(t, long, version, factory, settings{patience: longPatience, up: func() {}})
	tellAll(t, longForked, version, factory, settings{patience: longPatience, up: func() {}, forked: true})
}

// RunAllForked checks the whole contract with workers that are forked from a zygote.
func RunAllForked(t *testing.T, version pool.Version, factory Factory) {
	run(t, version, factory, settings{patience: patience, up: func() {}, forked: true})
}

// RunLongShared checks the same with workers that serve four requests at the same time.
func RunLongShared(t *testing.T, version pool.Version, factory Factory) {
	tellAll(t, long, version, factory, settings{patience: longPatience, up: func() {}, shared: true})
	tellAll(t, longForked, version, factory, settings{patience: longPatience, up: func() {}, forked: true, shared: true})
}

var long = map[string]story{
	"TestP75_KilledAtRandomForAMinute": func(b *bench) {
		b.limits.Size = 2
		b.killing(time.Minute, b.fours())
	},
}

// longForked need a thousand workers, one after the other.
var longForked = map[string]story{
	"TestP27_ThousandLateReplies": func(b *bench) {
		b.limits.Size = 4
		b.fours()
		b.lateReplies(1000)
	},

	"TestP99_NothingGrowsInAThousandProcesses": func(b *bench) {
		b.limits.Size = 4
		b.fours()
		b.flat(b.launch)
	},
}

// fours lets workers that can serve four requests at the same time, if they can serve several, and returns how many.
func (b *bench) fours() int {
	if !b.shared {
		return 1
	}
	b.spec.Concurrency, b.limits.Concurrency = 4, 4
	return 4
}

// lateReplies has so many requests time out just when their reply is written, and sees that each caller only ever gets
// its own. There are more workers than callers, as a request that waits for one isn't late but never sent.
func (b *bench) lateReplies(timeouts int64) {
	b.Helper()
	s := b.ready()
	callers := 2
	if b.version == pool.V1 {
		callers = 1
	}
	var late atomic.Int64
	rounds := s.each(callers, func(caller int) result {
		for n := 0; late.Load() < timeouts; n++ {
			value := strconv.Itoa(caller) + "/" + strconv.Itoa(n)
			// Replies come from half a millisecond before the deadline to one after it.
			own := args{"value": value, "after_ms": float64(n%16-5) / 10}
			switch v, err := s.callAs(b.Context(), "answer_at_deadline", own, time.Now().Add(20*time.Millisecond)); {
			case err == nil && v == value:
			case err != nil && err.Type == pool.CommandTimeout:
				late.Add(1)
			case err == nil || err.Type != pool.DeadlineExceeded:
				return result{v, err}
			}
			if v, err := s.call("echo", args{"value": value}); err != nil || v != value {
				return result{v, err}
			}
		}
		return result{}
	})
	for r := range rounds {
		if r.err != nil || r.value != nil {
			b.Errorf("among late replies: %v, %v", r.value, r.err)
		}
	}
	st := s.Stats()
	b.Logf("%d late replies among %d requests, %d workers", late.Load(), st.Requests, st.Spawned)
}
