package broken

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// queues are faults in who may come in, and who is next.
var queues = []Pool{
	{
		Fault: "last come first served", Version: pool.V1, Test: "TestP18_FirstComeFirstServed", Says: "in the order",
		make: func() fault { return (&room{next: newest}).fault(size) },
	},
	{
		Fault: "last come first served, by V2", Version: pool.V2, Test: "TestP18_FirstComeFirstServed", Says: "in the order",
		make: func() fault { return (&room{next: newest}).fault(size) },
	},
	{
		Fault: "overflow breaks the order", Version: pool.V2, Test: "TestP18_OverflowKeepsTheOrder", Says: "in the order",
		make: func() fault {
			return (&room{next: newest}).fault(func(l pool.Limits) int { return l.Size + l.Overflow })
		},
	},
	{
		Fault: "a worker handed to somebody who has gone is lost", Version: pool.V2, Test: "TestP25_GivingUpAtHandOver",
		Says: "ready workers", Limit: time.Second,
		make: func() fault { return (&room{next: oldest, loses: true}).fault(size) },
	},
	{
		Fault: "a wake-up is lost", Version: pool.V2, Test: "TestP19_IdlePoolServesOneRequest", Says: "an idle pool refused",
		Limit: time.Second,
		make:  func() fault { return (&room{next: oldest, sleeps: true}).fault(size) },
	},
	{
		Fault: "who waits is never woken", Version: pool.V1, Test: "TestP18_FirstComeFirstServed", Says: "operation 1: request_error/cancelled",
		Limit: time.Second,
		make:  func() fault { return (&room{next: oldest, sleeps: true}).fault(size) },
	},
	{
		Fault: "the queue takes one too many", Version: pool.V1, Test: "TestP31_BoundedQueueIsExact", Says: "all but those that fit refused",
		Limit: time.Second,
		make:  func() fault { return fault{limits: func(l *pool.Limits) { l.QueueLimit++ }} },
	},
	{
		Fault: "the queue takes one too few", Version: pool.V2, Test: "TestP31_BoundedQueueIsExact", Says: "want exactly",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.QueueLimit-- }} },
	},
	{
		Fault: "the queue has no end", Version: pool.V2, Test: "TestP31_BoundedQueueIsExact", Says: "all but those that fit refused",
		Limit: time.Second,
		make:  func() fault { return fault{limits: func(l *pool.Limits) { l.QueueLimit = 1 << 20 }} },
	},
	{
		Fault: "the queue's limit is looked at, then the request counted", Version: pool.V2, Test: "TestP31_BoundedQueueIsExact",
		Says: "all but those that fit refused", Limit: time.Second,
		make: lookThenCount,
	},
	{
		Fault: "one more runs than there should be workers", Version: pool.V2, Test: "TestP15_OneMoreWaits", Says: "took only",
		make: func() fault {
			return fault{
				limits: func(l *pool.Limits) { l.Size++ },
				stats:  func(s *pool.Stats) { s.Ready-- },
			}
		},
	},
	{
		Fault: "Configure drops what waits", Version: pool.V2, Test: "TestConfigureSparesWhatWaits", Says: "an operation ended with",
		make: dropping,
	},
	{
		Fault: "V1 runs several at once", Version: pool.V1, Test: "TestP13_OneAtATimeInOrder", Says: "busy 3, overflow 0; want 1",
		build: sideBySide,
	},
}

func size(l pool.Limits) int { return l.Size }
func newest(n int) int       { return n - 1 }
func oldest(int) int         { return 0 }

// room is a waiting room of its own before a right pool.
type room struct {
	next   func(waiting int) int // which of them is next, by its place in the order of coming
	loses  bool                  // a place that is given to a caller who has gone isn't given back
	sleeps bool                  // a place that becomes free is noted, a little later, and nobody woken

	mu      sync.Mutex
	free    int             // guarded by mu
	lost    int             // guarded by mu
	waiting []chan struct{} // guarded by mu
}

func (r *room) fault(places func(pool.Limits) int) fault {
	return fault{
		limits: func(l *pool.Limits) { r.free = places(*l) },
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			if !r.enter(ctx) {
				return pool.Reply{}, pool.NewCancelled("tested")
			}
			defer r.leave()
			return right.Do(ctx, req)
		},
		stats: func(s *pool.Stats) {
			r.mu.Lock()
			defer r.mu.Unlock()
			s.Queued += len(r.waiting)
			s.Ready, s.Busy = s.Ready-r.lost, s.Busy+r.lost
		},
	}
}

func (r *room) enter(ctx context.Context) bool {
	r.mu.Lock()
	if r.free > 0 {
		r.free--
		r.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	r.waiting = append(r.waiting, turn)
	r.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
		r.gone(turn)
		return false
	}
}

// gone takes a caller out who has given up.
func (r *room) gone(turn chan struct{}) {
	r.mu.Lock()
	at := slices.Index(r.waiting, turn)
	if at >= 0 {
		r.waiting = slices.Delete(r.waiting, at, at+1)
	} else if r.loses {
		r.lost++
	}
	r.mu.Unlock()
	if at < 0 && !r.loses {
		r.leave()
	}
}

func (r *room) leave() {
	if r.sleeps {
		time.AfterFunc(time.Millisecond, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.free++
		})
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.waiting); n > 0 {
		at := r.next(n)
		close(r.waiting[at])
		r.waiting = slices.Delete(r.waiting, at, at+1)
		return
	}
	r.free++
}

// lookThenCount leaves a moment between the two.
func lookThenCount() fault {
	var inside, limit atomic.Int64
	return fault{
		limits: func(l *pool.Limits) {
			limit.Store(int64(l.Size + l.Overflow + l.QueueLimit))
			l.QueueLimit = 1 << 20
		},
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			if inside.Load() >= limit.Load() {
				return pool.Reply{}, pool.NewQueueFull("tested", 1, 1, time.Second)
			}
			time.Sleep(time.Millisecond)
			inside.Add(1)
			defer inside.Add(-1)
			return right.Do(ctx, req)
		},
	}
}

// dropping ends all requests that no worker has when limits change.
func dropping() fault {
	var mu sync.Mutex
	waiting := map[*context.CancelFunc]bool{}
	return fault{
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if right.Stats().Busy > 0 { // of a pool with one worker
				mu.Lock()
				waiting[&cancel] = true
				mu.Unlock()
			}
			return right.Do(ctx, req)
		},
		configure: func(right pool.Pool, limits pool.Limits) {
			mu.Lock()
			defer mu.Unlock()
			for cancel := range waiting {
				(*cancel)()
			}
			right.Configure(limits)
		},
	}
}
