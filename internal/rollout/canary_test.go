package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/util/intstr"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

func at(d time.Duration) *metav1.Time { return new(metav1.NewTime(start.Add(d))) }

// second30 is a rollout in its second step of three (5, 25 and 50 %, 60 s each), 30 s after it began: v2 beside a proven
// v1 in two ready pods that have acknowledged 25 %.
func second30() rollout.Input {
	stable, canary := placed("v1", "m", "a"), placed("v2", "m", "b")
	stable.Proven = true
	return rollout.Input{
		Spec: stepped("m", "5 for 60s", "25 for 60s", "50 for 60s"), Stable: &stable, Canary: &canary, Applied: 2500,
		Told: &rollout.Told{Assignment: rollout.Assignment{Stable: stable, Canary: &canary}, Weight: 2500},
		Pods: []rollout.Pod{ready("one", stable, canary), ready("two", stable, canary)},
		Now:  start.Add(30 * time.Second),
		Rollout: &v1alpha1.RolloutStatus{
			Revision: canary.Revision, Step: 2, Steps: 3, StepSince: at(0), WeightSince: at(0), AnalysisSince: at(-time.Minute), Summary: "2/3",
		},
	}
}

// told is the same as if the routers had been told, and acknowledged, another weight.
func told(in *rollout.Input, w rollout.Weight) {
	in.Applied, in.Told.Weight = w, w
}

func passes() *analysis.Result {
	return &analysis.Result{Verdict: analysis.Pass, Reason: analysis.Healthy, CanarySamples: 100, StableSamples: 100}
}

// fails is what a real look finds against 30 % of failures.
func fails() *analysis.Result {
	r := analysis.Decide(analysis.Input{
		CanaryName: "v2", StableName: "v1", Span: 30 * time.Second, Thresholds: analysis.Thresholds{MinSamples: 100, MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01},
		Pods: []analysis.Pod{{Canary: analysis.Counts{Requests: 200, Errors: 60}, Stable: analysis.Counts{Requests: 600, Errors: 6}}},
		Grid: analysis.Grid{Start: start}, Now: start.Add(30 * time.Second),
	})
	return &r
}

func policy(p v1alpha1.RollbackPolicy) func(*rollout.Input) {
	return func(in *rollout.Input) { in.Spec.Rollback.Policy = p }
}

// outcome is what the tables look at.
type outcome struct {
	State   rollout.State
	Action  rollout.Action
	Weight  rollout.Weight
	Step    string // summary; empty: no rollout
	Since   bool   // the step's time runs
	Blocked bool
	Hold    string // by
	Notes   string // reasons
	Slots   string // empty: v1@a v2@b
}

func outcomeOf(d *rollout.Decision) outcome {
	o := outcome{State: d.State, Action: d.Action, Weight: d.Weight, Blocked: d.Blocked != ""}
	if d.Rollout != nil {
		o.Step, o.Since = d.Rollout.Summary, d.Rollout.StepSince != nil
	}
	if d.Hold != nil {
		o.Hold = d.Hold.By
	}
	var notes []string
	for _, n := range d.Notes {
		notes = append(notes, n.Reason)
	}
	o.Notes = strings.Join(notes, " ")
	if slots := describe(d.Assignment); slots != "v1@a v2@b" {
		o.Slots = slots
	}
	return o
}

type cases map[string]struct {
	change func(*rollout.Input)
	want   outcome
}

