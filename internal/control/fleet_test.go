package control

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch is a clock that tests set.
type watch struct {
	mu  sync.Mutex
	now time.Time
}

func (w *watch) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *watch) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

var pool = types.NamespacedName{Namespace: "shop", Name: "main"}

// bench is a leading fleet and what it told of changes.
type bench struct {
	*Fleet
	watch *watch
	mu    sync.Mutex
	wakes int
}

func newBench() *bench {
	b := &bench{watch: &watch{now: time.Unix(1_800_000_000, 0)}}
	b.Fleet = NewFleet(b.watch.Now, NewMetrics(prometheus.NewRegistry()), func(types.NamespacedName) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wakes++
	})
	b.Lead(7)
	return b
}

// woken tells how often a change was told since the last call.
func (b *bench) woken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.wakes
	b.wakes = 0
	return n
}

func member(name string) Member {
	return Member{Pool: pool, PoolUID: "pool-1", Pod: name, PodUID: types.UID("uid-" + name)}
}

// router is a pod's, and its stream.
type router struct {
	Member
	*bench
	link *link
}

func (b *bench) join(name, instance string) *router {
	m := member(name)
	l, err := b.connect(m, &controlpb.Hello{Instance: instance})
	if err != nil {
		panic(err)
	}
	return &router{Member: m, bench: b, link: l}
}

func (r *router) acknowledges(o order)             { r.acknowledge(r.Member, r.link, o) }
func (r *router) refuses(nack *controlpb.Nack)     { r.refuse(r.Member, r.link, nack) }
func (r *router) reports(report *controlpb.Report) { r.report(r.Member, r.link, report) }
func (r *router) leaves()                          { r.disconnect(r.Member, r.link) }
func (r *router) view() PodView                    { return r.View(r.Pool).Pods[r.PodUID] }

func snapshotOf(stable string, weight uint32) *controlpb.Snapshot {
	return &controlpb.Snapshot{Stable: stable, CanaryWeight: weight}
}

func TestPublishNumbersWhatIsNew(t *testing.T) {
	b := newBench()
	for i, want := range []order{{7, 1}, {7, 1}, {7, 2}, {7, 3}} {
		b.Publish(pool, snapshotOf("a", []uint32{0, 0, 10, 0}[i]))
		if got := orderOf(b.pools[pool].snapshot); got != want {
			t.Errorf("publication %d has %v, want %v", i, got, want)
		}
	}
	if b.Published(pool, snapshotOf("a", 10)) || !b.Published(pool, snapshotOf("a", 0)) {
		t.Error("Published doesn't compare with the last one")
	}
	b.Lead(9)
	if b.Published(pool, snapshotOf("a", 0)) {
		t.Error("a new epoch still knows what the last one said")
	}
}

