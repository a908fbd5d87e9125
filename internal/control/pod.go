package control

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// replacement is how long a slot may lack a worker before it counts as short of workers: longer than a worker that
// crashed takes to be replaced, so that a single crash doesn't show as an unready pool.
const replacement = 10 * time.Second

// podState is what is known of one router. The fleet's mu guards it.
type podState struct {
	name     string
	instance string
	link     *link     // nil while disconnected
	since    time.Time // when it connected or disconnected last
	inForce  order     // last acknowledged or reported; stays when the stream ends
	refused  refusal
	slots    map[string]*slotState
	totals   map[string]totals // by revision: the last report's, to tell what is new in the next
	baseline bool              // totals hold a report of this instance
	seen     seen
	reported time.Time       // when the last report came; zero: none yet
	tripped  *TripView       // as the last report says, of an earlier process too: a router keeps its trip. Immutable
	back     *RolledBackView // as the last Hello said. Immutable
	// reportedUnder is the snapshot that was in force when the last report of the present stream was made.
	reportedUnder order
	silent        bool // it was told that no report comes
}

// link is a stream in progress.
type link struct {
	wakeup chan struct{} // capacity 1: there is a snapshot to send
	ended  chan struct{} // closed: the stream must end, another one took its place or the pool is gone
}

// order of a snapshot.
type order struct{ epoch, sequence uint64 }

func (o order) less(p order) bool {
	return o.epoch < p.epoch || (o.epoch == p.epoch && o.sequence < p.sequence)
}

func orderOf(m interface {
	GetEpoch() uint64
	GetSequence() uint64
}) order {
	return order{m.GetEpoch(), m.GetSequence()}
}

// refusal is a router's answer to a snapshot that it couldn't put in force.
type refusal struct {
	of     order
	reason string
}

// slotState is the last report of a slot, cut to its bounds, and since when it has been short of workers. Up in the
// view: it once had all the workers of this revision and number, those of a lazy pool that it would start counted in.
type slotState struct {
	view    SlotView
	busy    int
	workers map[string]workers // by revision
	short   time.Time          // since when it lacks some; zero: it doesn't
}

// connect makes a stream the pod's only one and says at once what there is to send. It refuses a pod of another pool
// of that name than the one that is reconciled: the pool may have been made anew since the pod was authenticated, or
// the cache, which authentication asks, may be behind.
func (f *Fleet) connect(m Member, hello *controlpb.Hello) (*link, error) {
	defer f.changed(m.Pool)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pool(m.Pool)
	if p.uid == "" {
		p.uid = m.PoolUID
	}
	if p.uid != m.PoolUID {
		return nil, otherPool(types.NamespacedName{Namespace: m.Pool.Namespace, Name: m.Pod}, m.Pool)
	}
	pod, ok := p.pods[m.PodUID]
	if !ok {
		pod = &podState{name: m.Pod, seen: seen{}}
		p.pods[m.PodUID] = pod
	}
	pod.unlink(pod.link)
	pod.greet(hello)
	pod.back = rolledBackOf(hello)
	pod.reportedUnder = order{} // what was reported before this stream is no news of the pod as it is now
	pod.link, pod.since = &link{wakeup: make(chan struct{}, 1), ended: make(chan struct{})}, f.clock()
	if p.snapshot != nil {
		pod.wake()
	}
	f.metrics.Connected.Inc()
	return pod.link, nil
}

// greet starts over when the router is another process than before. One that only changed its stream, as each does when
// its token is renewed, goes on where it was: what it has in force it says itself.
func (p *podState) greet(hello *controlpb.Hello) {
	instance := bounded(hello.GetInstance(), maxName)
	if p.instance != instance || p.slots == nil {
		p.slots = map[string]*slotState{}
		p.totals, p.baseline = nil, false
		p.inForce, p.refused = order{}, refusal{}
	} else {
		p.inForce = orderOf(hello)
	}
	p.instance = instance
}