func (c cases) run(t *testing.T) {
	t.Helper()
	for name, tc := range c {
		t.Run(name, func(t *testing.T) {
			in := second30()
			tc.change(&in)
			before := copied(in)
			d := rollout.Decide(in)
			if err := broken(&before, &in, &d); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tc.want, outcomeOf(&d)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	over := func(f *analysis.Result) func(*rollout.Input) {
		return func(in *rollout.Input) { in.Now, in.Findings = start.Add(60*time.Second), f }
	}
	few := passes()
	few.CanarySamples = 99
	running := outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true}
	advanced := outcome{State: rollout.CanaryProgressing, Action: rollout.StepAdvanced, Weight: 5000, Step: "3/3"}
	insufficient := outcome{State: rollout.InsufficientSamples, Weight: 2500, Step: "2/3", Since: true}
	cases{
		"its time runs":                                       {func(*rollout.Input) {}, running},
		"passed before its time is over":                      {func(in *rollout.Input) { in.Findings = passes() }, running},
		"over and passed":                                     {over(passes()), advanced},
		"over, no look is due":                                {func(in *rollout.Input) { in.Now = start.Add(61 * time.Second) }, insufficient},
		"over, but between two looks":                         {func(in *rollout.Input) { in.Rollout.StepSince = at(time.Second); in.Now = start.Add(61 * time.Second) }, running},
		"TestO30 over, samples are missing":                   {over(&analysis.Result{Verdict: analysis.Insufficient}), insufficient},
		"over, passed with fewer samples than the step wants": {over(few), insufficient},
		"over, with the samples of a step that wants fewer": {func(in *rollout.Input) {
			over(few)(in)
			in.Spec.Canary.Steps[1].MinSamples = new(int32(99))
		}, advanced},
		"the last one is followed by everything": {func(in *rollout.Input) {
			over(passes())(in)
			told(in, 5000)
			in.Rollout.Step = 3
		}, outcome{State: rollout.CanaryProgressing, Action: rollout.StepAdvanced, Weight: rollout.Full, Step: "3/3"}},
		"then it is promoted without a further look": {func(in *rollout.Input) {
			told(in, rollout.Full)
			in.Rollout.Step, in.Rollout.Promoting, in.Rollout.StepSince = 0, true, nil
		}, outcome{State: rollout.Promoted, Action: rollout.Promotion, Slots: "v2@b -"}},
		"its time begins when every pod has its weight": {func(in *rollout.Input) { in.Rollout.StepSince = nil }, running},
		"and not before": {func(in *rollout.Input) { in.Rollout.StepSince, in.Pods[1].Acknowledged = nil, false }, outcome{
			State: rollout.Unacknowledged, Weight: 2500, Step: "2/3",
		}},
		"TestO16 a pod whose figures don't come holds":    {func(in *rollout.Input) { over(passes())(in); in.Pods[0].Stale = true }, outcome{State: rollout.MetricsUnavailable, Weight: 2500, Step: "2/3", Since: true}},
		"TestO42 a pod that is away holds":                {func(in *rollout.Input) { over(passes())(in); in.Pods[0].Connected = false }, outcome{State: rollout.Unacknowledged, Weight: 2500, Step: "2/3", Since: true}},
		"TestO22 a new leader goes on in the same step":   {func(in *rollout.Input) { in.Told = nil }, outcome{State: rollout.WaitingForWorkers, Weight: 2500, Step: "2/3", Since: true}},
		"TestO22 a new leader advances nothing unheard":   {func(in *rollout.Input) { over(passes())(in); in.Told = nil }, outcome{State: rollout.WaitingForWorkers, Weight: 2500, Step: "2/3", Since: true}},
		"TestO22 a step that was decided and not told of": {func(in *rollout.Input) { in.Rollout.Step, in.Rollout.StepSince = 3, nil }, outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 5000, Step: "3/3"}},
	}.run(t)
}

// Steps that are edited on the way: the pods have 25 %.
func TestEditedSteps(t *testing.T) {
	steps := func(weights ...string) func(*rollout.Input) {
		return func(in *rollout.Input) {
			var all []string
			for _, w := range weights {
				all = append(all, w+" for 60s")
			}
			in.Spec = stepped("m", all...)
		}
	}
	raised := func(w rollout.Weight, step string) outcome {
		return outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: w, Step: step}
	}
	cases{
		"one more before: it goes on":               {steps("5", "10", "25", "50"), outcome{State: rollout.StepInProgress, Weight: 2500, Step: "3/4", Since: true}},
		"one less before: it goes on":               {steps("25", "50"), outcome{State: rollout.StepInProgress, Weight: 2500, Step: "1/2", Since: true}},
		"more after: it goes on":                    {steps("5", "25", "50", "75"), outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/4", Since: true}},
		"its own is gone: the next that gives more": {steps("5", "30", "50"), raised(3000, "2/3")},
		"all give less: the last":                   {steps("1", "2"), raised(200, "2/2")},
		"a pinned weight":                           {func(in *rollout.Input) { in.Spec = spec("v2", "40", "m") }, raised(4000, "")},
		"a pinned weight of as much":                {func(in *rollout.Input) { in.Spec = spec("v2", "25", "m") }, outcome{State: rollout.CanaryPinned, Weight: 2500}},
		"pinned after all steps: it isn't promoted": {func(in *rollout.Input) {
			in.Spec, in.Rollout.Promoting, in.Rollout.Step = spec("v2", "25", "m"), true, 0
		}, outcome{State: rollout.CanaryPinned, Weight: 2500}},
		"no canary block": {func(in *rollout.Input) { in.Spec = spec("v2", "", "m") }, raised(rollout.Full, "")},
		"steps instead of a pinned weight": {func(in *rollout.Input) {
			in.Rollout = &v1alpha1.RolloutStatus{Revision: in.Canary.Revision, WeightSince: at(0), AnalysisSince: at(0)}
		}, outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true}},
		"steps instead of a pinned weight, which none of them has": {func(in *rollout.Input) {
			in.Rollout = &v1alpha1.RolloutStatus{Revision: in.Canary.Revision, WeightSince: at(0), AnalysisSince: at(0)}
			told(in, 1000)
		}, raised(2500, "2/3")},
		"another duration": {func(in *rollout.Input) {
			in.Spec.Canary.Steps[1].Duration.Duration, in.Findings = 20*time.Second, passes()
		}, outcome{State: rollout.CanaryProgressing, Action: rollout.StepAdvanced, Weight: 5000, Step: "3/3"}},
	}.run(t)
}

