package rollout_test

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

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
		"of pods that may not know of a retry yet":    {trip(as, func(in *rollout.Input) { in.Pods[0].Acknowledged, in.Pods[1].Acknowledged = false, false }), held},
		"of pods that have only acknowledged a retry": {trip(func(t *rollout.Trip) { t.Outdated = true }), held},
		"at 100 % it isn't promoted": {trip(func(t *rollout.Trip) { t.ByHand = true }, func(in *rollout.Input) {
			in.Applied, in.Told.Weight, in.Rollout.Promoting = rollout.Full, rollout.Full, true
		}), outcome{State: rollout.PodsTripped, Weight: rollout.Full, Step: "3/3"}},
	}.run(t)
}
