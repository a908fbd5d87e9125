package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// stepsOf returns the steps that a spec wants for its revision; none: a pinned weight, or all at once.
func stepsOf(spec *v1alpha1.WorkerPoolSpec, stable v1alpha1.PoolVersion) []v1alpha1.Step {
	if spec.Canary == nil || byHand(spec, stable) {
		return nil
	}
	return spec.Canary.Steps
}

// stepWeight is the share of a step; a malformed one, which the API server doesn't admit, moves nothing.
func stepWeight(s *v1alpha1.Step) Weight {
	w, err := ParseWeight(s.Weight)
	if err != nil {
		return 0
	}
	return w
}

// byHand tells whether the spec goes back to v1. That is a rollback by hand: all of it, at once, whatever the analysis
// says of it.
func byHand(spec *v1alpha1.WorkerPoolSpec, stable v1alpha1.PoolVersion) bool {
	return spec.PoolVersion == v1alpha1.PoolV1 && stable != v1alpha1.PoolV1
}

// target is the weight that the spec wants for its revision now: the step's, or the pinned one.
func target(spec *v1alpha1.WorkerPoolSpec, stable v1alpha1.PoolVersion, progress *v1alpha1.RolloutStatus) Weight {
	switch steps := stepsOf(spec, stable); {
	case byHand(spec, stable) || progress.Promoting:
		return Full
	case len(steps) == 0:
		return SpecWeight(spec)
	default:
		return stepWeight(&steps[progress.Step-1])
	}
}

// located finds the place of a rollout in the spec's steps, which may have been edited since. A step goes on as long as
// its number has the weight that the pods have; else the rollout continues at the first step that gives the canary no
// less than it has, and when all give less, at the last one. A number that isn't reached yet (the pods still have the
// weight before it) is kept.
func located(spec *v1alpha1.WorkerPoolSpec, stable v1alpha1.PoolVersion, before *v1alpha1.RolloutStatus, revision string, applied Weight) v1alpha1.RolloutStatus {
	steps, p := stepsOf(spec, stable), v1alpha1.RolloutStatus{Revision: revision}
	if before != nil && before.Revision == revision {
		p = *before.DeepCopy()
	}
	if stepsGone := p.Steps > 0 && len(steps) == 0; stepsGone || p.Skipped != "" && (len(steps) > 0 || p.Skipped != SpecWeight(spec).String()) {
		p.Promoting, p.Skipped = false, "" // what was done, or skipped, isn't what the spec wants any more
	}
	p.Steps, p.Summary = int32(len(steps)), ""
	if len(steps) == 0 || p.Promoting {
		p.Step, p.StepSince = 0, nil
	} else if at := number(steps, &p, applied); p.Step != at {
		p.Step, p.StepSince = at, nil
	}
	if len(steps) > 0 {
		p.Summary = summary(&p)
	}
	return p
}

// number of the step that a rollout is at.
func number(steps []v1alpha1.Step, p *v1alpha1.RolloutStatus, applied Weight) int32 {
	known := p.Step >= 1 && int(p.Step) <= len(steps)
	if known && (p.StepSince == nil || stepWeight(&steps[p.Step-1]) == applied) {
		return p.Step
	}
	reached := slices.IndexFunc(steps, func(s v1alpha1.Step) bool { return stepWeight(&s) >= applied })
	if reached < 0 {
		return int32(len(steps))
	}
	return int32(reached + 1)
}

// summary is step/steps.
func summary(p *v1alpha1.RolloutStatus) string {
	if p.Promoting {
		return fmt.Sprintf("%d/%d", p.Steps, p.Steps)
	}
	return fmt.Sprintf("%d/%d", p.Step, p.Steps)
}

// keepTime notes from when every live pod has had the canary's present weight. A step's duration runs from when that is
// the step's, also while the rollout is held. The analysis begins with the first pod that has it: where requests go to a
// canary it is guarded, whoever else is away.
func (r *round) keepTime() {
	waiting := len(r.unacknowledged())
	if !r.bringingIn() || !r.toldCanary() || r.weight == 0 || waiting == len(r.Pods) {
		return
	}
	now := begins(r.Now)
	if r.progress.AnalysisSince == nil {
		r.progress.AnalysisSince = now
	}
	if waiting > 0 {
		return
	}
	if r.progress.WeightSince == nil {
		r.progress.WeightSince = now
	}
	if r.progress.StepSince == nil && r.step() != nil && r.weight == r.target {
		r.progress.StepSince = now
	}
}

// give gives the canary another weight, which no pod has yet.
func (r *round) give(w Weight) {
	if w != r.weight {
		r.progress.WeightSince, r.progress.StepSince = nil, nil
	}
	r.weight = w
}

func (r *round) steps() []v1alpha1.Step { return stepsOf(r.Spec, r.assignment.Stable.Version) }

// step is the one in progress; nil: there is none.
func (r *round) step() *v1alpha1.Step {
	if steps := r.steps(); r.target < Full && len(steps) > 0 {
		return &steps[r.progress.Step-1]
	}
	return nil
}

// walk ends a step when its time is over and the analysis has passed the canary in it; after the last one the canary
// gets everything.
func (r *round) walk() (Decision, bool) {
	step := r.step()
	if step == nil {
		return Decision{}, false
	}
	if r.progress.StepSince == nil {
		return r.decision(CanaryProgressing, None), true
	}
	over := r.progress.StepSince.Add(step.Duration.Duration)
	if r.Now.Before(over) {
		return r.decision(StepInProgress, None), true
	}
	if !r.passed() {
		return r.decision(r.unpassed(over), None), true
	}
	if r.progress.Step++; r.progress.Step > r.progress.Steps {
		r.progress.Step, r.progress.Promoting = 0, true
	}
	r.progress.Summary = summary(&r.progress)
	r.target = target(r.Spec, r.assignment.Stable.Version, &r.progress)
	r.give(r.target)
	return r.decision(CanaryProgressing, StepAdvanced), true
}

// unpassed is the state of a step whose time is over. Before a look had its chance, nothing is wrong.
func (r *round) unpassed(over time.Time) State {
	if grid, _ := Looks(&r.progress); r.Now.Before(grid.Next(over.Add(-1))) {
		return StepInProgress
	}
	return InsufficientSamples
}