func TestRollback(t *testing.T) {
	fail := func(more ...func(*rollout.Input)) func(*rollout.Input) {
		return func(in *rollout.Input) {
			in.Findings = fails()
			for _, change := range more {
				change(in)
			}
		}
	}
	back := outcome{State: rollout.RolledBack, Action: rollout.Rollback, Blocked: true}
	running := outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true}
	blocked := func(more ...func(*rollout.Input)) func(*rollout.Input) {
		return func(in *rollout.Input) {
			in.Blocked = in.Canary.Revision
			for _, change := range more {
				change(in)
			}
		}
	}
	emptied := func(in *rollout.Input) { told(in, 0) }
	gone := func(in *rollout.Input) { in.Canary, in.Told.Assignment.Canary = nil, nil }
	cases{
		"TestO26 in a step":  {fail(), back},
		"at a pinned weight": {fail(func(in *rollout.Input) { in.Spec = spec("v2", "25", "m") }), back},
		"at 100 %, before it is promoted": {fail(func(in *rollout.Input) {
			told(in, rollout.Full)
			in.Rollout.Promoting = true
		}), back},
		"TestO23 while paused":           {fail(func(in *rollout.Input) { in.Spec.Paused = true }), back},
		"while a pod isn't acknowledged": {fail(func(in *rollout.Input) { in.Pods[0].Acknowledged = false }), back},
		"while a pod is away":            {fail(func(in *rollout.Input) { in.Pods[0].Connected = false }), back},
		"TestO32 not while all are":      {fail(func(in *rollout.Input) { in.Pods[0].Connected, in.Pods[1].Connected = false, false }), outcome{State: rollout.Unacknowledged, Weight: 2500, Step: "2/3", Since: true}},
		"not without traffic": {fail(func(in *rollout.Input) {
			told(in, 0)
			in.Rollout = nil
		}), outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 500, Step: "1/3"}},
		"not what the spec no longer wants": {fail(func(in *rollout.Input) { in.Spec = spec("v2", "10", "n") }), outcome{State: rollout.CanaryDropping, Action: rollout.WeightChanged}},
		"Pause holds":                       {fail(policy(v1alpha1.RollbackPause)), outcome{State: rollout.AnalysisFailed, Action: rollout.Holding, Weight: 2500, Step: "2/3", Since: true, Hold: v1alpha1.HeldByPolicy}},
		"Pause holds once": {fail(policy(v1alpha1.RollbackPause), func(in *rollout.Input) {
			in.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Revision: in.Canary.Revision}
		}), outcome{State: rollout.AnalysisFailed, Weight: 2500, Step: "2/3", Since: true, Hold: v1alpha1.HeldByPolicy}},
		"a hold of another revision is over": {func(in *rollout.Input) {
			in.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Revision: "another"}
		}, running},
		"TestO40 DryRun tells":      {fail(policy(v1alpha1.RollbackDryRun)), outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true, Notes: rollout.NoteWouldRollBack}},
		"TestO40 DryRun tells once": {fail(policy(v1alpha1.RollbackDryRun), func(in *rollout.Input) { in.Rollout.WouldRollBack = "it failed" }), running},
		"TestO40 DryRun goes on": {fail(policy(v1alpha1.RollbackDryRun), func(in *rollout.Input) { in.Now = start.Add(time.Minute) }), outcome{
			State: rollout.CanaryProgressing, Action: rollout.StepAdvanced, Weight: 5000, Step: "3/3", Notes: rollout.NoteWouldRollBack,
		}},
		"TestO62 finished by another leader":                  {blocked(func(in *rollout.Input) { in.Told = nil }), outcome{State: rollout.RolledBack, Action: rollout.WeightChanged, Blocked: true}},
		"its slot is kept until connected routers heard":      {blocked(func(in *rollout.Input) { in.Told.Weight = 0; in.Pods[0].Acknowledged = false }), outcome{State: rollout.RolledBack, Blocked: true}},
		"not for one that is away":                            {blocked(func(in *rollout.Input) { in.Told.Weight = 0; in.Pods[0].Connected = false }), outcome{State: rollout.RolledBack, Action: rollout.CanaryDropped, Blocked: true, Slots: "v1@a -"}},
		"its slot is emptied":                                 {blocked(emptied), outcome{State: rollout.RolledBack, Action: rollout.CanaryDropped, Blocked: true, Slots: "v1@a -"}},
		"TestO37 it stays":                                    {blocked(gone), outcome{State: rollout.RolledBack, Blocked: true, Slots: "v1@a -"}},
		"TestO37 it stays with another weight and size":       {blocked(gone, func(in *rollout.Input) { in.Spec = spec("v2", "", "m"); in.Spec.Size = 9 }), outcome{State: rollout.RolledBack, Blocked: true, Slots: "v1@a -"}},
		"TestO39 back to v1 ends it":                          {blocked(gone, func(in *rollout.Input) { in.Spec = spec("v1", "", "m") }), outcome{State: rollout.Promoted, Slots: "v1@a -"}},
		"another revision ends it":                            {blocked(gone, func(in *rollout.Input) { in.Spec = spec("v2", "10", "n") }), outcome{State: rollout.WaitingForWorkers, Action: rollout.CanaryStarted}},
		"another revision ends it, the slot is emptied first": {blocked(func(in *rollout.Input) { in.Spec = spec("v2", "10", "n") }), outcome{State: rollout.CanaryDropping, Action: rollout.WeightChanged}},
	}.run(t)
}

