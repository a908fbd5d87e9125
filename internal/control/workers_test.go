package control

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// withWorkers adds what slot a says of the workers of some revisions.
func withWorkers(r *controlpb.Report, of ...*controlpb.RevisionWorkers) *controlpb.Report {
	r.Slots = []*controlpb.SlotState{{Name: "a", Reachable: true, Revisions: of}}
	return r
}

// served is a report of so many requests, each of which kept a worker busy for 10 ms.
func served(requests uint64) *controlpb.Report {
	r := counters(requests, 0, 0)
	r.Revisions[0].Service = &controlpb.Histogram{Buckets: []uint32{1}, Counts: []uint64{requests}, SumUs: requests * 10_000}
	return r
}

func TestWorkersOfARevision(t *testing.T) {
	b := newBench()
	one, two := b.join("one", "i"), b.join("two", "i")
	one.reports(withWorkers(served(10), &controlpb.RevisionWorkers{Revision: counted, Live: 1, Spawned: 4, CpuMs: 90_000}))
	two.reports(served(0))
	one.reports(withWorkers(served(110), &controlpb.RevisionWorkers{
		Revision: counted, Live: 2, Places: 16, Spawned: 5, Destroyed: 3, Crashed: 1, CpuMs: 93_000, MemoryBytes: 100, OpenFds: 10,
	}))
	b.watch.pass(10 * time.Second)
	two.reports(withWorkers(served(100),
		&controlpb.RevisionWorkers{Revision: "9876543210", Live: 9, Spawned: 9}, // it serves nothing
		&controlpb.RevisionWorkers{Revision: counted, Live: 1, Spawned: 1, CpuMs: 500, MemoryBytes: 50, OpenFds: 5},
	))
	two.reports(withWorkers(served(100), &controlpb.RevisionWorkers{
		Revision: counted, Live: 1, Spawned: 1, CpuMs: 1_500, MemoryBytes: 50, OpenFds: 5,
	}))
	want := map[string]Figures{counted: {
		Version: "v2", Service: 10 * time.Millisecond, Busy: 2 * time.Second, CPU: 4 * time.Second,
		Live: 3, Places: 17, Spawned: 6, Destroyed: 3, Crashed: 1, Memory: 150, OpenFDs: 15,
	}}
	ignored := cmpopts.IgnoreFields(Figures{}, "Span", "Counts", "P50", "P95", "P99")
	if diff := cmp.Diff(want, b.View(pool).Figures, ignored); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	b.watch.pass(50 * time.Second)
	if f := b.View(pool).Figures[counted]; f.CPU != time.Second || f.Busy != time.Second/2 || f.Live != 3 {
		t.Errorf("a minute after the first pod's requests: CPU %v, busy %v, %d live; want 1s, 0.5s of the second pod's, and 3", f.CPU, f.Busy, f.Live)
	}
}

// TestO5_WorkersWithoutTrafficAreNoFigures: what idle workers use wobbles, and would be written again and again.
func TestO5_WorkersWithoutTrafficAreNoFigures(t *testing.T) {
	b := newBench()
	m := b.join("p", "i")
	before := b.wakes
	for i := range uint64(3) {
		m.reports(withWorkers(counters(0, 0, 0), &controlpb.RevisionWorkers{Revision: counted, Live: 2, Spawned: 2, CpuMs: 10 * i, MemoryBytes: 1000 + i}))
	}
	if got := b.View(pool).Figures; len(got) != 0 {
		t.Errorf("figures %v of a pool without requests", got)
	}
	if woken := b.wakes - before; woken > 1 {
		t.Errorf("%d changes were told of, want one at most: the first report", woken)
	}
}

