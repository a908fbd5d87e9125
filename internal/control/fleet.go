package control

import (
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// Fleet holds, for each pool, what its routers are told and what they reported. Everything in it is lost with the
// process and comes back with the routers' next reports.
type Fleet struct {
	clock   func() time.Time
	changed func(types.NamespacedName)
	metrics *Metrics

	mu    sync.Mutex
	epoch uint64                              // guarded by mu; 0: not leading
	led   time.Time                           // guarded by mu; since when
	pools map[types.NamespacedName]*poolState // guarded by mu, with everything below it
}

// poolState is a pool's part of the fleet. The fleet's mu guards it.
type poolState struct {
	uid      types.UID           // of the pool, as names are used again; empty: not known yet
	snapshot *controlpb.Snapshot // current; nil before the first Publish. Immutable once stored.
	pods     map[types.UID]*podState
	figures  figures
}

// NewFleet returns an empty fleet that leads nothing yet. changed is called, outside of locks and often, with a pool
// whose facts changed in a way that a decision could depend on; it must not block.
func NewFleet(clock func() time.Time, metrics *Metrics, changed func(types.NamespacedName)) *Fleet {
	return &Fleet{clock: clock, changed: changed, metrics: metrics, pools: map[types.NamespacedName]*poolState{}}
}

// Lead begins an epoch: everything that was said before it is forgotten.
func (f *Fleet) Lead(epoch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pools {
		p.close()
	}
	f.epoch, f.led = epoch, f.clock()
	f.pools = map[types.NamespacedName]*poolState{}
}

// Leading returns the epoch, 0 when this process doesn't lead, and since when it does.
func (f *Fleet) Leading() (epoch uint64, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch, f.led
}

// Track says which pool has a name. What is known of an earlier one of that name is forgotten and its streams end:
// its pods aren't the new one's.
func (f *Fleet) Track(pool types.NamespacedName, uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pool(pool)
	if p.uid != "" && p.uid != uid {
		p.close()
		delete(f.pools, pool)
		p = f.pool(pool)
	}
	p.uid = uid
}

// Published tells whether the pool's routers are told exactly this, whatever its epoch and sequence.
func (f *Fleet) Published(pool types.NamespacedName, s *controlpb.Snapshot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[pool]
	return ok && sameContent(p.snapshot, s)
}

// Publish tells a pool's routers, those that come later too, and numbers the snapshot. The same content again is
// not sent again.
func (f *Fleet) Publish(pool types.NamespacedName, s *controlpb.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pool(pool)
	if !sameContent(p.snapshot, s) {
		p.publish(f.epoch, proto.CloneOf(s))
	}
}

// Lower gives the canary of what a pool's routers are told less, for the reason that back says, and leaves the rest as it is. A
// weight that isn't lower changes nothing.
func (f *Fleet) Lower(pool types.NamespacedName, weight uint32, back *controlpb.RolledBack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[pool]
	if !ok || p.snapshot.GetCanaryWeight() <= weight {
		return
	}
	next := proto.CloneOf(p.snapshot)
	next.CanaryWeight = weight
	if back != nil {
		next.RolledBack = proto.CloneOf(back)
	}
	p.publish(f.epoch, next)
}

// publish numbers a snapshot and tells it. Caller holds mu.
func (p *poolState) publish(epoch uint64, next *controlpb.Snapshot) {
	next.Epoch, next.Sequence = epoch, p.snapshot.GetSequence()+1
	p.snapshot = next
	for _, pod := range p.pods {
		pod.wake()
	}
}

// Retain forgets the pods of a pool that aren't named: they are gone from the cluster.
func (f *Fleet) Retain(pool types.NamespacedName, pods []types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[pool]
	if !ok {
		return
	}
	for uid, pod := range p.pods {
		if pod.link == nil && !slices.Contains(pods, uid) {
			delete(p.pods, uid)
		}
	}
}

// Forget ends the streams of a pool that was deleted.
func (f *Fleet) Forget(pool types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.pools[pool]; ok {
		p.close()
		delete(f.pools, pool)
	}
}

// View is a copy of what is known of a pool.
func (f *Fleet) View(pool types.NamespacedName) PoolView {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[pool]
	if !ok {
		return PoolView{}
	}
	v := PoolView{Pods: make(map[types.UID]PodView, len(p.pods)), Figures: p.staffed(p.figures.view(p.reported(), f.clock()))}
	for uid, pod := range p.pods {
		v.Pods[uid] = pod.view(p.snapshot)
	}
	return v
}

// reported is when the last report of any pod came. Caller holds mu.
func (p *poolState) reported() time.Time {
	var last time.Time
	for _, pod := range p.pods {
		if pod.reported.After(last) {
			last = pod.reported
		}
	}
	return last
}

// Seen are the requests whose end this leader has seen, of two revisions in each pod, without those that the canary can't
// get (spec.canary.match): cumulative, over restarts of the pod's router too. What is subtracted from them later tells
// what was between.
func (f *Fleet) Seen(pool types.NamespacedName, canary, stable string) map[types.UID]analysis.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pools[pool]
	if !ok {
		return nil
	}
	out := make(map[types.UID]analysis.Pod, len(p.pods))
	for uid, pod := range p.pods {
		out[uid] = analysis.Pod{Canary: pod.seen[canary], Stable: pod.seen[stable]}
	}
	return out
}

// pool returns a pool's state, new when there is none. Caller holds mu.
func (f *Fleet) pool(key types.NamespacedName) *poolState {
	p, ok := f.pools[key]
	if !ok {
		p = &poolState{pods: map[types.UID]*podState{}, figures: figures{}}
		f.pools[key] = p
	}
	return p
}

// close ends all streams of the pool. Caller holds mu.
func (p *poolState) close() {
	for pod := range maps.Values(p.pods) {
		pod.unlink(pod.link)
	}
}

// sameContent compares two snapshots but for their numbers. Caller holds the lock of whichever is shared.
func sameContent(a, b *controlpb.Snapshot) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.GetEpoch() != b.GetEpoch() || a.GetSequence() != b.GetSequence() {
		b = proto.Clone(b).(*controlpb.Snapshot)
		b.Epoch, b.Sequence = a.GetEpoch(), a.GetSequence()
	}
	return proto.Equal(a, b)
}