// Going back to v1 by hand is nobody's to refuse, whatever the figures say.
func TestO39_ByHandAsksNoAnalysis(t *testing.T) {
	in := second30()
	in.Spec = stepped("m", "5 for 60s")
	in.Spec.PoolVersion = "v1"
	in.Stable, in.Canary = new(placed("v2", "m", "a")), new(placed("v1", "m", "b"))
	in.Stable.Proven = true
	in.Told.Assignment = rollout.Assignment{Stable: *in.Stable, Canary: in.Canary}
	in.Rollout.Revision = in.Canary.Revision
	for i := range in.Pods {
		in.Pods[i] = ready(in.Pods[i].Name, *in.Stable, *in.Canary)
		in.Pods[i].Stale = true
	}
	in.Findings = fails()
	d := rollout.Decide(in)
	if d.Action != rollout.WeightChanged || d.Weight != rollout.Full || d.Blocked != "" {
		t.Errorf("%s by %q at %s, want everything at once", d.State, d.Action, d.Weight)
	}
}

func TestO35_RollbackRecord(t *testing.T) {
	in := second30()
	in.Findings = fails()
	d := rollout.Decide(in)
	want := &v1alpha1.RollbackStatus{
		Revision: in.Canary.Revision, From: "v2", To: "v1", ToRevision: in.Stable.Revision, Weight: "25", Reason: "ErrorRateExceeded",
		Evidence: []string{"v2 failed 60 of 200 requests (30.0 %), v1 6 of 600 (1.0 %), same pods, 30 s; allowed increase 1 %" +
			" (exact unconditional test (Chan 1998): p 2.3e-06, bound 0.00023, look 15, pods 1)"},
		Time: *at(30 * time.Second),
	}
	if diff := cmp.Diff(want, d.Rollback); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.Blocked != in.Canary.Revision || d.Rollout != nil || d.Desired != 0 {
		t.Errorf("blocked %q, desired %s, rollout %+v", d.Blocked, d.Desired, d.Rollout)
	}
}

