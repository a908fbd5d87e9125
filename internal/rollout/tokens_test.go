package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

func TestTokens(t *testing.T) {
	tokens := func(h v1alpha1.HandledTokens, more ...func(*rollout.Input)) func(*rollout.Input) {
		return func(in *rollout.Input) {
			in.Tokens = h
			for _, change := range more {
				change(in)
			}
		}
	}
	retry, promote, abort := v1alpha1.HandledTokens{Retry: "x"}, v1alpha1.HandledTokens{Promote: "x"}, v1alpha1.HandledTokens{Abort: "x"}
	pause, resume := v1alpha1.HandledTokens{Pause: "x"}, v1alpha1.HandledTokens{Resume: "x"}
	settled := func(in *rollout.Input) {
		in.Spec, in.Canary, in.Told.Assignment.Canary, in.Rollout = spec("v1", "", "m"), nil, nil, nil
	}
	rolledBack := func(in *rollout.Input) {
		in.Blocked, in.Canary, in.Told.Assignment.Canary, in.Rollout = in.Canary.Revision, nil, nil, nil
	}
	byToken := func(in *rollout.Input) { in.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken} }
	byPolicy := func(in *rollout.Input) {
		in.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Revision: in.Canary.Revision}
	}
	first := func(in *rollout.Input) { in.Stable, in.Canary, in.Told, in.Rollout = nil, nil, nil, nil }
	superseded := func(in *rollout.Input) { in.Spec = spec("v2", "10", "n") }

	running := outcome{State: rollout.StepInProgress, Weight: 2500, Step: "2/3", Since: true}
	noted := func(o outcome, note string) outcome { o.Notes = note; return o }
	held := func(o outcome, by string) outcome { o.Hold = by; return o }
	serves := outcome{State: rollout.Promoted, Slots: "v1@a -"}
	blocked := outcome{State: rollout.RolledBack, Blocked: true, Slots: "v1@a -"}
	dropping := outcome{State: rollout.CanaryDropping, Action: rollout.WeightChanged}
	installed := outcome{State: rollout.WaitingForWorkers, Action: rollout.StableSet, Step: "1/3"}
	restarted := outcome{State: rollout.CanaryProgressing, Action: rollout.Retry, Weight: 500, Step: "1/3"}
	cases{
		"abort rolls back":       {tokens(abort), outcome{State: rollout.RolledBack, Action: rollout.Abort, Blocked: true}},
		"abort under DryRun":     {tokens(abort, policy(v1alpha1.RollbackDryRun)), outcome{State: rollout.RolledBack, Action: rollout.Abort, Blocked: true}},
		"abort ends its hold":    {tokens(abort, byPolicy), outcome{State: rollout.RolledBack, Action: rollout.Abort, Blocked: true}},
		"abort, nothing there":   {tokens(abort, settled), noted(serves, rollout.NoteNothingToAbort)},
		"abort, rolled back":     {tokens(abort, rolledBack), noted(blocked, rollout.NoteNothingToAbort)},
		"abort, superseded":      {tokens(abort, superseded), noted(dropping, rollout.NoteNothingToAbort)},
		"abort, first visit":     {tokens(abort, first), noted(installed, rollout.NoteNothingToAbort)},
		"pause holds":            {tokens(pause), held(outcome{State: rollout.Paused, Action: rollout.Pause, Weight: 2500, Step: "2/3", Since: true}, v1alpha1.HeldByToken)},
		"pause, nothing there":   {tokens(pause, settled), held(outcome{State: rollout.Promoted, Action: rollout.Pause, Slots: "v1@a -"}, v1alpha1.HeldByToken)},
		"pause, first visit":     {tokens(pause, first), held(installed, v1alpha1.HeldByToken)},
		"pause, held already":    {tokens(pause, byPolicy), noted(held(outcome{State: rollout.AnalysisFailed, Weight: 2500, Step: "2/3", Since: true}, v1alpha1.HeldByPolicy), rollout.NoteNothingToPause)},
		"resume":                 {tokens(resume, byToken), outcome{State: rollout.CanaryProgressing, Action: rollout.Resume, Weight: 2500, Step: "2/3", Since: true}},
		"resume, by the policy":  {tokens(resume, byPolicy), outcome{State: rollout.CanaryProgressing, Action: rollout.Resume, Weight: 2500, Step: "2/3"}},
		"resume, nothing held":   {tokens(resume), noted(running, rollout.NoteNothingToResume)},
		"resume, spec.paused":    {tokens(resume, func(in *rollout.Input) { in.Spec.Paused = true }), noted(outcome{State: rollout.Paused, Weight: 2500, Step: "2/3", Since: true}, rollout.NoteNothingToResume)},
		"TestO38 retry unblocks": {tokens(retry, rolledBack), outcome{State: rollout.WaitingForWorkers, Action: rollout.Retry, Slots: "v1@a -"}},
		"TestO38 retry restarts": {tokens(retry), restarted},
		"retry ends its hold":    {tokens(retry, byPolicy), restarted},
		"retry while promoting":  {tokens(retry, func(in *rollout.Input) { told(in, rollout.Full); in.Rollout.Promoting = true }), restarted},
		"retry, paused":          {tokens(retry, rolledBack, byToken), held(outcome{State: rollout.Paused, Action: rollout.Retry, Slots: "v1@a -"}, v1alpha1.HeldByToken)},
		"retry, nothing there":   {tokens(retry, settled), noted(serves, rollout.NoteNothingToRetry)},
		"TestO38 used twice":     {tokens(retry, func(in *rollout.Input) { in.Handled.Retry = "x" }), running},
		"promote skips steps":    {tokens(promote), outcome{State: rollout.CanaryProgressing, Action: rollout.Promote, Weight: 2500, Step: "3/3"}},
		"promote, pinned":        {tokens(promote, func(in *rollout.Input) { in.Spec = spec("v2", "25", "m") }), outcome{State: rollout.CanaryProgressing, Action: rollout.Promote, Weight: 2500}},
		"promote, paused":        {tokens(promote, byToken), held(outcome{State: rollout.Paused, Action: rollout.Promote, Weight: 2500, Step: "3/3"}, v1alpha1.HeldByToken)},
		"promote, twice":         {tokens(promote, func(in *rollout.Input) { told(in, 5000); in.Rollout.Promoting = true }), outcome{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: rollout.Full, Step: "3/3", Notes: rollout.NoteNothingToPromote}},
		"promote, nothing there": {tokens(promote, settled), noted(serves, rollout.NoteNothingToPromote)},
		"promote, rolled back":   {tokens(promote, rolledBack), noted(blocked, rollout.NoteNothingToPromote)},
		"promote, first visit":   {tokens(promote, first), noted(installed, rollout.NoteNothingToPromote)},
		"promote, too long":      {tokens(v1alpha1.HandledTokens{Promote: strings.Repeat("ü", 129)}), running},
		"as long as may be":      {tokens(v1alpha1.HandledTokens{Abort: strings.Repeat("x", v1alpha1.MaxToken)}), outcome{State: rollout.RolledBack, Action: rollout.Abort, Blocked: true}},
		"a failing look first": {tokens(pause, func(in *rollout.Input) { in.Findings = fails() }), outcome{
			State: rollout.RolledBack, Action: rollout.Rollback, Blocked: true,
		}},
	}.run(t)
}