// disconnect ends a stream, unless another took its place.
func (f *Fleet) disconnect(m Member, l *link) {
	defer f.changed(m.Pool)
	f.metrics.Connected.Dec()
	f.mu.Lock()
	defer f.mu.Unlock()
	if pod := f.find(m); pod != nil && pod.link == l {
		pod.unlink(l)
		pod.since = f.clock()
	}
}

// find returns a pod's state, or nil. Caller holds mu.
func (f *Fleet) find(m Member) *podState {
	if p, ok := f.pools[m.Pool]; ok {
		return p.pods[m.PodUID]
	}
	return nil
}

// unlink ends l if it is the pod's stream. Caller holds mu.
func (p *podState) unlink(l *link) {
	if l != nil && p.link == l {
		close(l.ended)
		p.link = nil
	}
}

// wake tells the sender that there is a newer snapshot. Caller holds mu.
func (p *podState) wake() {
	if p.link == nil {
		return
	}
	select {
	case p.link.wakeup <- struct{}{}:
	default:
	}
}

// current returns what is to be said on a stream, or nil: nothing yet, or nothing more.
func (f *Fleet) current(m Member, l *link) *controlpb.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pod := f.find(m); pod != nil && pod.link == l {
		return f.pools[m.Pool].snapshot
	}
	return nil
}

// acknowledge records that a pod has a snapshot in force.
func (f *Fleet) acknowledge(m Member, l *link, ack order) {
	f.update(m, l, func(_ *poolState, pod *podState) bool { return pod.advance(ack) })
}

// advance moves what is in force forward and tells whether it moved.
func (p *podState) advance(to order) bool {
	if !p.inForce.less(to) {
		return false
	}
	p.inForce = to
	return true
}

// refuse records that a pod couldn't put a snapshot in force.
func (f *Fleet) refuse(m Member, l *link, nack *controlpb.Nack) {
	f.metrics.Refused.Inc()
	f.update(m, l, func(_ *poolState, pod *podState) bool {
		pod.refused = refusal{of: orderOf(nack), reason: bounded(nack.GetReason(), maxReason)}
		return true
	})
}

// report records what a pod says of itself.
func (f *Fleet) report(m Member, l *link, r *controlpb.Report) {
	f.update(m, l, func(p *poolState, pod *podState) bool {
		now := f.clock() // in the order of the reports
		since := until(pod.reported, now)
		pod.count(&p.figures, r.GetRevisions(), since)
		returned := pod.missed(now)
		moved := pod.advance(orderOf(r))
		tripped := pod.trips(r.GetTrip())
		first := pod.reportedUnder != orderOf(r)
		pod.reportedUnder = orderOf(r)
		return pod.observe(p.figures, r.GetSlots(), since) || moved || tripped || returned || first
	})
}

// missed takes down that a report came, and tells whether it had been missing.
func (p *podState) missed(now time.Time) bool {
	before := PodView{Connected: p.link != nil, Since: p.since, Reported: p.reported}
	p.reported = now
	was := p.silent
	p.silent = false
	return was || before.Stale(now)
}

// Missed tells of the pools with a pod whose reports have ceased to come since the last call. Nothing else does: a pod that is cut
// off keeps its stream for as long as keep-alives may take.
func (f *Fleet) Missed() {
	f.mu.Lock()
	now := f.clock()
	var pools []types.NamespacedName
	for name, pool := range f.pools {
		news := false
		for _, pod := range pool.pods {
			view := PodView{Reported: pod.reported}
			if !pod.silent && view.Silent(now) && now.Sub(pod.since) > staleAfter {
				pod.silent, news = true, true
			}
		}
		if news {
			pools = append(pools, name)
		}
	}
	f.mu.Unlock()
	for _, name := range pools {
		f.changed(name)
	}
}

// update changes a pod's state, and speaks of it when the change matters. What comes by a stream that was superseded is
// of another process, or of another pool, and says nothing of this one.
func (f *Fleet) update(m Member, l *link, change func(*poolState, *podState) bool) {
	f.mu.Lock()
	pod := f.find(m)
	if pod == nil || pod.link != l {
		f.mu.Unlock()
		return
	}
	matters := change(f.pools[m.Pool], pod)
	f.mu.Unlock()
	if matters {
		f.changed(m.Pool)
	}
}

