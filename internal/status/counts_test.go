package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

func TestCounts(t *testing.T) {
	idle := edit(pod("new", v1), func(p *status.Pod) { p.Acknowledged = false })
	away := edit(pod("away", v1), func(p *status.Pod) { p.Connected, p.Acknowledged = false, false })
	plain := edit(pod("plain"), func(p *status.Pod) { p.Injected, p.Live = false, false })
	got := status.Of(status.Input{
		Pool: pool(), Decision: canary(rollout.CanaryProgressing, 500, 2500), Now: t0,
		Pods: []status.Pod{pod("one", v1, v2), idle, away, plain},
		Figures: map[string]status.Figures{
			"2222": {
				Version: "v2", Span: time.Minute, Counts: analysis.Counts{Requests: 100, Errors: 1}, P95: 12345678 * time.Nanosecond,
				Live: 3, Places: 3, Busy: 81 * time.Second, CPU: 74074 * time.Millisecond, Spawned: 7, Destroyed: 4, Crashed: 2, Memory: 1234567890, OpenFDs: 77,
			},
			"1111": {Version: "v1", Span: time.Minute, Counts: analysis.Counts{Requests: 2900, Timeouts: 19, CallerErrors: 600, UpstreamErrors: 400}},
			"0000": {Version: "v1", Span: time.Minute, Counts: analysis.Counts{Requests: 7}},
		},
	})
	want := v1alpha1.WorkerPoolStatus{
		ObservedGeneration: 3, Stable: &v1, Canary: &v2,
		Shown:   v1alpha1.ShownStatus{Version: "v2", Stable: "v1", ErrorRate: "1", P95: ms(12.3)},
		Weight:  v1alpha1.WeightStatus{Desired: "25", Applied: "5", Observed: "3.33", Summary: "5→25"},
		Pods:    v1alpha1.PodsStatus{Matched: 4, Injected: 3, Acknowledged: 1, Unreachable: 1, Summary: "1/4"},
		Workers: v1alpha1.WorkersStatus{Desired: 12, Ready: 12, Busy: 2, Summary: "12/12"},
		Versions: []v1alpha1.VersionStatus{
			{Version: "v1", Revision: "1111", Requests: 2900, ErrorRate: "0", TimeoutRate: "1", P50: ms(0), P95: ms(0), P99: ms(0), Throughput: "38.3"},
			{
				Version: "v2", Revision: "2222", Requests: 100, ErrorRate: "1", TimeoutRate: "0", P50: ms(0), P95: ms(12.3), P99: ms(0),
				Throughput: "1.67", Utilization: "45", Spawned: 7, Destroyed: 4, Crashed: 2,
				Memory: new(resource.MustParse("1180Mi")), CPU: new(resource.MustParse("1230m")), OpenFDs: 77,
			},
			{Version: "v1", Revision: "0000", Requests: 7, ErrorRate: "0", TimeoutRate: "0", P50: ms(0), P95: ms(0), P99: ms(0), Throughput: "0.117"},
		},
	}
	got.Conditions = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFiguresOfWorkersAreRounded(t *testing.T) {
	for name, tc := range map[string]struct {
		figures                  status.Figures
		utilization, memory, cpu string
	}{
		"none":                        {status.Figures{}, "", "", ""},
		"idle":                        {status.Figures{Live: 4, Places: 4, Memory: 1, CPU: time.Millisecond}, "0", "1Mi", ""},
		"few":                         {status.Figures{Live: 4, Places: 4, Memory: 99 << 20, CPU: 60 * time.Millisecond}, "0", "99Mi", "1m"},
		"many":                        {status.Figures{Live: 100, Places: 100, Memory: 123456 << 20, CPU: 98765 * time.Second, Busy: 3 * time.Hour}, "100", "123000Mi", "1650"},
		"half of what they could":     {status.Figures{Live: 2, Places: 16, Busy: 480 * time.Second}, "50", "", ""},
		"half of the time, and a bit": {status.Figures{Live: 2, Places: 2, Busy: 60600 * time.Millisecond}, "51", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.figures.Version, tc.figures.Span = "v1", time.Minute
			got := status.Of(status.Input{Pool: pool(), Decision: promoted(), Now: t0, Figures: map[string]status.Figures{"1111": tc.figures}}).Versions[0]
			quantity := func(q *resource.Quantity) string {
				if q == nil {
					return ""
				}
				return q.String()
			}
			want := []string{tc.utilization, tc.memory, tc.cpu}
			if diff := cmp.Diff(want, []string{got.Utilization, quantity(got.Memory), quantity(got.CPU)}); diff != "" {
				t.Errorf("utilization, memory, CPU (-want +got):\n%s", diff)
			}
		})
	}
}

func ms(n float64) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n * float64(time.Millisecond))}
}

