package rollout_test

import (
	"errors"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/internal/rollout"
)

// copied is an input that shares nothing with the given one that a decision could write to.
func copied(in rollout.Input) rollout.Input {
	in.Spec = in.Spec.DeepCopy()
	in.Stable, in.Canary = in.Stable.DeepCopy(), in.Canary.DeepCopy()
	in.Rollout, in.Hold = in.Rollout.DeepCopy(), in.Hold.DeepCopy()
	return in
}

// broken says what a decision did that none may do.
func broken(before, in *rollout.Input, d *rollout.Decision) error {
	if !reflect.DeepEqual(*before, *in) {
		return fmt.Errorf("the input was written to: %+v", *in)
	}
	if c := d.Assignment.Canary; c != nil && c.Slot == d.Assignment.Stable.Slot {
		return fmt.Errorf("both revisions are in slot %s", c.Slot)
	}
	if d.Blocked != "" && d.Weight > 0 {
		return fmt.Errorf("a blocked canary was told %s %%", d.Weight)
	}
	if (d.Rollback != nil) != (d.Action == rollout.Rollback || d.Action == rollout.Abort) {
		return fmt.Errorf("action %q with the record %+v", d.Action, d.Rollback)
	}
	if d.Rollout != nil {
		for _, t := range []*metav1.Time{d.Rollout.StepSince, d.Rollout.WeightSince, d.Rollout.AnalysisSince} {
			if t != nil && t.Nanosecond() != 0 {
				return fmt.Errorf("%s isn't kept by a status", t)
			}
		}
	}
	return oneAction(in, d)
}

// oneAction tells what changed that the decision's action doesn't name: each action does its own thing, and None
// nothing.
func oneAction(in *rollout.Input, d *rollout.Decision) error {
	before := in.Applied
	if in.Told != nil {
		before = in.Told.Weight
	}
	revision := revisionOf(in.Canary)
	placed, kept := revisionOf(d.Assignment.Canary), revision != "" && revisionOf(d.Assignment.Canary) == revision
	raised := kept && in.Told != nil && revisionOf(in.Told.Assignment.Canary) == revision && d.Weight > before
	step := kept && in.Rollout != nil && d.Rollout != nil && d.Rollout.Step != in.Rollout.Step &&
		in.Rollout.Revision == d.Rollout.Revision && in.Rollout.Steps == d.Rollout.Steps && in.Rollout.StepSince != nil && d.Rollout.StepSince == nil
	var errs []error
	only := func(changed bool, what string, by ...rollout.Action) {
		for _, a := range by {
			changed = changed && d.Action != a
		}
		if changed {
			errs = append(errs, fmt.Errorf("%q %s", d.Action, what))
		}
	}
	first := in.Stable == nil
	only(first, "set the first stable", rollout.StableSet)
	only(!first && d.Assignment.Stable.Revision != in.Stable.Revision, "replaced the stable", rollout.StableSet, rollout.Promotion)
	only(!first && placed != "" && placed != revision, "placed a canary", rollout.CanaryStarted, rollout.StableSet)
	only(placed == "" && revision != "", "dropped the canary", rollout.CanaryDropped, rollout.Promotion, rollout.StableSet)
	only(raised, "raised the weight", rollout.WeightChanged, rollout.StepAdvanced)
	only(kept && d.Weight < before, "lowered the weight", rollout.WeightChanged, rollout.StepAdvanced, rollout.Rollback, rollout.Abort, rollout.Retry, rollout.StableSet)
	only(step && in.Rollout.Steps > 0 && d.Rollout.Step > in.Rollout.Step && d.Weight > before, "went to another step", rollout.StepAdvanced)
	only(d.Blocked != "" && d.Blocked != in.Blocked, "blocked a revision", rollout.Rollback, rollout.Abort)
	only(!first && in.Hold == nil && d.Hold != nil, "held the rollout", rollout.Holding, rollout.Pause)
	return errors.Join(errs...)
}
