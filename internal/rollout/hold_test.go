package rollout_test

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

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
		"an unproven stable is replaced, without a canary": {func(in *rollout.Input) {
			noCanary(in)
			in.Stable.Proven, in.Pods, in.Hold, in.Spec = false, nil, byToken, stepped("n", "5 for 60s")
		}, outcome{State: rollout.Paused, Action: rollout.StableSet, Slots: "v1@a -", Hold: v1alpha1.HeldByToken}},
		"the first install has no canary": {func(in *rollout.Input) {
			in.Stable, in.Canary, in.Told, in.Rollout = nil, nil, nil, nil
			in.Spec.Paused = true
		}, outcome{State: rollout.Paused, Action: rollout.StableSet, Slots: "v1@a -"}},
	}.run(t)
}
