package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/state"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// watch is a trip.Watch of one canary under one token, with the way to take its requests back.
type watch struct {
	revision, token string
	// recall is closed by recallLocked when the canary has tripped, or has lost its weight.
	recall chan struct{}

	mu   sync.Mutex
	seen *trip.Watch // guarded by mu

	warned sync.Once // that it can't be tripped
}

func newWatch(canary *target, token string) *watch {
	return &watch{
		revision: canary.revision, token: token, recall: make(chan struct{}), seen: trip.NewWatch(canary.revision, canary.workers),
	}
}

// recalled reports whether the requests of this canary were taken back. A nil watch's never are.
func (w *watch) recalled() bool {
	if w == nil {
		return false
	}
	select {
	case <-w.recall:
		return true
	default:
		return false
	}
}

// with calls f with what was seen.
func (w *watch) with(f func(*trip.Watch)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.seen)
}

func (w *watch) verdict(now time.Time) (reason trip.Reason, message string) {
	w.with(func(seen *trip.Watch) { reason, message = seen.Verdict(now) })
	return reason, message
}

// holdTripLocked gives a new table its watch, and the trip that there is against its canary. A leader's snapshot may
// end the trip; caller must hold routing.
func (r *Router) holdTripLocked(t *table) {
	now := trip.Situation{
		Stable: t.stable.revision, Token: t.snapshot.GetTrip().GetToken(), ReportOnly: t.snapshot.GetTrip().GetReportOnly(),
	}
	if t.canary != nil {
		now.Canary = t.canary.revision
	}
	if r.tripped != nil && t.snapshot.GetEpoch() > 0 && r.tripped.Over(now) {
		r.log.Info("trip is over", "revision", r.tripped.Revision, "reason", r.tripped.Reason, "canary", now.Canary)
		r.tripped, r.watch = nil, nil
	}
	if t.canary == nil {
		return
	}
	if r.watch == nil || r.watch.revision != now.Canary || r.watch.token != now.Token {
		r.watch = newWatch(t.canary, now.Token)
	}
	r.watch.with(func(seen *trip.Watch) { seen.Resize(t.canary.workers) })
	t.canary.watch = r.watch
	if r.tripped.Against(now.Canary) {
		r.enforceLocked(t, r.tripped)
	}
}

// enforceLocked puts a trip against t's canary into t, which isn't published yet; caller must hold routing.
func (r *Router) enforceLocked(t *table, made *trip.Trip) {
	t.trip = made
	if !made.Stops(t.canary.revision) {
		return
	}
	t.weight = 0
	r.recallLocked(t.canary.watch)
}

// recallLocked takes back the requests of a canary that no worker of it has; watchSlots tells the slot once the table has
// changed. Caller must hold routing.
func (r *Router) recallLocked(of *watch) {
	if !of.recalled() {
		close(of.recall)
		r.recalls.Store(true)
	}
}

// takeBackLocked gives what waits in the slot of t's canary to the stable, as t, which isn't published yet, leaves the
// canary no weight. Should the canary get a weight again, that begins anew. While the stable can't serve, what waits stays
// where it is. Caller must hold routing.
func (r *Router) takeBackLocked(t *table) {
	if !t.stableServes() {
		return
	}
	r.recallLocked(t.canary.watch)
	left := *t.canary
	r.watch = newWatch(&left, left.watch.token)
	left.watch, t.canary = r.watch, &left
}

// observe tells the canary's watch how a request ended, and trips the canary before the request is answered if that was
// one failure too many. Only failures of requests that may have reached Python count: others have lost nothing, and went
// to the stable. A timeout or a refusal for load says nothing about the pool's machinery, either way.
func (r *Router) observe(c *call, to *target, reply slotclient.Reply, end outcome, err error, now time.Time) {
	if to.watch == nil {
		return
	}
	if err == nil {
		to.watch.with((*trip.Watch).Answered)
		return
	}
	var e *pool.Error
	sent := errors.As(err, &e) && e.Sent
	switch end {
	case failed, upstreamError:
		to.watch.with((*trip.Watch).Answered)
	case callerError:
		if sent && e.Type != pool.Cancelled { // a worker looked at it
			to.watch.with((*trip.Watch).Answered)
		}
	case infrastructure:
		if sent && e.Type != pool.FrameTooLarge { // that is the handler's result
			began := c.sent
			if reply.Service > 0 {
				began = now.Add(-reply.Service)
			}
			to.watch.with(func(seen *trip.Watch) { seen.Failed(began, now, e.Error()) })
			r.judge(now)
		}
	case succeeded, timedOut, shed, expired, unavailable, outcomes:
	}
}

