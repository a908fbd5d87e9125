package rollout_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Whatever the facts are: the weight is only raised when every live pod is known to be ready and nothing holds, the stable is only replaced
// by what serves everything, and the canary is never in the stable's slot.
func TestO15_O34_NoRaiseWithoutEveryPodWhateverTheFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		untouched := copied(in)
		before := in.Applied
		if in.Told != nil {
			before = in.Told.Weight
		}
		got := rollout.Decide(in)
		if err := broken(&untouched, &in, &got); err != nil {
			t.Fatal(err)
		}
		if in.Stable == nil || in.Canary == nil {
			return
		}
		if got.Assignment.Canary != nil && got.Weight > before && (!everyPodReady(in) || in.Spec.Paused || in.Hold != nil || got.Blocked != "") {
			t.Fatalf("raised from %s to %s with %+v", before, got.Weight, in)
		}
		if got.Rollback != nil && in.Findings == nil && tripped(in) == 0 && in.Unrecorded == nil {
			t.Fatalf("rolled back for nothing: %+v", got.Rollback)
		}
		if u := in.Unrecorded; u != nil && in.Canary.Revision == u.Revision && (got.Weight > 0 || got.Rollback == nil) {
			t.Fatalf("%s to what was rolled back, recorded as %+v", got.Weight, got.Rollback)
		}
		promoted := got.Assignment.Stable.Revision != in.Stable.Revision
		if promoted && in.Stable.Proven && (got.Action != rollout.Promotion || before != rollout.Full || !everyPodReady(in)) {
			t.Fatalf("the stable was replaced by %q at %s with %d pods", got.Action, before, len(in.Pods))
		}
	})
}

// everyPodReady tells whether nothing about the pods holds. Going back to v1 by hand waits for no figures.
func everyPodReady(in rollout.Input) bool {
	byHand := in.Spec.PoolVersion == "v1" && in.Stable.Version == "v2"
	if tripped(in) > 0 {
		return false
	}
	for _, p := range in.Pods {
		if p.Stale && !byHand {
			return false
		}
		if !p.Connected || !p.Acknowledged || !p.Runs(in.Canary) || p.FailsToBoot(in.Canary) || !p.Suits(in.Canary) || p.Unreported {
			return false
		}
	}
	return len(in.Pods) > 0
}

// tripped counts the pods that keep this canary off their traffic.
func tripped(in rollout.Input) (n int) {
	for _, p := range in.Pods {
		if p.Tripped != nil && in.Canary != nil && p.Tripped.Revision == in.Canary.Revision && !p.Tripped.ReportOnly {
			n++
		}
	}
	return n
}

func drawInput(t *rapid.T) rollout.Input {
	version := rapid.SampledFrom([]v1alpha1.PoolVersion{"v1", "v2"})
	module := rapid.SampledFrom([]string{"m", "n"})
	weight := rapid.SampledFrom([]rollout.Weight{0, 1000, rollout.Full})
	stable := placed(version.Draw(t, "stable"), module.Draw(t, "stable module"), "a")
	stable.Proven = rapid.Bool().Draw(t, "proven")
	canary := placed(version.Draw(t, "canary"), module.Draw(t, "canary module"), "b")
	in := rollout.Input{
		Spec:   spec(version.Draw(t, "version"), rapid.SampledFrom([]string{"", "0", "10", "50", "100"}).Draw(t, "weight"), module.Draw(t, "module")),
		Stable: &stable,
	}
	if rapid.Bool().Draw(t, "has canary") && canary.Revision != stable.Revision {
		in.Canary, in.Applied = &canary, weight.Draw(t, "applied")
	}
	if rapid.Bool().Draw(t, "told") {
		in.Told = &rollout.Told{Assignment: rollout.Assignment{Stable: stable, Canary: in.Canary}, Weight: weight.Draw(t, "told weight")}
	}
	in.Now = start.Add(time.Minute)
	in.Spec.Paused = rapid.IntRange(0, 3).Draw(t, "paused") == 0
	if rapid.IntRange(0, 3).Draw(t, "held") == 0 {
		in.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken}
	}
	if rapid.IntRange(0, 3).Draw(t, "blocked") == 0 {
		in.Blocked = canary.Revision
	}
	in.Findings = rapid.SampledFrom([]*analysis.Result{nil, nil, passes(), fails()}).Draw(t, "findings")
	if rapid.IntRange(0, 3).Draw(t, "unrecorded") == 0 {
		in.Unrecorded = &rollout.Unrecorded{RollbackStatus: v1alpha1.RollbackStatus{Revision: canary.Revision, ToRevision: stable.Revision}}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "pods") {
		p := ready(string(rune('p'+i)), stable, canary)
		p.Connected = rapid.Bool().Draw(t, "connected")
		p.Acknowledged = rapid.Bool().Draw(t, "acknowledged")
		p.Slots["b"] = rollout.Slot{
			Revision: rapid.SampledFrom([]string{canary.Revision, stable.Revision, ""}).Draw(t, "runs"),
			Serving:  4, Up: rapid.Bool().Draw(t, "up"), BootFailing: rapid.Bool().Draw(t, "failing"),
		}
		p.Unreported = rapid.IntRange(0, 3).Draw(t, "unreported") == 0
		p.Stale = p.Connected && rapid.IntRange(0, 3).Draw(t, "stale") == 0
		if rapid.IntRange(0, 3).Draw(t, "trips") == 0 {
			p.Tripped = &rollout.Trip{Revision: canary.Revision, ByHand: rapid.Bool().Draw(t, "by hand"), ReportOnly: rapid.Bool().Draw(t, "report only")}
		}
		if rapid.Bool().Draw(t, "outdated") {
			p.Images = map[string][]string{"b": {"old"}}
		}
		if rapid.IntRange(0, 3).Draw(t, "other variables") == 0 {
			p.EnvFrom = map[string]string{"b": "secret/old"}
		}
		p.OtherMounts = rapid.IntRange(0, 3).Draw(t, "other mounts") == 0
		in.Pods = append(in.Pods, p)
	}
	return in
}
