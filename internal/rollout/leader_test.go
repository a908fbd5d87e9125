package rollout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// dies says when a leader does, in the pass that does something.
type dies string

const (
	never      dies = "never"
	undecided  dies = "before it wrote the status"
	untold     dies = "before it told the routers"
	acted      dies = "after it told the routers what takes traffic off, before it wrote that"
	afterwards dies = "after it told the routers"
)

// ended is what a rollout came to.
type ended struct {
	Stable, Blocked string
	Rollbacks       []string // reasons
	Steps           []int32  // in their order
}

// play runs a rollout in steps whose leader dies in the given one of its actions, and returns what it came to, and how
// many actions there were.
func play(share float64, action int, when dies) (end ended, actions int, problem error) {
	f := newFleet("p", "q")
	f.perSecond = 100
	f.then("", f.apply("v1", "", "m"))
	f.bad("m", share)
	f.applySteps("m", threeSteps...)()
	for range 400 { // half-seconds
		f.now = f.now.Add(time.Second / 2)
		f.serve()
		f.obey()
		d := f.decide(f.look())
		last := when
		if d.Action == rollout.None || actions != action {
			last = never
		}
		if d.Action != rollout.None {
			actions++
		}
		switch last {
		case undecided:
			f.newLeader()
		case acted:
			f.act(&d)
			f.newLeader()
		case untold:
			f.write(&d)
			f.newLeader()
		case afterwards:
			f.take(&d)
			f.newLeader()
		case never:
			f.take(&d)
		}
		if s := f.rollout; s != nil && s.Step > 0 && (len(end.Steps) == 0 || end.Steps[len(end.Steps)-1] != s.Step) {
			end.Steps = append(end.Steps, s.Step)
		}
	}
	end.Stable, end.Blocked = f.stable.Revision, f.blocked
	for _, r := range f.rollbacks {
		end.Rollbacks = append(end.Rollbacks, r.Reason)
	}
	return end, actions, f.problem
}

// Whenever a leader dies, and whatever it had done by then: no step is lost or repeated, and the rollout comes to the
// same end, with one record of a rollback.
func TestO22_O62_TheLeaderDiesAtEveryBoundary(t *testing.T) {
	for name, share := range map[string]float64{"good": 0, "bad": 0.3} {
		want, actions, _ := play(share, -1, never)
		if promoted := want.Blocked == ""; promoted != (share == 0) || actions < 4 || (promoted && len(want.Steps) != len(threeSteps)) {
			t.Fatalf("%s, undisturbed: %+v after %d actions", name, want, actions)
		}
		for action := range actions {
			for _, when := range []dies{undecided, acted, untold, afterwards} {
				t.Run(fmt.Sprintf("%s, in action %d %s", name, action, when), func(t *testing.T) {
					got, _, problem := play(share, action, when)
					if problem != nil {
						t.Error(problem)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				})
			}
		}
	}
}

// What a new pod starts with: no more than all pods have, and no more than the spec wants now.
func TestO19_CurrentWeight(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WorkerPool)
		want   rollout.Weight
	}{
		"the step's": {func(*v1alpha1.WorkerPool) {}, 2500},
		"the next step's isn't everywhere": {func(p *v1alpha1.WorkerPool) {
			p.Status.Rollout.Step, p.Status.Rollout.StepSince = 3, nil
		}, 2500},
		"while paused":                  {func(p *v1alpha1.WorkerPool) { p.Spec.Paused = true }, 2500},
		"steps that give less":          {func(p *v1alpha1.WorkerPool) { p.Spec.Canary = stepped("m", "1 for 5s", "2 for 5s").Canary }, 200},
		"a retry that wasn't told":      {func(p *v1alpha1.WorkerPool) { p.Status.Rollout.Step, p.Status.Rollout.StepSince = 1, nil }, 500},
		"a pinned weight that is lower": {func(p *v1alpha1.WorkerPool) { p.Spec.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(3))} }, 300},
		"all":                           {func(p *v1alpha1.WorkerPool) { p.Spec.Canary = nil }, 2500},
		"rolled back":                   {func(p *v1alpha1.WorkerPool) { p.Status.BlockedRevision = p.Status.Canary.Revision }, 0},
		"another one was":               {func(p *v1alpha1.WorkerPool) { p.Status.BlockedRevision = "another" }, 2500},
		"superseded":                    {func(p *v1alpha1.WorkerPool) { p.Spec.Worker.Module = "n" }, 0},
		"no canary":                     {func(p *v1alpha1.WorkerPool) { p.Status.Canary = nil }, 0},
		"never visited":                 {func(p *v1alpha1.WorkerPool) { p.Status = v1alpha1.WorkerPoolStatus{} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := second30()
			pool := &v1alpha1.WorkerPool{Spec: *in.Spec, Status: v1alpha1.WorkerPoolStatus{
				Stable: in.Stable, Canary: in.Canary, Rollout: in.Rollout, Weight: v1alpha1.WeightStatus{Applied: "25"},
			}}
			tc.change(pool)
			if got := rollout.CurrentWeight(pool); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}