func TestO82_FleetFollows(t *testing.T) {
	for name, tc := range map[string]struct {
		own, byHand, silent, live int
		follows                   bool
	}{
		"one of two":              {1, 0, 0, 2, false},
		"both":                    {2, 0, 0, 2, true},
		"two of three":            {2, 0, 0, 3, true},
		"the only one":            {1, 0, 0, 1, true},
		"the only one, by hand":   {0, 1, 0, 1, false},
		"one, and one by hand":    {1, 1, 0, 2, false},
		"all by hand":             {0, 9, 0, 9, false},
		"a tenth of twenty":       {2, 0, 0, 20, false},
		"more than that":          {3, 0, 0, 20, true},
		"one of a hundred":        {1, 0, 0, 100, false},
		"ten of a hundred":        {10, 0, 0, 100, false},
		"eleven of a hundred":     {11, 0, 0, 100, true},
		"two of which one is new": {1, 0, 1, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := second30()
			in.Pods = nil
			for i := range tc.live {
				p := ready(string(rune('A'+i)), *in.Stable, *in.Canary)
				trip := crashLoop
				trip.Revision, trip.ByHand = in.Canary.Revision, i >= tc.own && i < tc.own+tc.byHand
				if i < tc.own+tc.byHand+tc.silent {
					p.Tripped = &trip
				}
				p.Acknowledged = i < tc.own+tc.byHand || i >= tc.own+tc.byHand+tc.silent
				in.Pods = append(in.Pods, p)
			}
			d := rollout.Decide(in)
			if follows := d.Action == rollout.Rollback; follows != tc.follows {
				t.Fatalf("%s by %q", d.State, d.Action)
			}
			if !tc.follows && (d.State != rollout.PodsTripped || d.Weight != 2500) {
				t.Errorf("%s at %s, want it held", d.State, d.Weight)
			}
			if tc.follows && (d.Rollback.Reason != rollout.ReasonPodsTripped || len(d.Rollback.Evidence) != min(10, tc.own)) {
				t.Errorf("%+v", d.Rollback)
			}
		})
	}
}

func TestTrips(t *testing.T) {
	trip := func(change func(*rollout.Trip), more ...func(*rollout.Input)) func(*rollout.Input) {
		return func(in *rollout.Input) {
			in.Now, in.Findings = start.Add(time.Minute), passes()
			for i := range in.Pods {
				t := crashLoop
				t.Revision = in.Canary.Revision
				change(&t)
				in.Pods[i].Tripped = &t
			}
			for _, change := range more {
				change(in)
			}
		}
	}
	as := func(*rollout.Trip) {}
	reported := func(t *rollout.Trip) { t.ReportOnly = true }
	advanced := outcome{State: rollout.CanaryProgressing, Action: rollout.StepAdvanced, Weight: 5000, Step: "3/3"}
	held := outcome{State: rollout.PodsTripped, Weight: 2500, Step: "2/3", Since: true}
	told := advanced
	told.Notes = rollout.NoteWouldRollBack
	cases{
		"all":                       {trip(as), outcome{State: rollout.RolledBack, Action: rollout.Rollback, Blocked: true}},
		"against another revision":  {trip(func(t *rollout.Trip) { t.Revision = "another" }), advanced},
		"that are only reported":    {trip(reported), advanced},
		"TestO80 by hand they hold": {trip(func(t *rollout.Trip) { t.ByHand = true }), held},
		"Pause holds":               {trip(as, policy(v1alpha1.RollbackPause)), outcome{State: rollout.AnalysisFailed, Action: rollout.Holding, Weight: 2500, Step: "2/3", Since: true, Hold: v1alpha1.HeldByPolicy}},
		"TestO40 DryRun tells":      {trip(reported, policy(v1alpha1.RollbackDryRun)), told},
		"before DryRun they hold":   {trip(as, policy(v1alpha1.RollbackDryRun)), held},
		"without traffic they hold": {trip(as, func(in *rollout.Input) {
			in.Applied, in.Told.Weight, in.Rollout = 0, 0, nil
		}), outcome{State: rollout.PodsTripped, Step: "1/3"}},
		"of pods that may not know of a retry yet": {trip(as, func(in *rollout.Input) { in.Pods[0].Acknowledged, in.Pods[1].Acknowledged = false, false }), held},
		"at 100 % it isn't promoted": {trip(func(t *rollout.Trip) { t.ByHand = true }, func(in *rollout.Input) {
			in.Applied, in.Told.Weight, in.Rollout.Promoting = rollout.Full, rollout.Full, true
		}), outcome{State: rollout.PodsTripped, Weight: rollout.Full, Step: "3/3"}},
	}.run(t)
}

