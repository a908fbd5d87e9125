package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// TestReadyOfARolloutThatStands: by which state, what is said, and what kstatus makes of it.
func TestReadyOfARolloutThatStands(t *testing.T) {
	for name, tc := range map[string]struct {
		state   rollout.State
		change  func(*status.Input)
		want    string
		kstatus string
		says    []string
	}{
		"on its way to the next step": {
			rollout.CanaryProgressing, func(in *status.Input) { in.Decision.Desired = 5000 },
			"False CanaryProgressing", "InProgress", []string{"v2 (2222) is at 25 % on its way to 50 %, step 2 of 3"},
		},
		"a step lasts": {
			rollout.StepInProgress, func(in *status.Input) { in.Decision.Rollout.StepSince = new(metav1.NewTime(t0)) },
			"False CanaryProgressing", "InProgress", []string{"v2 (2222) is at 25 %, step 2 of 3, since 2026-11-24T09:00:00Z"},
		},
		"TestO30 too few samples": {
			rollout.InsufficientSamples, func(in *status.Input) { in.Looks.Last = few },
			"False InsufficientSamples", "InProgress", []string{"v2 executed 40 requests and v1 800; each needs 100", "minSamples", "pool.dspex.dev/promote="},
		},
		"TestO30 no look yet": {
			rollout.InsufficientSamples, nil, "False InsufficientSamples", "InProgress", []string{"each side needs 100"},
		},
		"TestO31 telemetry is lost": {
			rollout.MetricsUnavailable, func(in *status.Input) { in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) { p.Stale = true }) },
			"False MetricsUnavailable", "InProgress", []string{"no figures", "(one)"},
		},
		"TestO82 a pod tripped": {
			rollout.PodsTripped, func(in *status.Input) {
				in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) {
					p.Tripped = &rollout.Trip{Revision: "2222", Reason: "CrashLoop", Message: "3 crashes in 10 s"}
				})
			},
			"False PodsTripped", "Failed", []string{"1 of 2 pods", "(one)", "CrashLoop: 3 crashes in 10 s", "pool.dspex.dev/retry=", "pool.dspex.dev/abort="},
		},
		"TestO27 a pod tripped, and its workers crash on": {
			rollout.PodsTripped, func(in *status.Input) {
				in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) {
					p.Tripped = &rollout.Trip{Revision: "2222", Reason: "CrashLoop", Message: "3 crashes in 10 s"}
					p.Slots = map[string]rollout.Slot{"a": p.Slots["a"], "b": {Revision: "2222"}}
				})
			},
			"False PodsTripped", "Failed", []string{"CrashLoop: 3 crashes in 10 s"},
		},
		"paused by the spec": {
			rollout.Paused, func(in *status.Input) { in.Pool.Spec.Paused = true },
			"False Paused", "InProgress", []string{"spec.paused"},
		},
		"the policy holds it": {
			rollout.AnalysisFailed, func(in *status.Input) {
				in.Decision.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Message: evidence}
			},
			"False AnalysisFailed", "Failed", []string{evidence, "pool.dspex.dev/abort="},
		},
		"the policy holds it, and its workers crash": {
			rollout.AnalysisFailed, func(in *status.Input) {
				in.Decision.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Message: evidence}
				in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) {
					p.Slots = map[string]rollout.Slot{"a": p.Slots["a"], "b": {Revision: "2222"}}
				})
			},
			"False AnalysisFailed", "Failed", []string{evidence},
		},
		"a state that isn't known here": {
			"Pondering", nil, "False CanaryProgressing", "InProgress", []string{"v2 (2222) is at 25 %"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(tc.state, tc.change))
			if c := conditions(got)["Ready"]; c != tc.want {
				t.Errorf("Ready %s, want %s", c, tc.want)
			}
			if k := kstatus(got); k != tc.kstatus {
				t.Errorf("kstatus reads %s, want %s", k, tc.kstatus)
			}
			says(t, got, "Ready", tc.says...)
			if got.Rollout.Step != 2 {
				t.Errorf("rollout %+v", got.Rollout)
			}
		})
	}
}