// Tokens that come together are each acted upon once, one in a pass, the safest first.
func TestTokensThatComeTogether(t *testing.T) {
	all := v1alpha1.HandledTokens{Retry: "1", Promote: "2", Abort: "3", Pause: "4", Resume: "5"}
	f := newFleet("p", "q")
	f.then("", f.apply("v1", "", "m"))
	f.then("", f.applySteps("m", threeSteps...))
	f.tokens = all
	var did []string
	for range 6 {
		f.obey()
		d := f.decide(nil)
		f.take(&d)
		did = append(did, string(d.Action))
		if pending := cmp.Diff(all, f.handled) != ""; pending && (d.Again <= 0 || d.Again > time.Second) {
			t.Errorf("after %s comes back in %s with tokens to handle", d.Action, d.Again)
		}
	}
	if diff := cmp.Diff([]string{"Aborted", "Paused", "Retried", "Resumed"}, did[:4]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all, f.handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
	if f.problem != nil {
		t.Error(f.problem)
	}
}

// TestO38_ATokenThatIsTooLongLeavesTheLastOne: it would end the pods' trips, and the one before could be used again.
func TestO38_ATokenThatIsTooLongLeavesTheLastOne(t *testing.T) {
	in := second30()
	in.Handled.Retry, in.Tokens.Retry = "before", strings.Repeat("x", v1alpha1.MaxToken+1)
	d := rollout.Decide(in)
	if d.Handled.Retry != "before" || len(d.Notes) != 0 {
		t.Errorf("handled %q, notes %+v", d.Handled.Retry, d.Notes)
	}
	in.Tokens.Retry = strings.Repeat("x", v1alpha1.MaxToken)
	if d := rollout.Decide(in); d.Action != rollout.Retry {
		t.Errorf("the longest one: %q", d.Action)
	}
}
