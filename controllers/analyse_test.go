package controllers

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// analyst is a leader that looks at a pool of two pods with a canary at 25 %, and a clock.
type analyst struct {
	t      *testing.T
	memory memory
	pool   v1alpha1.WorkerPool
	start  time.Time
	now    time.Time
	pods   []status.Pod
	counts map[types.UID]analysis.Pod

	reporting map[types.UID]bool // nil: all that have acknowledged
}

func newAnalyst(t *testing.T) *analyst {
	start := time.Unix(1_800_000_000, 0)
	stable := v1alpha1.SlotRevision{Version: "v1", Revision: "1111", Slot: "a"}
	canary := v1alpha1.SlotRevision{Version: "v2", Revision: "2222", Slot: "b"}
	a := &analyst{t: t, start: start, now: start, counts: map[types.UID]analysis.Pod{}}
	a.pool.Spec.Canary = &v1alpha1.Canary{Steps: []v1alpha1.Step{{}, {MinSamples: new(int32(200))}}}
	a.pool.Status.Rollout = &v1alpha1.RolloutStatus{Revision: "2222", Step: 2, Steps: 2, AnalysisSince: new(metav1.NewTime(start))}
	a.memory.told = &rollout.Told{Assignment: rollout.Assignment{Stable: stable, Canary: &canary}, Weight: 2500}
	for _, uid := range []types.UID{"p", "q"} {
		pod := status.Pod{UID: uid, Live: true}
		pod.Connected, pod.Acknowledged = true, true
		a.pods, a.counts[uid] = append(a.pods, pod), analysis.Pod{}
	}
	return a
}

// serve lets both pods end requests, of which the canary fails some.
func (a *analyst) serve(canary, failed, stable uint64) {
	for _, p := range a.pods {
		is := a.counts[p.UID]
		is.Canary.Requests += canary
		is.Canary.Errors += failed
		is.Stable.Requests += stable
		a.counts[p.UID] = is
	}
}

// pass is one after some time. It ends with the status written, unless lost.
func (a *analyst) pass(after time.Duration, lost bool) *pass {
	a.t.Helper()
	a.now = a.now.Add(after)
	p := &pass{now: a.now, pool: &a.pool, memory: &a.memory, pods: a.pods, reporting: map[types.UID]bool{}}
	for _, pod := range a.pods {
		p.reporting[pod.UID] = pod.Acknowledged && (a.reporting == nil || a.reporting[pod.UID])
	}
	of, grid, underWay := p.compared()
	if !underWay {
		a.t.Fatal("there is nothing to compare")
	}
	p.look(of, grid, a.counts)
	if p.findings != nil && !lost {
		a.memory.comparison.looked(p.findings)
	}
	return p
}

// TestO26_O35_AnalysisOfABadCanary: what was served before the first pass at this weight doesn't count, and what fails is
// found at the first look that has samples enough.
func TestO26_O35_AnalysisOfABadCanary(t *testing.T) {
	a := newAnalyst(t)
	a.serve(1000, 0, 3000)
	if p := a.pass(0, false); p.findings != nil || p.again != analysis.DefaultInterval {
		t.Errorf("before the first look: findings %+v, again after %v", p.findings, p.again)
	}
	a.serve(99, 30, 300)
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.Reason != analysis.InsufficientSamples || p.findings.CanarySamples != 198 {
		t.Errorf("TestO30: below the step's 200 samples: %+v", p.findings)
	}
	if p := a.pass(time.Millisecond, false); p.findings != nil {
		t.Errorf("the same look again: %+v", p.findings)
	}
	a.serve(99, 30, 300)
	p := a.pass(analysis.DefaultInterval, true)
	if p.findings == nil || p.findings.Verdict != analysis.Fail || !strings.Contains(p.findings.Evidence[0].String(), "v2 failed 120 of 396 requests (30.3 %), v1 0 of 1200 (0 %), same pods") {
		t.Fatalf("findings %+v", p.findings)
	}
	if again := a.pass(time.Millisecond, false); again.findings == nil || again.findings.Verdict != analysis.Fail {
		t.Errorf("TestO22: the status couldn't be written, and the look isn't made again: %+v", again.findings)
	}
}

// A weight that changes begins the counts anew.
func TestAnotherWeightIsAnotherCount(t *testing.T) {
	a := newAnalyst(t)
	a.pass(0, false)
	a.serve(1000, 300, 3000)
	a.memory.told.Weight = 5000
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.CanarySamples != 0 {
		t.Errorf("what failed at another weight: %+v", p.findings)
	}
}