// TestO27_ThePodServesThoughTheCanaryCrashesAt100Percent: the stable takes it back, until it is no more.
func TestO27_ThePodServesThoughTheCanaryCrashesAt100Percent(t *testing.T) {
	for name, tc := range map[string]struct {
		stable rollout.Slot
		want   string
		says   string
	}{
		"the stable serves":          {rollout.Slot{Revision: "1111", Serving: 1}, "True CanaryServing", "v2 serves 1 of 2 pods, v1 the others"},
		"the stable is away as well": {rollout.Slot{}, "False WorkersNotReady", "not in one"},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(rollout.PodsTripped, func(in *status.Input) {
				in.Decision.Applied, in.Decision.Desired = rollout.Full, rollout.Full
				in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) { p.Slots = map[string]rollout.Slot{"a": tc.stable, "b": {Revision: "2222"}} })
			}))
			if c := conditions(got)["Available"]; c != tc.want {
				t.Errorf("Available %s, want %s", c, tc.want)
			}
			says(t, got, "Available", tc.says)
		})
	}
}

// TestO33_SerialCapacity: two pods of 20 ms a request serve 100 a second.
func TestO33_SerialCapacity(t *testing.T) {
	load := func(requests uint64) func(*status.Input) {
		return func(in *status.Input) {
			in.Figures = map[string]status.Figures{
				"1111": {Version: "v1", Span: time.Minute, Counts: analysis.Counts{Requests: 600}, Service: 20 * time.Millisecond},
				"2222": {Version: "v2", Span: 20 * time.Second, Counts: analysis.Counts{Requests: requests, Shed: 60, CallerErrors: 60}},
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(*status.Input)
		want   *v1alpha1.SerialCapacity
	}{
		"enough": {load(2520), &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "50"}},
		"less":   {load(6720), &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "120", Exceeded: true}},
		"traffic began 20 s ago": {
			func(in *status.Input) {
				load(1920)(in)
				in.Figures["1111"] = status.Figures{Version: "v1", Span: 20 * time.Second, Counts: analysis.Counts{Requests: 600}, Service: 20 * time.Millisecond}
			},
			&v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "120", Exceeded: true},
		},
		"a burst a second ago": {
			func(in *status.Input) {
				load(620)(in) // 500 of them served; taken to be of ten seconds
				for revision, f := range in.Figures {
					f.Span = time.Second
					in.Figures[revision] = f
				}
			},
			&v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "110", Exceeded: true},
		},
		"no request reached a worker of v1": {
			func(in *status.Input) {
				load(6720)(in)
				in.Figures["1111"] = status.Figures{Version: "v1"}
			}, nil,
		},
		"a stable of v2": {func(in *status.Input) { load(6720)(in); in.Decision.Assignment.Stable.Version = "v2" }, nil},
		"no canary":      {func(in *status.Input) { load(6720)(in); in.Decision = promoted() }, nil},
		"it was exceeded, and the load is just below": {
			func(in *status.Input) {
				load(5220)(in)
				in.Pool.Status.SerialCapacity = &v1alpha1.SerialCapacity{Exceeded: true}
			},
			&v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "95", Exceeded: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(rollout.CanaryProgressing, tc.change)).SerialCapacity
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestO5_CapacityIsAFigure: it isn't written at every change, but that it is exceeded is.
func TestO5_CapacityIsAFigure(t *testing.T) {
	base := status.Of(underWay(rollout.CanaryProgressing, nil))
	with := func(c v1alpha1.SerialCapacity) *v1alpha1.WorkerPoolStatus {
		s := base.DeepCopy()
		s.SerialCapacity = &c
		return s
	}
	if write, again := status.Due(&base, with(v1alpha1.SerialCapacity{Load: "5"}), time.Second); write || again != 4*time.Second {
		t.Errorf("its first figures: write %v, again after %v, want 4 s", write, again)
	}
	if write, _ := status.Due(with(v1alpha1.SerialCapacity{Load: "5"}), with(v1alpha1.SerialCapacity{Load: "6"}), 20*time.Second); write {
		t.Error("its next figures are written 20 s after the first")
	}
	if write, _ := status.Due(&base, with(v1alpha1.SerialCapacity{Load: "5", Exceeded: true}), time.Second); !write {
		t.Error("that it is exceeded waits")
	}
}