// TestO5_ATokenThatExpiresIsNoWrite: a router that changes its stream has the configuration in force all the while.
func TestO5_ATokenThatExpiresIsNoWrite(t *testing.T) {
	for name, decisions := range map[string]struct{ before, during rollout.Decision }{
		"promoted": {promoted(), promoted()},
		"pinned":   {canary(rollout.CanaryPinned, 1000, 1000), canary(rollout.Unacknowledged, 1000, 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			in := status.Input{Pool: pool(), Decision: decisions.before, Pods: []status.Pod{pod("one", v1, v2), pod("two", v1, v2)}, Now: t0}
			before := status.Of(in)
			in.Pool.Status, in.Decision = before, decisions.during
			in.Pods[0] = edit(in.Pods[0], func(p *status.Pod) {
				p.Connected, p.Acknowledged, p.Joining, p.Settled, p.Busy = false, false, true, true, 1
			})
			if diff := cmp.Diff(before, status.Of(in)); diff != "" {
				t.Errorf("while it re-joins (-before +during):\n%s", diff)
			}
			in.Pods[0].Settled = false
			if got := status.Of(in); meta.IsStatusConditionTrue(got.Conditions, "Ready") || got.Pods.Acknowledged != 1 {
				t.Errorf("a pod that never acknowledged counts: %d, %v", got.Pods.Acknowledged, conditions(got))
			}
		})
	}
}

func TestO5_WhenAStatusIsDue(t *testing.T) {
	base := status.Of(status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1)}, Now: t0})
	look := func(found metav1.ConditionStatus) func(*v1alpha1.WorkerPoolStatus) {
		return func(s *v1alpha1.WorkerPoolStatus) {
			c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionErrorsHealthy)
			c.Status, c.Reason, c.LastTransitionTime = found, "Looked", metav1.Now()
		}
	}
	traffic := v1alpha1.VersionStatus{Version: "v1", Revision: "1111", Requests: 5}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WorkerPoolStatus)
		since  time.Duration
		write  bool
		again  time.Duration
	}{
		"the same":                      {func(*v1alpha1.WorkerPoolStatus) {}, 24 * time.Hour, false, 0},
		"a state":                       {func(s *v1alpha1.WorkerPoolStatus) { s.Pods.Matched = 9 }, 0, true, 0},
		"a reason":                      {func(s *v1alpha1.WorkerPoolStatus) { s.Conditions[0].Reason = "x" }, 0, true, 0},
		"a message, just written":       {func(s *v1alpha1.WorkerPoolStatus) { s.Conditions[0].Message = "x" }, time.Second, false, 4 * time.Second},
		"a message":                     {func(s *v1alpha1.WorkerPoolStatus) { s.Conditions[0].Message = "x" }, 5 * time.Second, true, 0},
		"ready workers, just written":   {func(s *v1alpha1.WorkerPoolStatus) { s.Workers.Ready = 3 }, time.Second, false, 4 * time.Second},
		"ready workers":                 {func(s *v1alpha1.WorkerPoolStatus) { s.Workers.Ready = 3 }, 5 * time.Second, true, 0},
		"figures, too soon":             {func(s *v1alpha1.WorkerPoolStatus) { s.Versions = append(s.Versions, traffic) }, time.Minute, false, 4 * time.Minute},
		"figures":                       {func(s *v1alpha1.WorkerPoolStatus) { s.Versions = append(s.Versions, traffic) }, 5 * time.Minute, true, 0},
		"a look, just written":          {look(metav1.ConditionTrue), time.Second, false, 4 * time.Second},
		"a look":                        {look(metav1.ConditionTrue), 5 * time.Second, true, 0},
		"a look that failed":            {look(metav1.ConditionFalse), 0, true, 0},
		"busy workers, no traffic seen": {func(s *v1alpha1.WorkerPoolStatus) { s.Workers.Busy = 3 }, time.Minute, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			next := *base.DeepCopy()
			tc.change(&next)
			write, again := status.Due(&base, &next, tc.since)
			if write != tc.write || again != tc.again {
				t.Errorf("write %v, again after %v; want %v, %v", write, again, tc.write, tc.again)
			}
		})
	}
	withCanary := *base.DeepCopy()
	withCanary.Canary = &v2
	busier := *withCanary.DeepCopy()
	busier.Versions = []v1alpha1.VersionStatus{traffic}
	if write, _ := status.Due(&withCanary, &busier, 30*time.Second); !write {
		t.Error("figures of a canary wait for more than 30 s")
	}
	ready := meta.FindStatusCondition(withCanary.Conditions, v1alpha1.ConditionReady)
	ready.Reason, ready.Message = "InsufficientSamples", "40 of 100"
	more := *withCanary.DeepCopy()
	meta.FindStatusCondition(more.Conditions, v1alpha1.ConditionReady).Message = "41 of 100"
	for since, want := range map[time.Duration]bool{29 * time.Second: false, 30 * time.Second: true} {
		if write, _ := status.Due(&withCanary, &more, since); write != want {
			t.Errorf("samples that a step waits for, %v after the last write: %v", since, write)
		}
	}
}