// TestO42_TheOthersAreComparedWhileAPodIsAway: one that hasn't the weight in force, or is away, keeps its counts out.
func TestO42_TheOthersAreComparedWhileAPodIsAway(t *testing.T) {
	a := newAnalyst(t)
	a.pods[1].Connected, a.pods[1].Acknowledged = false, false
	a.pass(0, false)
	a.serve(1000, 300, 3000)
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.Verdict != analysis.Fail || p.findings.CanarySamples != 1000 {
		t.Errorf("findings %+v, want those of one pod", p.findings)
	}
}

// A pod that keeps the canary off its traffic has nothing to compare with what its stable goes on to serve; once it
// shares again, it counts from then.
func TestATrippedPodIsNotCompared(t *testing.T) {
	a := newAnalyst(t)
	a.pass(0, false)
	a.serve(100, 10, 300)
	a.pods[0].Tripped = &rollout.Trip{Revision: "2222"}
	a.pods[1].Tripped = &rollout.Trip{Revision: "2222", ReportOnly: true}
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.StableSamples != 300 {
		t.Errorf("findings %+v, want those of the pod whose traffic was left alone", p.findings)
	}
	a.pods[0].Tripped = nil
	a.pass(analysis.DefaultInterval, false)
	a.serve(10, 0, 30)
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.CanarySamples != 120 || p.findings.StableSamples != 360 {
		t.Errorf("findings %+v, want 110 and 10 canary requests, 330 and 30 of the stables", p.findings)
	}
}

// A pod acknowledges a weight before it reports what it counted until then, at the one before.
func TestAWeightIsCountedFromItsFirstReport(t *testing.T) {
	a := newAnalyst(t)
	a.reporting = map[types.UID]bool{"p": true}
	a.pass(0, false)
	a.serve(100, 0, 300)
	a.reporting["q"] = true
	if p := a.pass(analysis.DefaultInterval, false); p.findings == nil || p.findings.CanarySamples != 100 {
		t.Errorf("findings %+v, want those of the pod that had reported", p.findings)
	}
}

func TestWhatThereIsToCompare(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*analyst)
		want   bool
	}{
		"a canary with its share":              {func(*analyst) {}, true},
		"this leader has told nothing yet":     {func(a *analyst) { a.memory.told = nil }, false},
		"a canary without a share":             {func(a *analyst) { a.memory.told.Weight = 0 }, false},
		"no canary":                            {func(a *analyst) { a.memory.told.Assignment.Canary = nil }, false},
		"no pod has had it yet":                {func(a *analyst) { a.pool.Status.Rollout.AnalysisSince = nil }, false},
		"no rollout":                           {func(a *analyst) { a.pool.Status.Rollout = nil }, false},
		"the status speaks of another":         {func(a *analyst) { a.pool.Status.Rollout.Revision = "3333" }, false},
		"a pinned weight: it is compared, too": {func(a *analyst) { a.pool.Status.Rollout.Step = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAnalyst(t)
			tc.change(a)
			p := &pass{now: a.now, pool: &a.pool, memory: &a.memory}
			if _, _, got := p.compared(); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestTheStatusTellsOfItsOwnCanaryAlone(t *testing.T) {
	a := newAnalyst(t)
	a.pass(0, false)
	a.serve(1000, 300, 3000)
	p := a.pass(analysis.DefaultInterval, true)
	p.decision.Rollout = a.pool.Status.Rollout
	if l := p.looks(); l.Last == nil || l.Failed == nil || l.Needed != 200 || a.memory.comparison.last != nil {
		t.Errorf("looks %+v; want this pass' look, with the memory as it was", l)
	}
	for name, other := range map[string]*v1alpha1.RolloutStatus{
		"another canary":                  {Revision: "3333", AnalysisSince: a.pool.Status.Rollout.AnalysisSince},
		"another try, not begun":          {Revision: "2222"},
		"another try":                     {Revision: "2222", AnalysisSince: new(metav1.NewTime(a.start.Add(time.Minute)))},
		"none: it was taken off, or done": nil,
	} {
		p.decision.Rollout = other
		if l := p.looks(); l.Last != nil || l.Failed != nil {
			t.Errorf("%s: looks %+v", name, l)
		}
	}
}
