package control

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func back() *controlpb.RolledBack {
	return &controlpb.RolledBack{
		Revision: "0123456789", From: "v2", To: "v1", ToRevision: "9876543210", Weight: "30", Reason: "ErrorRateExceeded",
		Evidence: []string{"all failed"}, AtUnix: 1_800_000_000,
	}
}

// TestO26_LowerChangesTheWeightAlone of what routers were told, and never raises it.
func TestO26_LowerChangesTheWeightAlone(t *testing.T) {
	b := newBench()
	b.Lower(pool, 0, nil) // before there is anything to lower
	told := snapshotOf("a", 3000)
	told.Canary, told.Slots = "b", []*controlpb.Slot{{Name: "a", Size: 4}}
	b.Publish(pool, told)
	b.Lower(pool, 5000, back())
	if !b.Published(pool, told) {
		t.Error("a weight was raised")
	}
	b.Lower(pool, 0, back())
	want := proto.CloneOf(told)
	want.CanaryWeight, want.RolledBack = 0, back()
	if !b.Published(pool, want) || orderOf(b.pools[pool].snapshot) != (order{7, 2}) || told.GetCanaryWeight() != 3000 {
		t.Errorf("routers are told %v", b.pools[pool].snapshot)
	}
}

// TestO37_ARollbackIsHeardWithTheHello: before a router has acknowledged anything of the new leader, and within bounds.
func TestO37_ARollbackIsHeardWithTheHello(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*controlpb.RolledBack)
		heard  bool
	}{
		"as told":        {func(*controlpb.RolledBack) {}, true},
		"of no revision": {func(r *controlpb.RolledBack) { r.Revision = "" }, false},
		"of no name":     {func(r *controlpb.RolledBack) { r.ToRevision = "../../etc" }, false},
		"to no version":  {func(r *controlpb.RolledBack) { r.To = "v9" }, false},
		"at no time":     {func(r *controlpb.RolledBack) { r.AtUnix = 0 }, false},
		"with much to say": {func(r *controlpb.RolledBack) {
			r.Evidence = make([]string, 99)
			r.Evidence[0] = strings.Repeat("x", 1<<20)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b, said := newBench(), back()
			tc.change(said)
			m := member("p")
			if _, err := b.connect(m, &controlpb.Hello{Instance: "i", RolledBack: said, TripToken: "one"}); err != nil {
				t.Fatal(err)
			}
			got := b.View(pool).Pods[m.PodUID].RolledBack
			if (got != nil) != tc.heard {
				t.Fatalf("heard %+v", got)
			}
			if got != nil && (got.TripToken != "one" || !got.At.Equal(time.Unix(1_800_000_000, 0)) || len(got.Evidence) > 10 || len(got.Evidence[0]) > 1024) {
				t.Errorf("heard %+v", got)
			}
		})
	}
}

// TestO15_ANewStreamHasNothingToSayYet of how the pod is now: neither the last report of the stream before it, nor that of an
// earlier process.
func TestO15_ANewStreamHasNothingToSayYet(t *testing.T) {
	for _, instance := range []string{"i", "another process"} {
		b := newBench()
		m := b.join("p", "i")
		b.Publish(pool, snapshotOf("a", 0))
		m.reports(&controlpb.Report{Epoch: 7, Sequence: 1})
		if !m.view().Reporting {
			t.Fatal("a report under what is in force isn't one")
		}
		m.leaves()
		link, err := b.connect(m.Member, &controlpb.Hello{Instance: instance, Epoch: 7, Sequence: 1})
		if err != nil {
			t.Fatal(err)
		}
		m.link = link
		m.acknowledges(order{7, 1})
		if v := m.view(); v.Reporting || !v.Acknowledged {
			t.Errorf("%s: before its first report: reporting %v, acknowledged %v", instance, v.Reporting, v.Acknowledged)
		}
		b.woken()
		m.reports(&controlpb.Report{Epoch: 7, Sequence: 1})
		if !m.view().Reporting || b.woken() == 0 {
			t.Errorf("%s: its first report is no news", instance)
		}
	}
}

// TestO31_ReportsThatCeaseAreNews, once, whether the stream stands or not; and so is the first that comes again.
func TestO31_ReportsThatCeaseAreNews(t *testing.T) {
	b := newBench()
	m, gone := b.join("p", "i"), b.join("q", "j")
	for _, r := range []*router{m, gone} {
		r.reports(&controlpb.Report{})
	}
	gone.leaves()
	for i, want := range []int{0, 1, 0} {
		b.woken()
		b.Missed()
		if got := b.woken(); got != want {
			t.Errorf("look %d told of %d changes, want %d", i, got, want)
		}
		b.watch.pass(staleAfter + time.Second)
	}
	m.reports(&controlpb.Report{})
	if b.woken() == 0 {
		t.Error("that reports come again is no news")
	}
	v := gone.view()
	if !v.Silent(b.watch.Now()) || v.Stale(b.watch.Now()) {
		t.Errorf("a pod that is gone: silent %v, stale %v", v.Silent(b.watch.Now()), v.Stale(b.watch.Now()))
	}
}
