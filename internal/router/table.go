package router

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/trip"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// target is a slot with what it serves.
type target struct {
	slot     *slotclient.Client
	revision string
	version  pool.Version
	counters *counters
	workers  int           // that the slot may have: size and overflow
	places   int           // for requests in the slot, see placesOf
	inside   *atomic.Int64 // requests that are with the slot now, of any revision; shared by the slot's targets
	watch    *watch        // of what is the canary; nil: it isn't
}

// maxPlaces is the most requests that one slot is sent at a time. Each needs a connection of its own, and the slot
// takes 4096, of which some are left for control connections and for a router that is being replaced.
const maxPlaces = 4000

// placesOf returns how many requests a slot is sent at a time: as many as its pool lets in, so that one more would be
// refused there as well. running is how many of them can have a worker.
func placesOf(running int, l limits) int { return min(running+l.queue, maxPlaces) }

// ready reports whether the slot has workers of this revision that have come up, and can be reached.
func (t *target) ready() bool { return t.slot.Serving() && t.slot.Ready(t.revision) }

// table is what requests are routed by. It never changes: a new snapshot makes a new one.
type table struct {
	snapshot *controlpb.Snapshot
	stable   *target
	canary   *target    // nil: none
	weight   uint32     // of the canary, in 1/split.Whole; 0 while it is tripped, whatever the snapshot says
	trip     *trip.Trip // against what is the canary; nil: none
	match    *match
	sticky   bool // sessions keep to one revision
	limits   limits
}

// limits bound a request's life, and a worker's.
type limits struct {
	queue                      int
	checkout, operation, drain time.Duration
	start                      time.Duration // of a worker; 0: the slot's default
	recycle                    pool.Recycle
	lazy                       bool
}

func limitsOf(s *controlpb.Snapshot) limits {
	l := s.GetLimits()
	return limits{
		queue:     int(l.GetQueueLimit()),
		checkout:  millis(l.GetCheckoutMs()),
		operation: millis(l.GetOperationMs()),
		drain:     millis(l.GetDrainMs()),
		start:     millis(l.GetStartMs()),
		recycle:   recycleOf(l.GetRecycle()),
		lazy:      l.GetLazy(),
	}
}

func recycleOf(r *controlpb.Recycle) pool.Recycle {
	return pool.Recycle{
		MaxRequests: int(min(r.GetMaxRequests(), math.MaxInt32)), MaxAge: millis(r.GetMaxAgeMs()), MaxIdle: millis(r.GetMaxIdleMs()),
		MaxMemory: r.GetMaxMemoryBytes(),
	}
}

// millis bounds a duration from the wire to a year, so that sums of them can't overflow.
func millis(ms uint64) time.Duration {
	const year = 365 * 24 * time.Hour
	return min(time.Duration(min(ms, uint64(year/time.Millisecond)))*time.Millisecond, year)
}

// role says by which rule a request found its slot.
type role int

const (
	stable role = iota
	canary
	pinned // it asked for a version
)

// pick returns the slot that a request of that role goes to now, nil when it has to wait: pick says only what is
// sure. A canary that has no worker up yet leaves its requests to the stable, a stable that is away leaves its own
// to the canary as long as that has a weight; a stable that was never up is waited for, because the canary must not
// get a whole pod's traffic in the moment before its stable has started. What the stable keeps waits for it.
func (t *table) pick(r role, c *call) *target {
	switch {
	case r == pinned:
		if found := t.serving(c.version); found != nil && found.slot.Serving() {
			return found
		}
		return nil
	case r == canary && t.canaryTakes():
		return t.canary
	case t.stable.slot.Serving():
		return t.stable
	case t.canaryTakesOver(c) && t.stable.slot.HasBeenReady(t.stable.revision):
		return t.canary
	}
	return nil
}

// canaryTakes reports whether the canary may get requests, and can.
func (t *table) canaryTakes() bool { return t.canary != nil && t.weight > 0 && t.canary.ready() }

// canaryTakesOver reports whether the canary may get a request in the stable's place.
func (t *table) canaryTakesOver(c *call) bool { return t.canaryTakes() && !t.keeps(c) }

// is reports whether two targets, maybe of different tables, are the same slot with the same revision.
func (t *target) is(o *target) bool {
	return t != nil && o != nil && t.slot == o.slot && t.revision == o.revision
}

// names reports whether requests are sent to that target.
func (t *table) names(to *target) bool { return to.is(t.stable) || to.is(t.canary) }

// other returns where a request may go that its slot turned away unstarted, nil when it may go nowhere else.
func (t *table) other(refused *target, c *call) *target {
	switch {
	case refused.is(t.canary) && t.stable.slot.Serving():
		return t.stable
	case refused.is(t.stable) && t.canaryTakesOver(c):
		return t.canary
	}
	return nil
}

// serving returns the target of that version, the stable first; nil when there is none.
func (t *table) serving(version pool.Version) *target {
	for _, candidate := range []*target{t.stable, t.canary} {
		if candidate != nil && candidate.version == version {
			return candidate
		}
	}
	return nil
}

// expected returns the target that a request of that role waits for, nil when no slot has the version any more.
func (t *table) expected(r role, version pool.Version) *target {
	if r == pinned {
		return t.serving(version)
	}
	return t.stable
}

// slotConfig is what one slot of a snapshot is told.
func slotConfig(poolName string, slot *controlpb.Slot, l limits) slotproto.Config {
	cfg := slotproto.Config{
		Pool: poolName, Queue: l.queue, Checkout: l.checkout, Op: l.operation, Drain: l.drain, Start: l.start, Recycle: l.recycle,
		Lazy: l.lazy,
	}
	rev := slot.GetRevision()
	if rev == nil {
		return cfg
	}
	cfg.Revision, cfg.Version = rev.GetHash(), pool.Version(rev.GetVersion())
	cfg.Size, cfg.Overflow = int(slot.GetSize()), int(slot.GetOverflow())
	cfg.Worker = &slotproto.Worker{
		Python: rev.GetPython(), WorkingDir: rev.GetWorkingDir(), Module: rev.GetModule(), Preload: slotproto.Preload(rev.GetPreload()),
		Concurrency: int(rev.GetConcurrency()),
	}
	for _, e := range rev.GetEnv() {
		cfg.Worker.Env = append(cfg.Worker.Env, slotproto.EnvVar{Name: e.GetName(), Value: e.GetValue()})
	}
	return cfg
}