// Whatever a slot says of its workers, a bounded part of it is kept, and no sum overflows.
func TestWorkersAreBounded(t *testing.T) {
	var reports []*controlpb.RevisionWorkers
	for i := range 100 {
		reports = append(reports,
			&controlpb.RevisionWorkers{Revision: fmt.Sprintf("x%d", i)},
			&controlpb.RevisionWorkers{
				Revision: fmt.Sprintf("%010d", i), Live: math.MaxUint32, Spawned: math.MaxUint64, MemoryBytes: math.MaxUint64,
				OpenFds: math.MaxUint64, CpuMs: math.MaxUint64,
			})
	}
	kept := workersOf(reports)
	if len(kept) != maxRevisions {
		t.Errorf("%d revisions kept, want %d", len(kept), maxRevisions)
	}
	var sum workers
	for range 1 << 19 {
		sum = sum.add(kept["0000000000"])
	}
	if sum.spawned > math.MaxInt64 || sum.memory > math.MaxInt64 || sum.memory < 1<<60 || sum.live <= 0 || kept["0000000000"].cpu <= 0 {
		t.Errorf("half a million of them: %+v", sum)
	}
	now := time.Unix(1_800_000_000, 0)
	f := figures{counted: &ring{last: now, version: "v2"}}
	for range 60 {
		f.spend(map[string]workers{counted: {}}, map[string]workers{counted: {cpu: math.MaxInt64}}, until(now, now))
	}
	f.add(counted, "v2", totals{latency: map[uint32]uint64{1: 1}, counts: countsOf(&controlpb.RevisionCounters{Requests: 1})}, totals{}, until(now, now))
	if got := f.view(now, now)[counted].CPU; got <= 0 {
		t.Errorf("CPU time %v", got)
	}
}

// TestP95_HungWorkersServeNobody: they hold what their number would let pass.
func TestStartupIsKeptWithinBounds(t *testing.T) {
	v := slotView(&controlpb.SlotState{Startup: &controlpb.Startup{SinceUnixMs: 1_800_000_000_000, LimitMs: 300_000, Pace: strings.Repeat("x", 9999)}})
	if s := v.Startup; !s.Since.Equal(time.Unix(1_800_000_000, 0)) || s.Limit != 5*time.Minute || len(s.Pace) != maxReason {
		t.Errorf("startup %+v", s)
	}
	v = slotView(&controlpb.SlotState{Startup: &controlpb.Startup{SinceUnixMs: math.MaxUint64, LimitMs: math.MaxUint64}})
	if s := v.Startup; s.Since.Year() > 9999 || s.Limit <= 0 {
		t.Errorf("startup %+v of a router that tells nonsense", s)
	}
	if v := slotView(&controlpb.SlotState{}); v.Startup != (Startup{}) {
		t.Errorf("startup %+v where none was told", v.Startup)
	}
}

func TestP95_HungWorkersServeNobody(t *testing.T) {
	v := slotView(&controlpb.SlotState{Name: "a", Reachable: true, Revision: "r", Desired: 4, Ready: 3, Busy: 1, Unhealthy: "no worker has answered"})
	if v.Serving != 0 || v.Unhealthy != "no worker has answered" {
		t.Errorf("%d serve, unhealthy %q; want 0 and why", v.Serving, v.Unhealthy)
	}
	if s := (*slotState)(nil).next(&controlpb.SlotState{Reachable: true, Desired: 4, Ready: 4, Unhealthy: "x"}, time.Unix(1, 0)); s.view.Up {
		t.Error("a slot is up whose workers hang")
	}
}

// TestASlotThatHangsIsntUp: that workers are replaced within seconds is no reason to wait, as none is.
func TestASlotThatHangsIsntUp(t *testing.T) {
	now := time.Unix(1, 0)
	report := &controlpb.SlotState{Name: "a", Reachable: true, Revision: "r", Desired: 4, Ready: 4, ForkRefused: "a thread"}
	up := (*slotState)(nil).next(report, now)
	if !up.view.Up || up.view.Serving != 4 || up.view.ForkRefused != "a thread" {
		t.Fatalf("a slot that serves is %+v", up.view)
	}
	report.Reachable, report.Hangs = false, "it has said nothing for 3s"
	if v := up.next(report, now).view; v.Up || v.Serving != 0 || v.Hangs != "it has said nothing for 3s" {
		t.Errorf("the slot that hangs is %+v", v)
	}
	report.Reachable, report.Ready, report.Hangs = true, 3, ""
	if !up.next(report, now).view.Up {
		t.Error("a slot that replaces a worker isn't up")
	}
}
