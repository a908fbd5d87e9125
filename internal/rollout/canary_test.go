package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestO26_ACanaryIsGuardedWhoeverIsAway: the analysis begins with the first pod that sends it requests, and a step's
// time only with the last.
func TestO26_ACanaryIsGuardedWhoeverIsAway(t *testing.T) {
	for name, tc := range map[string]struct {
		away   int
		begins bool
	}{"one of two": {1, true}, "all": {2, false}} {
		t.Run(name, func(t *testing.T) {
			in := second30()
			in.Rollout.StepSince, in.Rollout.WeightSince, in.Rollout.AnalysisSince = nil, nil, nil
			for i := range tc.away {
				in.Pods[i].Connected = false
			}
			is := rollout.Decide(in).Rollout
			if begins := is.AnalysisSince != nil; begins != tc.begins {
				t.Errorf("the analysis begins: %v, want %v", begins, tc.begins)
			}
			if is.WeightSince != nil || is.StepSince != nil {
				t.Errorf("since %v and %v, though not every pod has the weight", is.WeightSince, is.StepSince)
			}
		})
	}
}

// TestO21_AnotherRevisionStartsAtTheFirstStep: what pods give to the revision before it, or may give because they aren't
// heard, is nothing that it has passed.
func TestO21_AnotherRevisionStartsAtTheFirstStep(t *testing.T) {
	off := func(in *rollout.Input) {
		in.Spec = stepped("n", "5 for 60s", "25 for 60s", "50 for 60s")
		in.Told.Weight = 0
	}
	want := outcome{State: rollout.WaitingForWorkers, Action: rollout.CanaryStarted, Step: "1/3"}
	cases{
		"a pod is away":  {func(in *rollout.Input) { off(in); in.Pods[1].Connected = false }, want},
		"no pod is left": {func(in *rollout.Input) { off(in); in.Pods = nil }, want},
	}.run(t)
}

// TestO17_AnotherWeightEndsAPromotion that a token asked for: who lowers it, or begins steps, has thought again.
func TestO17_AnotherWeightEndsAPromotion(t *testing.T) {
	promoting := func(weight string, more ...func(*rollout.Input)) func(*rollout.Input) {
		return func(in *rollout.Input) {
			in.Spec, in.Tokens.Promote = spec("v2", "25", "m"), "now"
			d := rollout.Decide(*in)
			in.Rollout, in.Handled, in.Spec = d.Rollout, d.Handled, spec("v2", weight, "m")
			for _, change := range more {
				change(in)
			}
		}
	}
	atAll := func(in *rollout.Input) { told(in, rollout.Full); in.Pods[1].Acknowledged = false }
	changed := func(w rollout.Weight) outcome {
		return outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: w}
	}
	cases{
		"the same one":                          {promoting("25"), changed(rollout.Full)},
		"none":                                  {promoting("0"), changed(0)},
		"none, paused":                          {promoting("0", func(in *rollout.Input) { in.Spec.Paused = true }), changed(0)},
		"less, when it has all already":         {promoting("10", atAll), changed(1000)},
		"the same one, when it has all already": {promoting("25", atAll), outcome{State: rollout.Unacknowledged, Weight: rollout.Full}},
		"steps, of which the second gives that much": {promoting("25", func(in *rollout.Input) {
			in.Spec = stepped("m", "5 for 60s", "25 for 60s", "50 for 60s")
		}), outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true}},
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
		"while paused":                   {fail(func(in *rollout.Input) { in.Spec.Paused = true }), back},
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