// observe takes the slots' states over and tells whether one changed in a way that matters. A pod has slots a and b;
// what a router says of others isn't kept.
func (p *podState) observe(f figures, reports []*controlpb.SlotState, in period) bool {
	matters := false
	for _, r := range reports[:min(len(reports), maxSlots)] {
		name := r.GetName()
		if name != "a" && name != "b" {
			continue
		}
		old := p.slots[name]
		next := old.next(r, in.to)
		if old == nil || old.view != next.view {
			matters = true
		}
		if old != nil {
			f.spend(old.workers, next.workers, in)
		}
		p.slots[name] = next
	}
	return matters
}

// next is a slot's state after a report.
func (s *slotState) next(r *controlpb.SlotState, now time.Time) *slotState {
	n := &slotState{view: slotView(r), busy: int(r.GetBusy()), workers: workersOf(r.GetRevisions())}
	same := s != nil && s.view.Revision == n.view.Revision && s.view.Desired == n.view.Desired
	enough := n.view.Reachable && n.view.Desired > 0 && n.view.Serving+int(r.GetUnstarted()) >= n.view.Desired
	switch {
	case enough:
		n.view.Up = true
	case n.view.Hangs != "": // no worker is about to be replaced
	case same && s.view.Up && s.short.IsZero():
		n.view.Up, n.short = true, now
	case same && s.view.Up && now.Sub(s.short) < replacement:
		n.view.Up, n.short = true, s.short
	}
	return n
}

// slotView copies what is kept of a report.
func slotView(r *controlpb.SlotState) SlotView {
	v := SlotView{
		Reachable: r.GetReachable(), Revision: bounded(r.GetRevision(), maxName), Desired: int(r.GetDesired()),
		MaxWorkers: int(r.GetMaxWorkers()), Capped: r.GetCapped(),
	}
	v.Unhealthy = bounded(r.GetUnhealthy(), maxReason)
	v.Hangs, v.ForkRefused = bounded(r.GetHangs(), maxReason), bounded(r.GetForkRefused(), maxReason)
	if v.Reachable && v.Unhealthy == "" {
		v.Serving = int(r.GetReady()) + int(r.GetBusy())
	}
	if s := r.GetStartup(); s != nil {
		v.Startup = startup(s)
	}
	if b := r.GetBoot(); b != nil {
		v.Boot = BootFailure{Message: bounded(b.GetMessage(), maxReason), Traceback: bounded(b.GetTraceback(), maxTraceback)}
	}
	return v
}

// startup copies what is kept of a report; what no clock and no duration can hold is cut.
func startup(s *controlpb.Startup) Startup {
	const year = 365 * 24 * time.Hour
	out := Startup{Pace: bounded(s.GetPace(), maxReason), Limit: time.Duration(min(s.GetLimitMs(), uint64(year.Milliseconds()))) * time.Millisecond}
	if since := s.GetSinceUnixMs(); since > 0 {
		out.Since = time.UnixMilli(int64(min(since, 1<<45)))
	}
	return out
}

// view copies a pod's state.
func (p *podState) view(current *controlpb.Snapshot) PodView {
	inForce := current != nil && p.inForce == orderOf(current)
	v := PodView{
		Connected:    p.link != nil,
		Since:        p.since,
		Acknowledged: p.link != nil && inForce,
		Settled:      p.link == nil && inForce,
		Slots:        make(map[string]SlotView, len(p.slots)),
		Reported:     p.reported,
		Reporting:    p.link != nil && inForce && p.reportedUnder == p.inForce,
		Trip:         p.trip(current),
		RolledBack:   p.back,
	}
	if current != nil && !inForce && p.refused.of == orderOf(current) {
		v.Refusal = p.refused.reason
	}
	for _, name := range slices.Sorted(maps.Keys(p.slots)) {
		v.Slots[name] = p.slots[name].view
		v.Busy += p.slots[name].busy
	}
	return v
}