// watchSlots looks at the slots at each of their changes, and does what a trip or a rollback leaves to do: it takes back
// what waits in the canary's slot, and keeps the trip on disk. Until ctx ends.
func (r *Router) watchSlots(ctx context.Context) {
	defer func() { _ = r.keepTrip() }()
	for {
		changed, slotA, slotB := r.news.next(), r.slots[state.SlotA].Changed(), r.slots[state.SlotB].Changed()
		r.lookAtCanary(time.Now())
		if r.recalls.Swap(false) {
			for _, slot := range r.slots { // the canary may have left the table by now
				slot.Recall()
			}
		}
		var again <-chan time.Time
		if r.keepTrip() != nil {
			again = time.After(keepAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-slotA:
		case <-slotB:
		case <-ctx.Done():
			return
		}
	}
}

// lookAtCanary tells the canary's watch what its slot reports.
func (r *Router) lookAtCanary(now time.Time) {
	t := r.table.Load()
	if t == nil || t.canary == nil {
		return
	}
	st := t.canary.slot.State().Status
	report := trip.Slot{Revision: st.Revision, Crashed: st.PoolCrashed}
	if st.Boot != nil {
		report.Boot, report.Starts, report.Crashing = st.Boot.Message, st.Boot.Attempts, st.Boot.Crashing
	}
	t.canary.watch.with(func(seen *trip.Watch) { seen.Slot(report, t.weight > 0, now) })
	r.judge(now)
}

// judge trips the canary when its watch says so.
func (r *Router) judge(now time.Time) {
	t := r.table.Load()
	if t == nil || t.canary == nil || t.weight == 0 || t.trip != nil {
		return
	}
	reason, message := t.canary.watch.verdict(now)
	if reason == "" {
		return
	}
	w := t.canary.watch
	if _, _, err := r.trip(w, reason, message, now); errors.Is(err, errStableAway) {
		w.warned.Do(func() {
			r.log.Warn("the canary would be tripped, but the stable can't take its requests", "revision", w.revision,
				"reason", reason, "seen", message)
		})
	}
}

// Why there is no trip.
var (
	errNoCanary   = errors.New("there is no canary")
	errStableAway = errors.New("the stable has no worker that can serve, so it couldn't take the canary's requests; " +
		"poold ctl status says why, and once it serves the trip can be made")
)

// trip takes the canary off the traffic, if it is still what was watched (nil: whatever it is) and the stable can take
// over. It returns the tables before and after, which are the same when a trip holds already: it is left as it is.
func (r *Router) trip(of *watch, reason trip.Reason, message string, now time.Time) (before, after *table, _ error) {
	r.routing.Lock()
	defer r.routing.Unlock()
	t := r.table.Load()
	switch {
	case t == nil || t.canary == nil || of != nil && t.canary.watch != of:
		return nil, nil, errNoCanary
	case t.trip.Stops(t.canary.revision) || t.trip != nil && reason != trip.ByHand:
		return t, t, nil
	case !t.stableServes():
		return nil, nil, errStableAway
	}
	rule := t.snapshot.GetTrip()
	made := &trip.Trip{
		Revision: t.canary.revision, Token: rule.GetToken(), Reason: reason, Message: message, At: now,
		ReportOnly: rule.GetReportOnly() && reason != trip.ByHand, // a person means what they say
	}
	next := *t
	r.tripped = made
	r.enforceLocked(&next, made)
	r.installLocked(&next)
	r.trips.broadcast()
	r.log.Warn("canary tripped", "revision", made.Revision, "version", t.canary.version, "slot", t.canary.slot.Name(),
		"reason", reason, "seen", message, "weight", t.weight, "reportOnly", made.ReportOnly)
	return t, &next, nil
}

// stableServes reports whether the stable has a worker that serves at this moment, or starts one for a request.
func (t *table) stableServes() bool {
	st := t.stable.slot.State().Status
	return t.stable.ready() && st.Ready+st.Busy+st.Unstarted > 0
}

// keepAgain is the wait before a trip that couldn't be kept on disk is tried again, unless something else changes before.
const keepAgain = 10 * time.Second

// keepTrip makes the disk hold the trip that there is. Should that fail, the trip is in force all the same; it is logged
// once for each trip.
func (r *Router) keepTrip() error {
	r.keeping.Lock()
	defer r.keeping.Unlock()
	r.routing.Lock()
	tripped := r.tripped
	r.routing.Unlock()
	if tripped == r.keptTrip {
		return nil
	}
	err := r.store.SaveTrip(tripped)
	switch {
	case err == nil:
		r.keptTrip, r.keepFails = tripped, false
	case !r.keepFails || tripped != r.unkeptTrip:
		r.keepFails, r.unkeptTrip = true, tripped
		r.log.Error("the trip is as it should be, and would not be if the router restarted; trying again", "tripped", tripped != nil, "error", err)
	}
	return err
}