func TestAcknowledgement(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	b.Publish(pool, snapshotOf("a", 0))
	b.Publish(pool, snapshotOf("a", 10))
	for _, step := range []struct {
		name string
		do   func()
		want PodView
	}{
		{"nothing yet", func() {}, PodView{Connected: true}},
		{"an older one", func() { m.acknowledges(order{7, 1}) }, PodView{Connected: true}},
		{"TestO45 refused", func() { m.refuses(&controlpb.Nack{Epoch: 7, Sequence: 2, Reason: "no slot"}) }, PodView{Connected: true, Refusal: "no slot"}},
		{"the current one", func() { m.acknowledges(order{7, 2}) }, PodView{Connected: true, Acknowledged: true}},
		{"a report that was on its way", func() { m.reports(&controlpb.Report{Epoch: 7, Sequence: 1}) }, PodView{Connected: true, Acknowledged: true}},
		{"a newer one is published", func() { b.Publish(pool, snapshotOf("a", 0)) }, PodView{Connected: true}},
		{"TestO43 a report says it is in force", func() { m.reports(&controlpb.Report{Epoch: 7, Sequence: 3}) }, PodView{Connected: true, Acknowledged: true, Reporting: true}},
		{"gone", func() { m.leaves() }, PodView{Settled: true}},
		{"a newer one while it is gone", func() { b.Publish(pool, snapshotOf("b", 0)) }, PodView{}},
	} {
		step.do()
		if diff := cmp.Diff(step.want, m.view(), cmpopts.IgnoreFields(PodView{}, "Since", "Reported"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestANewStreamEndsTheOldOne(t *testing.T) {
	b := newBench()
	old := b.join("p", "i")
	b.join("p", "i")
	select {
	case <-old.link.ended:
	default:
		t.Error("the old stream goes on")
	}
	old.leaves()
	if !old.view().Connected {
		t.Error("the old stream's end ended the new one")
	}
}

// TestO5_ARouterThatChangesItsStreamGoesOnWhereItWas: its token expires every hour, and its pool's status needn't show it.
func TestO5_ARouterThatChangesItsStreamGoesOnWhereItWas(t *testing.T) {
	for name, tc := range map[string]struct {
		instance string
		has      order
		want     PodView
	}{
		"the same process":                   {"i", order{7, 2}, PodView{Connected: true, Acknowledged: true}},
		"which hasn't the newest":            {"i", order{7, 1}, PodView{Connected: true}},
		"which lost what it had":             {"i", order{}, PodView{Connected: true}},
		"another process has to tell it new": {"j", order{7, 2}, PodView{Connected: true}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.Publish(pool, snapshotOf("a", 0))
			b.Publish(pool, snapshotOf("a", 10))
			m := b.join("p", "i")
			m.acknowledges(order{7, 2})
			m.leaves()
			if v := m.view(); !v.Settled || v.Acknowledged {
				t.Errorf("between its streams: %+v", v)
			}
			hello := &controlpb.Hello{Instance: tc.instance, Epoch: tc.has.epoch, Sequence: tc.has.sequence}
			if _, err := b.connect(m.Member, hello); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, m.view(), cmpopts.IgnoreFields(PodView{}, "Since", "Reported"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A refusal of the current snapshot stands when its router changes its stream: it would refuse it again.
func TestARefusalOutlivesItsStream(t *testing.T) {
	b := newBench()
	b.Publish(pool, snapshotOf("a", 0))
	m := b.join("p", "i")
	m.refuses(&controlpb.Nack{Epoch: 7, Sequence: 1, Reason: "no slot"})
	m.leaves()
	if got := b.join("p", "i").view().Refusal; got != "no slot" {
		t.Errorf("refusal %q of the same process", got)
	}
	if got := b.join("p", "j").view().Refusal; got != "" {
		t.Errorf("refusal %q of another process", got)
	}
}

// What a process said before it was replaced may still be on its way when the next one is there.
func TestWhatComesByASupersededStreamIsNotHeard(t *testing.T) {
	b := newBench()
	b.Publish(pool, snapshotOf("a", 0))
	old := b.join("p", "first")
	old.reports(counters(10, 0, 0))
	b.join("p", "second")
	b.woken()
	old.acknowledges(order{7, 1})
	old.refuses(&controlpb.Nack{Epoch: 7, Sequence: 1, Reason: "no"})
	old.reports(slotReport(4, 0))
	old.reports(counters(30, 0, 0))
	if diff := cmp.Diff(PodView{Connected: true}, old.view(), cmpopts.IgnoreFields(PodView{}, "Since", "Reported"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := b.View(pool).Figures; len(got) != 0 || b.woken() != 0 {
		t.Errorf("it was counted, or woke: %v", got)
	}
	if got := b.current(old.Member, old.link); got != nil {
		t.Errorf("it is still told %v", got)
	}
}

func TestPodsThatAreGoneAreForgotten(t *testing.T) {
	b := newBench()
	gone, stays, linked := b.join("gone", "i"), b.join("stays", "i"), b.join("linked", "i")
	for _, m := range []*router{gone, stays} {
		m.leaves()
	}
	b.Retain(pool, []types.UID{stays.PodUID})
	got := b.View(pool).Pods
	if _, ok := got[gone.PodUID]; ok || len(got) != 2 {
		t.Errorf("%v are known", got)
	}
	if _, ok := got[linked.PodUID]; !ok {
		t.Error("a pod whose stream stands was forgotten: the cluster's list may be older")
	}
	b.Forget(pool)
	if got := b.View(pool).Pods; len(got) != 0 {
		t.Errorf("of a deleted pool: %v", got)
	}
}

// A pool that was deleted and made anew between two passes has nothing of its namesake: no pods, no figures, and no
// router that would be told its configuration.
func TestAPoolMadeAnewStartsEmpty(t *testing.T) {
	b := newBench()
	b.Track(pool, "pool-1")
	b.Publish(pool, snapshotOf("a", 0))
	old := b.join("p", "i")
	old.reports(counters(0, 0, 0))
	old.reports(counters(10, 0, 0))
	b.Track(pool, "pool-1")
	if v := b.View(pool); len(v.Pods) != 1 || len(v.Figures) != 1 || b.current(old.Member, old.link) == nil {
		t.Fatalf("the same pool, tracked again, knows %v", v)
	}
	b.Track(pool, "pool-2")
	select {
	case <-old.link.ended:
	default:
		t.Error("the old pool's stream goes on")
	}
	b.Publish(pool, snapshotOf("b", 0))
	old.reports(counters(30, 0, 0))
	if v := b.View(pool); len(v.Pods) != 0 || len(v.Figures) != 0 {
		t.Errorf("the new pool has pods %v and figures %v", v.Pods, v.Figures)
	}
	if got := b.current(old.Member, old.link); got != nil {
		t.Errorf("the old pool's router is told %v", got)
	}
	if _, err := b.connect(old.Member, &controlpb.Hello{}); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "restart the pod") {
		t.Errorf("the old pool's router comes back: %v", err)
	}
	anew := old.Member
	anew.PoolUID = "pool-2"
	if _, err := b.connect(anew, &controlpb.Hello{}); err != nil {
		t.Errorf("the new pool's router: %v", err)
	}
}

// A router may find to a new leader before the leader has looked at its pool.
func TestAPoolIsTheFirstRoutersUntilItIsLookedAt(t *testing.T) {
	b := newBench()
	first := b.join("p", "i")
	b.Track(pool, "pool-1")
	if !first.view().Connected {
		t.Error("its own pool's first pass ended its stream")
	}
	b.Lead(8)
	b.join("p", "i")
	b.Track(pool, "pool-2")
	if got := b.View(pool).Pods; len(got) != 0 {
		t.Errorf("another pool's first pass left %v", got)
	}
}

// slotReport is of a slot of 4 workers.
func slotReport(ready, busy uint32) *controlpb.Report {
	return &controlpb.Report{Slots: []*controlpb.SlotState{
		{Name: "a", Reachable: true, Revision: "r", Desired: 4, Ready: ready, Busy: busy},
	}}
}

// lazyReport is of a slot that starts the rest of its 4 workers when requests need them; or can't.
func lazyReport(ready, unstarted uint32) *controlpb.Report {
	report := slotReport(ready, 0)
	report.Slots[0].Unstarted = unstarted
	return report
}

func TestASlotIsUpUntilItLacksWorkersForLong(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	for _, step := range []struct {
		name   string
		passes time.Duration
		report *controlpb.Report
		up     bool
	}{
		{"starting", 0, slotReport(3, 0), false},
		{"still", time.Minute, slotReport(3, 0), false},
		{"all there", 0, slotReport(3, 1), true},
		{"one crashed", time.Second, slotReport(3, 0), true},
		{"not replaced yet", 9 * time.Second, slotReport(3, 0), true},
		{"not replaced for too long", time.Second, slotReport(3, 0), false},
		{"still not", time.Second, slotReport(3, 0), false},
		{"replaced", time.Second, slotReport(4, 0), true},
		{"crashed again: counted from now", time.Second, slotReport(3, 0), true},
		{"the slot is away", time.Second, &controlpb.Report{Slots: []*controlpb.SlotState{{Name: "a", Revision: "r", Desired: 4}}}, true},
		{"a lazy one that has started two", 0, lazyReport(2, 2), true},
		{"and none", 0, lazyReport(0, 4), true},
		{"can't start any", 11 * time.Second, lazyReport(0, 0), true},
		{"for too long", 11 * time.Second, lazyReport(0, 0), false},
		{"another revision starts", 0, &controlpb.Report{Slots: []*controlpb.SlotState{{Name: "a", Reachable: true, Revision: "s", Desired: 4}}}, false},
		{"idle", 0, &controlpb.Report{Slots: []*controlpb.SlotState{{Name: "a", Reachable: true}}}, false},
	} {
		b.watch.pass(step.passes)
		m.reports(step.report)
		if got := m.view().Slots["a"].Up; got != step.up {
			t.Errorf("%s: up %v, want %v", step.name, got, step.up)
		}
	}
}

func TestO5_OnlyWhatMattersWakes(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	m.reports(slotReport(4, 0))
	b.woken()
	m.reports(slotReport(2, 2))
	m.reports(slotReport(0, 4))
	if n := b.woken(); n != 0 {
		t.Errorf("requests alone woke the reconciler %d times", n)
	}
	m.reports(slotReport(3, 0))
	if n := b.woken(); n != 1 {
		t.Errorf("a crashed worker woke it %d times, want 1", n)
	}
}
