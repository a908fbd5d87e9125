package router

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// room bounds the bytes of large bodies in memory. It has two parts, so that what a body might come to keeps nobody else
// waiting: the open part is taken as bytes arrive. A body that finds no more in it is given all that it can come to in the
// reserved part, at once, in the order of asking. So no two bodies can each hold what the other waits for: what a body in
// the reserved part holds, it needs no more room to finish.
type room struct {
	mu       sync.Mutex
	open     part                 // guarded by mu
	reserved part                 // guarded by mu
	arriving map[*roomed]struct{} // guarded by mu
	queue    []*roomed            // guarded by mu: those of arriving that wait for room, in the order of asking
}

type part struct{ size, taken int64 } // size never changes

func (p *part) free() int64 { return p.size - p.taken }

// newRoom makes room for bodiesAtOnce bodies of the largest size, of which one is the open part.
func newRoom(largest int64) *room {
	return &room{
		open: part{size: largest}, reserved: part{size: (bodiesAtOnce - 1) * largest}, arriving: map[*roomed]struct{}{},
	}
}

// limit is how many bytes there is room for.
func (r *room) limit() int64 { return r.open.size + r.reserved.size }

// roomed is a body that takes room.
type roomed struct {
	room    *room
	most    int64         // bytes that it can come to
	evict   func()        // ends its arrival; called at most once, while it arrives, with room.mu held
	began   time.Time     // of its arrival
	arrived atomic.Int64  // bytes
	granted chan struct{} // has a value when a wait has got its room

	in      *part         // guarded by room.mu: that it holds room of; nil: none
	held    int64         // guarded by room.mu
	wanted  int64         // guarded by room.mu: while it waits
	since   time.Time     // guarded by room.mu: when its wait began; zero: it doesn't wait
	waited  time.Duration // guarded by room.mu: that its sender wasn't read from
	evicted bool          // guarded by room.mu
}

// enter makes a body known that can come to so many bytes. The caller must call leave.
func (r *room) enter(most int64, began time.Time, evict func()) *roomed {
	b := &roomed{room: r, most: most, evict: evict, began: began, granted: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arriving[b] = struct{}{}
	return b
}

// take gives the body room for size bytes in all, or has it wait for that: then the caller must call await, or leave.
func (b *roomed) take(size int64, now time.Time) (taken bool) {
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	if b.takeLocked(size) {
		return true
	}
	b.wanted, b.since = size, now
	b.room.queue = append(b.room.queue, b)
	b.room.makeWayLocked(now)
	return false
}

// takeLocked: caller must hold room.mu.
func (b *roomed) takeLocked(size int64) bool {
	r := b.room
	switch {
	case size <= b.held:
	case b.in != &r.reserved && size-b.held <= r.open.free():
		b.holdLocked(&r.open, size)
	case b.most <= r.reserved.free() && (len(r.queue) == 0 || r.queue[0] == b):
		b.holdLocked(&r.reserved, b.most)
	default:
		return false
	}
	return true
}

// holdLocked makes the body hold so many bytes of one part, and none of the other; caller must hold room.mu.
func (b *roomed) holdLocked(in *part, size int64) {
	if b.in != nil {
		b.in.taken -= b.held
	}
	in.taken += size
	b.in, b.held = in, size
}

// lookEvery is how often slow senders are looked for while a body waits for room.
const lookEvery = 50 * time.Millisecond

// await waits for the room that take hadn't. It reports whether the body has it now; else its time is over, or ctx, or gone
// says that its sender has left, or it was evicted just before it asked.
func (b *roomed) await(ctx context.Context, until time.Time, gone func() bool) bool {
	timer, tick := time.NewTimer(time.Until(until)), time.NewTicker(lookEvery)
	defer timer.Stop()
	defer tick.Stop()
	for {
		select {
		case <-b.granted:
			return true
		case now := <-tick.C:
			if gone() || b.wasEvicted() {
				return false
			}
			b.room.makeWay(now)
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// settle ends the arrival of a body that has come to size bytes, and gives back what it holds beyond them.
func (b *roomed) settle(size int64) {
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	b.arrivedLocked()
	if b.in != nil && size < b.held {
		b.holdLocked(b.in, size)
	}
	b.room.admitLocked(time.Now())
}

// leave gives back all that the body holds. Again does nothing.
func (b *roomed) leave() { b.settle(0) }

// arrivedLocked: caller must hold room.mu.
func (b *roomed) arrivedLocked() {
	r := b.room
	delete(r.arriving, b)
	if i := slices.Index(r.queue, b); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
}

// wasEvicted reports whether the body lost its room as its sender was slow.
func (b *roomed) wasEvicted() bool {
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	return b.evicted
}

// admitLocked gives room to those who wait, in their order; caller must hold mu.
func (r *room) admitLocked(now time.Time) {
	for i := 0; i < len(r.queue); {
		b := r.queue[i]
		if !b.takeLocked(b.wanted) {
			i++ // what it waits for is the reserved part; one behind it may do with the open one
			continue
		}
		b.waited += now.Sub(b.since)
		b.since = time.Time{}
		b.granted <- struct{}{}
		r.queue = slices.Delete(r.queue, i, i+1)
	}
}

func (r *room) makeWay(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.makeWayLocked(now)
}

// makeWayLocked evicts the slowest sender, if somebody waits, the slow ones hold enough for that, and none that was evicted
// has yet to leave; caller must hold mu.
func (r *room) makeWayLocked(now time.Time) {
	if len(r.queue) == 0 {
		return
	}
	for b := range r.arriving {
		if b.evicted {
			return
		}
	}
	first := r.queue[0]
	for _, way := range []struct {
		in   *part
		need int64
	}{{&r.open, first.wanted - first.held}, {&r.reserved, first.most}} {
		if way.in == &r.open && first.in == &r.reserved {
			continue
		}
		if slowest := r.slowestLocked(way.in, way.need, now); slowest != nil {
			slowest.evicted = true
			slowest.evict()
			return
		}
	}
}

// slowAfter is how long a sender may take for its body before it is slow, and has to make way.
const slowAfter = time.Second

// slowestLocked returns the slowest sender of those in one part; nil when there is none, or when need bytes wouldn't be
// free if all slow ones left. Caller must hold mu.
func (r *room) slowestLocked(in *part, need int64, now time.Time) (slowest *roomed) {
	free, least := in.free(), 0.0
	for b := range r.arriving {
		if b.in != in || !b.since.IsZero() {
			continue
		}
		sending := now.Sub(b.began) - b.waited
		if sending < slowAfter {
			continue
		}
		free += b.held
		if pace := float64(b.arrived.Load()) / sending.Seconds(); slowest == nil || pace < least {
			slowest, least = b, pace
		}
	}
	if free < need {
		return nil
	}
	return slowest
}