func TestPaused(t *testing.T) {
	byToken := &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken}
	paused := outcome{State: rollout.Paused, Weight: 2500, Step: "2/3", Since: true}
	held := paused
	held.Hold = v1alpha1.HeldByToken
	over := func(in *rollout.Input) { in.Now, in.Findings = start.Add(time.Minute), passes() }
	noCanary := func(in *rollout.Input) { in.Canary, in.Told.Assignment.Canary, in.Rollout = nil, nil, nil }
	cases{
		"a step doesn't advance":       {func(in *rollout.Input) { over(in); in.Spec.Paused = true }, paused},
		"by a token neither":           {func(in *rollout.Input) { over(in); in.Hold = byToken }, held},
		"a pinned weight isn't raised": {func(in *rollout.Input) { in.Spec = spec("v2", "50", "m"); in.Spec.Paused = true }, outcome{State: rollout.Paused, Weight: 2500}},
		"one that is reached isn't held": {func(in *rollout.Input) {
			in.Spec = spec("v2", "25", "m")
			in.Spec.Paused = true
			in.Rollout.StepSince = nil
		}, outcome{State: rollout.CanaryPinned, Weight: 2500}},
		"a weight is lowered": {func(in *rollout.Input) { in.Spec = spec("v2", "5", "m"); in.Spec.Paused = true }, outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 500}},
		"nothing is promoted": {func(in *rollout.Input) {
			told(in, rollout.Full)
			in.Rollout.Promoting = true
			in.Spec.Paused = true
			in.Rollout.StepSince = nil
		}, outcome{State: rollout.Paused, Weight: rollout.Full, Step: "3/3"}},
		"nothing is started":      {func(in *rollout.Input) { noCanary(in); in.Spec.Paused = true }, outcome{State: rollout.Paused, Slots: "v1@a -"}},
		"the unwanted is dropped": {func(in *rollout.Input) { in.Spec = spec("v2", "5", "n"); in.Spec.Paused = true }, outcome{State: rollout.CanaryDropping, Action: rollout.WeightChanged}},
		"and not replaced":        {func(in *rollout.Input) { told(in, 0); in.Spec = spec("v2", "5", "n"); in.Spec.Paused = true }, outcome{State: rollout.Paused, Action: rollout.CanaryDropped, Slots: "v1@a -"}},
		"the first install has no canary": {func(in *rollout.Input) {
			in.Stable, in.Canary, in.Told, in.Rollout = nil, nil, nil, nil
			in.Spec.Paused = true
		}, outcome{State: rollout.Paused, Action: rollout.StableSet, Slots: "v1@a -"}},
	}.run(t)
}

func TestHelpersOfTheAnalysis(t *testing.T) {
	s := stepped("m", "5 for 60s", "25 for 60s")
	if diff := cmp.Diff(analysis.Thresholds{MinSamples: 100, MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01}, rollout.Thresholds(s, nil)); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	s.Analysis = v1alpha1.Analysis{
		MinSamples: new(int32(300)), MaxErrorRateIncrease: new(intstr.FromString("0.5%")), MaxTimeoutRateIncrease: new(intstr.FromInt32(0)),
		Window: &metav1.Duration{Duration: time.Minute},
	}
	s.Canary.Steps[1].MinSamples = new(int32(40))
	for step, want := range map[int32]uint64{0: 300, 1: 300, 2: 40, 3: 300} {
		got := rollout.Thresholds(s, &v1alpha1.RolloutStatus{Step: step})
		if diff := cmp.Diff(analysis.Thresholds{MinSamples: want, MaxErrorRateIncrease: 0.005}, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", step, diff)
		}
	}
	progress := &v1alpha1.RolloutStatus{WeightSince: at(0), AnalysisSince: at(-time.Hour)}
	for after, want := range map[time.Duration]time.Duration{0: 0, time.Minute: 0, 90 * time.Second: 30 * time.Second} {
		if from, counts := rollout.CountFrom(s, progress, start.Add(after)); !counts || !from.Equal(start.Add(want)) {
			t.Errorf("after %s counts from %s (%v), want %s", after, from, counts, start.Add(want))
		}
	}
	if _, counts := rollout.CountFrom(s, &v1alpha1.RolloutStatus{}, start); counts {
		t.Error("counts without a weight that every pod has")
	}
	if grid, runs := rollout.Looks(progress); !runs || !grid.Start.Equal(start.Add(-time.Hour)) {
		t.Errorf("looks from %s (%v)", grid.Start, runs)
	}
	if _, runs := rollout.Looks(&v1alpha1.RolloutStatus{}); runs {
		t.Error("looks before the canary had traffic")
	}
	if rollout.ReportOnly(s) {
		t.Error("trips are only reported without DryRun")
	}
	if s.Rollback.Policy = v1alpha1.RollbackDryRun; !rollout.ReportOnly(s) {
		t.Error("trips are acted upon under DryRun")
	}
}
