package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// counted is the revision that counters are of.
const counted = "0123456789"

// counters of a revision at a number of requests, all of 10 ms.
func counters(requests, errors, timeouts uint64) *controlpb.Report {
	var h histogram.Histogram
	h.Observe(10 * time.Millisecond)
	c := &controlpb.RevisionCounters{Revision: counted, Version: "v2", Requests: requests, Errors: errors, Timeouts: timeouts, Latency: &controlpb.Histogram{}}
	for i, n := range h.Counts {
		if n > 0 {
			c.Latency.Buckets, c.Latency.Counts = []uint32{uint32(i)}, []uint64{requests}
		}
	}
	return &controlpb.Report{Revisions: []*controlpb.RevisionCounters{c}}
}

func TestFigures(t *testing.T) {
	b := newBench()
	one, two := b.join("one", "i"), b.join("two", "i")
	one.reports(counters(5000, 50, 5)) // of earlier, under another leader
	two.reports(counters(0, 0, 0))
	if got := b.View(pool).Figures; len(got) != 0 {
		t.Errorf("a router's past was counted: %v", got)
	}
	one.reports(counters(5300, 53, 5))
	b.watch.pass(10 * time.Second)
	one.reports(counters(5400, 53, 6))
	two.reports(counters(100, 0, 0))
	got := b.View(pool).Figures[counted]
	if got.Requests != 500 || got.Errors != 3 || got.Timeouts != 1 || got.Version != "v2" {
		t.Errorf("figures %+v, want 500 requests, 3 errors, 1 timeout", got)
	}
	if d := got.P99 - 10*time.Millisecond; d.Abs() > 400*time.Microsecond {
		t.Errorf("p99 %v, want 10 ms within 3.2 %%", got.P99)
	}

	b.watch.pass(52 * time.Second)
	if got := b.View(pool).Figures[counted].Requests; got != 100 {
		t.Errorf("%d requests, a minute after the first 300 and the first half of the ten seconds' 200, want 100", got)
	}
	b.watch.pass(time.Minute)
	if got := b.View(pool).Figures; len(got) != 0 {
		t.Errorf("without traffic: %v", got)
	}
}

// A lost report loses nothing, a restarted router counts from 0, a counter that shrinks counts nothing.
func TestFiguresOfReconnectsAndRestarts(t *testing.T) {
	b := newBench()
	m := b.join("p", "first")
	m.reports(counters(10, 0, 0))
	m.leaves()
	m = b.join("p", "first")
	m.reports(counters(30, 0, 0))
	if got := b.View(pool).Figures[counted].Requests; got != 20 {
		t.Errorf("%d requests after a reconnect, want 20", got)
	}
	m = b.join("p", "second")
	m.reports(counters(1, 0, 0))
	m.reports(counters(6, 0, 0))
	m.reports(counters(2, 0, 0))
	if got := b.View(pool).Figures[counted].Requests; got != 25 {
		t.Errorf("%d requests after a restart, want 25", got)
	}
}

// Whatever a router says, the operator keeps a bounded part of it.
func TestReportsAreBounded(t *testing.T) {
	b := newBench()
	m := b.join("p", strings.Repeat("i", 1<<16))
	long := strings.Repeat("x", 1<<16)
	for round := range 3 {
		r := &controlpb.Report{}
		for i := range 100 {
			r.Revisions = append(r.Revisions, &controlpb.RevisionCounters{
				Revision: fmt.Sprintf("%05d%05d", round, i), Version: "v1", Requests: uint64(round + 1),
				Latency: &controlpb.Histogram{Buckets: []uint32{1, 1 << 30, 7}, Counts: []uint64{uint64(round)}},
			})
		}
		for i := range maxSlots {
			r.Slots = append(r.Slots, &controlpb.SlotState{Name: fmt.Sprint(round, i)})
		}
		m.reports(r)
	}
	m.reports(&controlpb.Report{Slots: []*controlpb.SlotState{{
		Name: "a", Revision: long, Boot: &controlpb.BootFailure{Message: long, Traceback: long},
	}}})
	p := b.pools[pool]
	state := p.pods[m.PodUID]
	if len(p.figures) > maxRevisions || len(state.totals) > maxRevisions || len(state.slots) != 1 {
		t.Errorf("kept: %d rings, %d totals, %d slots", len(p.figures), len(state.totals), len(state.slots))
	}
	a := state.slots["a"].view
	got := []int{len(state.instance), len(a.Revision), len(a.Boot.Message), len(a.Boot.Traceback)}
	if diff := cmp.Diff([]int{maxName, maxName, maxReason, maxTraceback}, got); diff != "" {
		t.Errorf("bytes kept of instance, revision, message, traceback (-want +got):\n%s", diff)
	}
	if got := bounded("ääää", 3); got != "ä" {
		t.Errorf("cut inside a character: %q", got)
	}
}

// Counters of what no pool has don't reach the status, whose schema would refuse them and everything with them.
func TestCountersOfWhatNoPoolHasAreDropped(t *testing.T) {
	made := revision.Text{PoolVersion: "v1"}.Hash()
	for name, tc := range map[string]struct {
		revision, version string
		want              int
	}{
		"a revision as they are named": {made, "v1", 1},
		"the other version":            {made, "v2", 1},
		"no version":                   {made, "", 0},
		"a version to come":            {made, "v3", 0},
		"no revision":                  {"", "v1", 0},
		"a short one":                  {made[1:], "v1", 0},
		"a long one":                   {made + "0", "v1", 0},
		"not hexadecimal":              {"summarizer", "v1", 0},
		"a line more":                  {made + "\n", "v1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			m := b.join("p", "i")
			for n := range uint64(2) {
				m.reports(&controlpb.Report{Revisions: []*controlpb.RevisionCounters{{Revision: tc.revision, Version: tc.version, Requests: n}}})
			}
			if got := b.View(pool).Figures; len(got) != tc.want {
				t.Errorf("figures %v, want %d", got, tc.want)
			}
		})
	}
}
