package rollout_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// spec of a version with a weight; "" is no canary block.
func spec(version v1alpha1.PoolVersion, weight string, module string) *v1alpha1.WorkerPoolSpec {
	s := &v1alpha1.WorkerPoolSpec{PoolVersion: version, Size: 4, Worker: v1alpha1.Worker{Module: module}}
	if weight != "" {
		s.Canary = &v1alpha1.Canary{Weight: new(intstr.FromString(weight))}
	}
	return s
}

// from adds a Secret to what the workers have variables from.
func from(s *v1alpha1.WorkerPoolSpec, secret string) *v1alpha1.WorkerPoolSpec {
	s.Worker.EnvFrom = append(s.Worker.EnvFrom, v1alpha1.EnvFromSource{SecretRef: &v1alpha1.EnvFromRef{Name: secret}})
	return s
}

func placed(version v1alpha1.PoolVersion, module, slot string) v1alpha1.SlotRevision {
	return rollout.Place(revision.Of(spec(version, "", module)), slot)
}

func TestWeights(t *testing.T) {
	for text, want := range map[string]rollout.Weight{
		"0": 0, "10": 1000, "10%": 1000, "0.25%": 25, "0.01": 1, "99.99": 9999, "100": rollout.Full, "33.33%": 3333,
	} {
		if got, err := rollout.ParseWeight(intstr.FromString(text)); got != want || err != nil {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	if got, err := rollout.ParseWeight(intstr.FromInt32(7)); got != 700 || err != nil {
		t.Errorf("7 is %d, %v", got, err)
	}
	for _, text := range []string{"", "-1", "101", "100.01", "0.001", "NaN", "Inf", "ten", "1 0", "%"} {
		if got, err := rollout.ParseWeight(intstr.FromString(text)); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

// What is written into a status is read back as the same.
func TestStoredWeights(t *testing.T) {
	for w := rollout.Weight(0); w <= rollout.Full; w++ {
		if got := rollout.StoredWeight(w.String()); got != w {
			t.Fatalf("%d is written %q and read %d", w, w, got)
		}
	}
}

func paused(s *v1alpha1.WorkerPoolSpec) *v1alpha1.WorkerPoolSpec { s.Paused = true; return s }

func TestO14_O66_FirstAssignment(t *testing.T) {
	canary := placed("v2", "m", "b")
	for name, tc := range map[string]struct {
		spec *v1alpha1.WorkerPoolSpec
		want rollout.Assignment
	}{
		"v2":                 {spec("v2", "", "m"), rollout.Assignment{Stable: placed("v2", "m", "a")}},
		"v1":                 {spec("v1", "", "m"), rollout.Assignment{Stable: placed("v1", "m", "a")}},
		"v1 with a weight":   {spec("v1", "10", "m"), rollout.Assignment{Stable: placed("v1", "m", "a")}},
		"v2 at 100 %":        {spec("v2", "100", "m"), rollout.Assignment{Stable: placed("v2", "m", "a")}},
		"v2 at 10 %":         {spec("v2", "10", "m"), rollout.Assignment{Stable: placed("v1", "m", "a"), Canary: &canary}},
		"v2 at 0 %":          {spec("v2", "0", "m"), rollout.Assignment{Stable: placed("v1", "m", "a"), Canary: &canary}},
		"v2 in steps":        {stepped("m", "5 for 1m"), rollout.Assignment{Stable: placed("v1", "m", "a"), Canary: &canary}},
		"v2, paused":         {paused(stepped("m", "5 for 1m")), rollout.Assignment{Stable: placed("v1", "m", "a")}},
		"v2 at once, paused": {paused(spec("v2", "", "m")), rollout.Assignment{Stable: placed("v2", "m", "a")}},
		"malformed: no more": {spec("v2", "ten", "m"), rollout.Assignment{Stable: placed("v1", "m", "a"), Canary: &canary}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rollout.First(tc.spec)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			texts := got.Texts(tc.spec)
			for _, slot := range []string{"a", "b"} {
				if in := got.In(slot); in != nil && texts[in.Revision].Hash() != in.Revision {
					t.Errorf("the text of slot %s is missing", slot)
				}
			}
		})
	}
}

// ready is a live pod whose slots run what is placed in them.
func ready(name string, placed ...v1alpha1.SlotRevision) rollout.Pod {
	p := rollout.Pod{Name: name, Connected: true, Acknowledged: true, Slots: map[string]rollout.Slot{}}
	for _, r := range placed {
		p.Slots[r.Slot] = rollout.Slot{Revision: r.Revision, Serving: 4, Up: true}
	}
	return p
}

// but changes a pod.
func but(p rollout.Pod, change func(*rollout.Pod)) rollout.Pod {
	change(&p)
	return p
}

// TestDecide starts from a proven v1 in slot a with v2 beside it, told at 10 % and acknowledged, in two ready pods.
func TestDecide(t *testing.T) {
	stable, canary := placed("v1", "m", "a"), placed("v2", "m", "b")
	stable.Proven = true
	other := placed("v2", "n", "b")
	one, two := ready("one", stable, canary), ready("two", stable, canary)
	for name, tc := range map[string]struct {
		change func(*rollout.Input)
		want   rollout.Decision // without its assignment and what it keeps of time
		slots  string           // stable, canary
	}{
		"TestO78 a pinned weight holds": {
			nil,
			rollout.Decision{State: rollout.CanaryPinned, Weight: 1000, Desired: 1000, Applied: 1000}, "v1@a v2@b",
		},
		"raised when all are ready": {
			func(in *rollout.Input) { in.Spec = spec("v2", "25", "m") },
			rollout.Decision{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 2500, Desired: 2500, Applied: 1000}, "v1@a v2@b",
		},
		"raised when a lazy one could start": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "25", "m")
				in.Pods[1] = but(ready("two", stable), func(p *rollout.Pod) { p.Slots["b"] = rollout.Slot{Revision: canary.Revision, Up: true} })
			},
			rollout.Decision{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 2500, Desired: 2500, Applied: 1000}, "v1@a v2@b",
		},
		"TestO15 told and not acknowledged by all": {
			func(in *rollout.Input) {
				in.Spec, in.Told.Weight = spec("v2", "25", "m"), 2500
				in.Pods[1].Acknowledged = false
			},
			rollout.Decision{State: rollout.CanaryProgressing, Weight: 2500, Desired: 2500, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"TestO16 not raised while a pod hasn't acknowledged": {
			func(in *rollout.Input) { in.Spec = spec("v2", "25", "m"); in.Pods[0].Acknowledged = false },
			rollout.Decision{State: rollout.Unacknowledged, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"TestO42 not raised while a pod is away": {
			func(in *rollout.Input) { in.Spec = spec("v2", "25", "m"); in.Pods[1].Connected = false },
			rollout.Decision{State: rollout.Unacknowledged, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"not raised while workers start": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "25", "m")
				in.Pods[1] = but(ready("two", stable), func(p *rollout.Pod) { p.Slots["b"] = rollout.Slot{Revision: canary.Revision, Serving: 3} })
			},
			rollout.Decision{State: rollout.WaitingForWorkers, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"not raised while a slot runs another revision": {
			func(in *rollout.Input) { in.Spec = spec("v2", "25", "m"); in.Pods[1] = ready("two", stable, other) },
			rollout.Decision{State: rollout.WaitingForWorkers, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"TestO34 not raised while workers don't start": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "25", "m")
				in.Pods[0] = but(ready("one", stable), func(p *rollout.Pod) { p.Slots["b"] = rollout.Slot{Revision: canary.Revision, BootFailing: true} })
			},
			rollout.Decision{State: rollout.WorkerBootFailed, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"TestO34 not raised while some workers don't start": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "25", "m")
				in.Pods[0] = but(ready("one", stable), func(p *rollout.Pod) {
					p.Slots["b"] = rollout.Slot{Revision: canary.Revision, Serving: 1, BootFailing: true}
				})
			},
			rollout.Decision{State: rollout.WorkerBootFailed, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"TestO17 lowered at once, whoever is away": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "0", "m")
				in.Pods[0].Connected, in.Pods[1].Acknowledged = false, false
			},
			rollout.Decision{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 0, Desired: 0, Applied: 1000}, "v1@a v2@b",
		},
		"TestO78 without a canary block everything moves": {
			func(in *rollout.Input) { in.Spec = spec("v2", "", "m") },
			rollout.Decision{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 10000, Desired: 10000, Applied: 1000}, "v1@a v2@b",
		},
		"TestO67 at 100 % everywhere it is promoted": {
			func(in *rollout.Input) { in.Spec, in.Told.Weight = spec("v2", "100", "m"), rollout.Full },
			rollout.Decision{State: rollout.Promoted, Action: rollout.Promotion, Desired: 10000, Applied: 10000}, "v2@b -",
		},
		"TestO34 at 100 % with a pod whose workers don't start it isn't": {
			func(in *rollout.Input) {
				in.Spec, in.Told.Weight = spec("v2", "100", "m"), rollout.Full
				in.Pods[0] = but(ready("one", stable), func(p *rollout.Pod) { p.Slots["b"] = rollout.Slot{Revision: canary.Revision, BootFailing: true} })
			},
			rollout.Decision{State: rollout.WorkerBootFailed, Weight: 10000, Desired: 10000, Applied: 10000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"at 100 % with a pod away it isn't": {
			func(in *rollout.Input) {
				in.Spec, in.Told.Weight = spec("v2", "100", "m"), rollout.Full
				in.Pods[0].Connected = false
			},
			rollout.Decision{State: rollout.CanaryProgressing, Weight: 10000, Desired: 10000, Applied: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"TestO21 the spec goes back: off the traffic first": {
			func(in *rollout.Input) { in.Spec = spec("v1", "10", "m") },
			rollout.Decision{State: rollout.CanaryDropping, Action: rollout.WeightChanged, Applied: 1000}, "v1@a v2@b",
		},
		"told to be off, not acknowledged": {
			func(in *rollout.Input) {
				in.Spec, in.Told.Weight = spec("v1", "10", "m"), 0
				in.Pods[1].Acknowledged = false
			},
			rollout.Decision{State: rollout.CanaryDropping, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"told to be off: a pod that is away doesn't hold it up": {
			func(in *rollout.Input) {
				in.Spec, in.Told.Weight = spec("v1", "10", "m"), 0
				in.Pods[1].Connected = false
			},
			rollout.Decision{State: rollout.Promoted, Action: rollout.CanaryDropped, Desired: 10000, Applied: 10000}, "v1@a -",
		},
		"TestO21 another revision: the canary first off the traffic": {
			func(in *rollout.Input) { in.Spec = spec("v2", "10", "n") },
			rollout.Decision{State: rollout.CanaryDropping, Action: rollout.WeightChanged, Applied: 1000}, "v1@a v2@b",
		},
		"TestO21 then the other takes its slot": {
			func(in *rollout.Input) { in.Spec, in.Told.Weight = spec("v2", "10", "n"), 0 },
			rollout.Decision{State: rollout.WaitingForWorkers, Action: rollout.CanaryStarted, Desired: 1000}, "v1@a v2@b",
		},
		"TestO68 a new revision of the promoted version": {
			func(in *rollout.Input) {
				in.Spec, in.Canary, in.Told = spec("v1", "10", "n"), nil, &rollout.Told{Assignment: rollout.Assignment{Stable: stable}}
			},
			rollout.Decision{State: rollout.WaitingForWorkers, Action: rollout.CanaryStarted, Desired: 1000}, "v1@a v1@b",
		},
		"an image that a pod hasn't: the slot stays idle": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "10", "m")
				in.Applied, in.Told.Weight = 0, 0
				in.Pods[1].Images = map[string][]string{"a": {"old", ""}, "b": {"old"}}
			},
			rollout.Decision{State: rollout.PodsOutdated, Idle: true, Desired: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"other variables than a pod's: the slot stays idle": {
			func(in *rollout.Input) {
				in.Spec = from(spec("v2", "10", "m"), "llm-keys")
				in.Canary = new(rollout.Place(revision.Of(in.Spec), "b"))
				in.Told.Assignment.Canary = in.Canary
				in.Applied, in.Told.Weight = 0, 0
				in.Pods[0].EnvFrom = map[string]string{"b": "secret/llm-keys"}
				in.Pods[1].EnvFrom = map[string]string{"a": "secret/llm-keys", "b": "secret/old-keys"}
			},
			rollout.Decision{State: rollout.PodsOutdated, Idle: true, Desired: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"variables that the revision doesn't want: the slot stays idle": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "10", "m")
				in.Applied, in.Told.Weight = 0, 0
				in.Pods[0].EnvFrom = map[string]string{"b": "secret/llm-keys"}
			},
			rollout.Decision{State: rollout.PodsOutdated, Idle: true, Desired: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"volumes that a pod hasn't: the slot stays idle": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "10", "m")
				in.Applied, in.Told.Weight = 0, 0
				in.Pods[1].OtherMounts = true
			},
			rollout.Decision{State: rollout.PodsOutdated, Idle: true, Desired: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"a pod that is about to run with another image: the slot stays idle": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "10", "m")
				in.Applied, in.Told.Weight = 0, 0
				in.Coming = []rollout.Pod{{Name: "coming", Images: map[string][]string{"b": {"old"}}}}
			},
			rollout.Decision{State: rollout.PodsOutdated, Idle: true, Desired: 1000, Blockers: []string{"coming"}}, "v1@a v2@b",
		},
		"a pod that is about to run as it should holds nothing": {
			func(in *rollout.Input) {
				in.Spec = spec("v2", "25", "m")
				in.Coming = []rollout.Pod{{Name: "coming"}}
			},
			rollout.Decision{State: rollout.CanaryProgressing, Action: rollout.WeightChanged, Weight: 2500, Desired: 2500, Applied: 1000}, "v1@a v2@b",
		},
		"volumes that a pod hasn't, under way: it holds": {
			func(in *rollout.Input) { in.Spec, in.Pods[1].OtherMounts = spec("v2", "25", "m"), true },
			rollout.Decision{State: rollout.PodsOutdated, Weight: 1000, Desired: 2500, Applied: 1000, Blockers: []string{"two"}}, "v1@a v2@b",
		},
		"no pods: no one acknowledged what was told": {
			func(in *rollout.Input) { in.Spec, in.Told.Weight, in.Pods = spec("v2", "25", "m"), 2500, nil },
			rollout.Decision{State: rollout.WaitingForPods, Weight: 2500, Desired: 2500, Applied: 1000}, "v1@a v2@b",
		},
		"no pods: the stable is kept": {
			func(in *rollout.Input) { in.Spec, in.Pods = spec("v2", "", "m"), nil },
			rollout.Decision{State: rollout.WaitingForPods, Weight: 1000, Desired: 10000, Applied: 1000}, "v1@a v2@b",
		},
		"TestO22 a new leader keeps the weight": {
			func(in *rollout.Input) { in.Told = nil; in.Pods[0].Connected, in.Pods[0].Acknowledged = false, false },
			rollout.Decision{State: rollout.Unacknowledged, Weight: 1000, Desired: 1000, Applied: 1000, Blockers: []string{"one"}}, "v1@a v2@b",
		},
		"a new leader raises nothing before it was heard": {
			func(in *rollout.Input) { in.Told = nil; in.Spec = spec("v2", "50", "m") },
			rollout.Decision{State: rollout.WaitingForWorkers, Weight: 1000, Desired: 5000, Applied: 1000}, "v1@a v2@b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := rollout.Input{
				Spec: spec("v2", "10", "m"), Stable: &stable, Canary: &canary, Applied: 1000,
				Told: &rollout.Told{Assignment: rollout.Assignment{Stable: stable, Canary: &canary}, Weight: 1000},
				Pods: []rollout.Pod{one, two},
			}
			if tc.change != nil {
				tc.change(&in)
			}
			got := rollout.Decide(in)
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreFields(rollout.Decision{}, "Assignment", "Rollout", "Again"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if slots := describe(got.Assignment); slots != tc.slots {
				t.Errorf("slots %q, want %q", slots, tc.slots)
			}
		})
	}
}

func describe(a rollout.Assignment) string {
	text := string(a.Stable.Version) + "@" + a.Stable.Slot
	if a.Canary == nil {
		return text + " -"
	}
	return text + " " + string(a.Canary.Version) + "@" + a.Canary.Slot
}

// A change to v1 is a rollback by hand.
func TestBackToV1IgnoresTheWeight(t *testing.T) {
	stable, canary := placed("v2", "m", "b"), placed("v1", "m", "a")
	stable.Proven = true
	got := rollout.Decide(rollout.Input{
		Spec: spec("v1", "5", "m"), Stable: &stable, Canary: &canary,
		Told: &rollout.Told{Assignment: rollout.Assignment{Stable: stable, Canary: &canary}},
		Pods: []rollout.Pod{ready("one", stable, canary)},
	})
	if got.Weight != rollout.Full || got.Desired != rollout.Full {
		t.Errorf("weight %s of %s, want 100 of 100", got.Weight, got.Desired)
	}
}

// A stable that never had a worker is no reason for a canary; one that did is kept whatever else is wrong.
func TestAStableThatNeverServedIsReplaced(t *testing.T) {
	stable := placed("v1", "broken", "a")
	dead := rollout.Pod{Name: "one", Connected: true, Acknowledged: true, Slots: map[string]rollout.Slot{
		"a": {Revision: stable.Revision, BootFailing: true},
	}}
	alive := but(dead, func(p *rollout.Pod) { p.Slots = map[string]rollout.Slot{"a": {Revision: stable.Revision, Serving: 1}} })
	served := stable
	served.Proven = true
	for name, tc := range map[string]struct {
		stable v1alpha1.SlotRevision
		pods   []rollout.Pod
		want   string
		action rollout.Action
	}{
		"a pod isn't heard: it may serve":  {stable, []rollout.Pod{dead, but(dead, func(p *rollout.Pod) { p.Connected, p.Slots = false, nil })}, "v1@a v2@b", rollout.CanaryStarted},
		"serves, but in another image":     {stable, []rollout.Pod{but(alive, func(p *rollout.Pod) { p.Images = map[string][]string{"a": {"old"}} })}, "v2@a -", rollout.StableSet},
		"serves, but with other variables": {stable, []rollout.Pod{but(alive, func(p *rollout.Pod) { p.EnvFrom = map[string]string{"a": "secret/x"} })}, "v2@a -", rollout.StableSet},
		"never served, no pods":            {stable, nil, "v2@a -", rollout.StableSet},
		"never served, doesn't start":      {stable, []rollout.Pod{dead}, "v2@a -", rollout.StableSet},
		"serves now":                       {stable, []rollout.Pod{alive}, "v1@a v2@b", rollout.CanaryStarted},
		"served once, no pods":             {served, nil, "v1@a v2@b", rollout.CanaryStarted},
		"served once, doesn't start again": {served, []rollout.Pod{dead}, "v1@a v2@b", rollout.CanaryStarted},
	} {
		t.Run(name, func(t *testing.T) {
			got := rollout.Decide(rollout.Input{Spec: spec("v2", "", "fixed"), Stable: &tc.stable, Pods: tc.pods})
			if describe(got.Assignment) != tc.want || got.Action != tc.action {
				t.Errorf("%s by %q, want %s by %q", describe(got.Assignment), got.Action, tc.want, tc.action)
			}
		})
	}
}

// A canary beside a stable that starts over gets no workers in an image that isn't its own.
func TestStartingOverKeepsACanaryIdleInAnotherImage(t *testing.T) {
	stable := placed("v1", "broken", "a")
	pod := ready("one")
	pod.Images = map[string][]string{"a": {""}, "b": {"old"}}
	got := rollout.Decide(rollout.Input{Spec: spec("v2", "10", "fixed"), Stable: &stable, Pods: []rollout.Pod{pod}})
	if describe(got.Assignment) != "v1@a v2@b" || got.Action != rollout.StableSet || !got.Idle || got.State != rollout.PodsOutdated {
		t.Errorf("%s by %q, %s, idle %v; want the canary idle", describe(got.Assignment), got.Action, got.State, got.Idle)
	}
}
