package status_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// wanted is the revision of the test pool's spec.
var wanted = revision.Of(&pool().Spec).Hash()

const evidence = "v2 failed 61 of 412 requests (14.8 %), v1 3 of 1240 (0.2 %), same pods, 48 s; allowed increase 1 %"

func rollback(reason string) *v1alpha1.RollbackStatus {
	return &v1alpha1.RollbackStatus{
		Revision: wanted, From: "v2", To: "v1", ToRevision: "1111", Weight: "25", Reason: reason,
		Evidence: []string{evidence}, Time: metav1.NewTime(t0),
	}
}

// afterRollback is what the rollout says of it from then on.
func afterRollback(change func(*status.Input)) status.Input {
	in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1)}, Now: t0.Add(12 * time.Minute)}
	in.Decision.State, in.Decision.Blocked, in.Decision.Desired, in.Decision.Applied = rollout.RolledBack, wanted, 0, 0
	in.Pool.Status.LastRollback = rollback("ErrorRateExceeded")
	if change != nil {
		change(&in)
	}
	return in
}

// says fails for what a condition doesn't say.
func says(t *testing.T, s v1alpha1.WorkerPoolStatus, condition string, parts ...string) {
	t.Helper()
	c := meta.FindStatusCondition(s.Conditions, condition)
	if c == nil {
		t.Errorf("no condition %s", condition)
		return
	}
	for _, part := range parts {
		if !strings.Contains(c.Message, part) {
			t.Errorf("%s lacks %q: %s", condition, part, c.Message)
		}
	}
}

// TestO4_O35_ARollback: who looks at three in the morning finds what happened, why, and the way out.
func TestO4_O35_ARollback(t *testing.T) {
	got := status.Of(afterRollback(nil))
	want := map[string]string{
		"Ready": "False RolledBack", "Available": "True StableServing", "Stalled": "True RolledBack",
		"RolledBack": "True ErrorRateExceeded", "ErrorsHealthy": "False ErrorRateExceeded", "Promoted": "False StableIsOther",
		"Injected": "True AllInjected", "ConfigSynced": "True AllAcknowledged", "Paused": "False NotPaused",
		"MetricsAvailable": "True AllReporting", "ResourcesHealthy": "True Healthy", "Accepted": "True AllAccepted",
	}
	if diff := cmp.Diff(want, conditions(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if kstatus(got) != "Failed" {
		t.Errorf("kstatus reads %s", kstatus(got))
	}
	says(t, got, "Ready", "v2 ("+wanted+") was rolled back at 2026-11-24T09:00:00Z (ErrorRateExceeded); v1 (1111) serves")
	says(t, got, "RolledBack", "at 25 %: "+evidence,
		"To try v2 again after a fix: kubectl annotate -n shop workerpool main pool.dspex.dev/retry=$(date +%s) --overwrite, or change spec.worker")
	says(t, got, "ErrorsHealthy", evidence)
	if got.Weight.Summary != "0" || got.BlockedRevision != wanted || got.LastRollback == nil {
		t.Errorf("weight %q, blocked %q, last rollback %v", got.Weight.Summary, got.BlockedRevision, got.LastRollback)
	}
}

func TestO38_ATokenThatWasUsedIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		token, handled string
		named          bool
	}{
		"no token":        {"", "", false},
		"used":            {"again", "again", true},
		"not yet handled": {"new", "again", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(afterRollback(func(in *status.Input) {
				in.Pool.Annotations = map[string]string{v1alpha1.RetryAnnotation: tc.token}
				in.Decision.Handled.Retry = tc.handled
			}))
			message := meta.FindStatusCondition(got.Conditions, "RolledBack").Message
			if strings.Contains(message, "was used already; choose another") != tc.named {
				t.Errorf("the message: %s", message)
			}
		})
	}
}

// Rollbacks that say nothing of rates, and those that aren't of the spec's revision.
func TestRollbacks(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*status.Input)
		want   map[string]string
	}{
		"TestO82 the pods tripped": {
			func(in *status.Input) { in.Pool.Status.LastRollback = rollback("PodsTripped") },
			map[string]string{"Ready": "False RolledBack", "RolledBack": "True PodsTripped", "ErrorsHealthy": "Unknown PodsTripped"},
		},
		"this very pass": {
			func(in *status.Input) {
				in.Pool.Status.LastRollback = nil
				in.Decision.Rollback = rollback("TimeoutRateExceeded")
			},
			map[string]string{"Ready": "False RolledBack", "RolledBack": "True TimeoutRateExceeded", "ErrorsHealthy": "False TimeoutRateExceeded"},
		},
		"TestO39 the spec has moved on": {
			func(in *status.Input) { in.Pool.Spec.PoolVersion = "v1"; in.Decision.State = rollout.Promoted },
			map[string]string{"Ready": "True Promoted", "RolledBack": "False NotRolledBack", "ErrorsHealthy": "Unknown NoCanary"},
		},
		"TestO31 and a pod is away": {
			func(in *status.Input) {
				in.Pods = append(in.Pods, edit(pod("two", v1), func(p *status.Pod) { p.Connected, p.Acknowledged = false, false }))
			},
			map[string]string{"Ready": "False RolledBack", "RolledBack": "True ErrorRateExceeded", "ErrorsHealthy": "False ErrorRateExceeded"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(afterRollback(tc.change))
			if diff := cmp.Diff(tc.want, of(got, "Ready", "RolledBack", "ErrorsHealthy")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.LastRollback == nil {
				t.Error("the last rollback is forgotten")
			}
		})
	}
}

// underWay is a canary in its second step of three.
func underWay(state rollout.State, change func(*status.Input)) status.Input {
	in := status.Input{
		Pool: pool(), Decision: canary(state, 2500, 2500), Pods: []status.Pod{pod("one", v1, v2), pod("two", v1, v2)}, Now: t0,
		Looks: status.Looks{Needed: 100},
	}
	in.Decision.Rollout = &v1alpha1.RolloutStatus{Revision: "2222", Step: 2, Steps: 3, AnalysisSince: new(metav1.NewTime(t0))}
	if change != nil {
		change(&in)
	}
	return in
}

// look is one that the analysis makes of counts like these in one pod.
func look(canary, stable analysis.Counts) *analysis.Result {
	r := analysis.Decide(analysis.Input{
		CanaryName: "v2", StableName: "v1", Pods: []analysis.Pod{{Canary: canary, Stable: stable}}, Span: time.Minute,
		Thresholds: analysis.Thresholds{MinSamples: 100, MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01},
		Grid:       analysis.Grid{Start: t0}, Now: t0.Add(time.Minute),
	})
	return &r
}

var (
	passed = look(analysis.Counts{Requests: 1000, Errors: 2}, analysis.Counts{Requests: 3000, Errors: 6})
	failed = look(analysis.Counts{Requests: 1000, Errors: 300}, analysis.Counts{Requests: 3000, Errors: 6})
	few    = look(analysis.Counts{Requests: 40}, analysis.Counts{Requests: 800})
	unsure = look(analysis.Counts{Requests: 200, Errors: 4}, analysis.Counts{Requests: 800})
)

func TestErrorsHealthy(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*status.Input)
		want   string
		says   string
	}{
		"no look yet":            {nil, "Unknown NoLookYet", "no traffic yet"},
		"TestO30 too few":        {func(in *status.Input) { in.Looks.Last = few }, "Unknown InsufficientSamples", "v2 executed 40 requests and v1 800; each needs 100"},
		"TestO30 can't be told":  {func(in *status.Input) { in.Looks.Last = unsure }, "Unknown Undecided", "more requests decide"},
		"healthy":                {func(in *status.Input) { in.Looks.Last = passed }, "True Healthy", "v2 failed 2 of 1000"},
		"TestO40 failed":         {func(in *status.Input) { in.Looks.Last, in.Looks.Failed = failed, failed }, "False ErrorRateExceeded", "v2 failed 300 of 1000 requests (30.0 %)"},
		"failed, and less since": {func(in *status.Input) { in.Looks.Last, in.Looks.Failed = unsure, failed }, "False ErrorRateExceeded", "300 of 1000"},
		"held by the policy, a new leader": {
			func(in *status.Input) {
				in.Decision.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Revision: "2222", Message: evidence}
			},
			"False RollbackPolicy", evidence,
		},
		"TestO22 a new leader that hasn't looked": {
			func(in *status.Input) {
				in.Pool.Status.Conditions = []metav1.Condition{{Type: "ErrorsHealthy", Status: "True", Reason: "Healthy", Message: "as it was"}}
			},
			"True Healthy", "as it was",
		},
		"of an earlier canary": {
			func(in *status.Input) {
				in.Decision.Rollout.AnalysisSince = nil
				in.Pool.Status.Conditions = []metav1.Condition{{Type: "ErrorsHealthy", Status: "True", Reason: "Healthy", Message: "as it was"}}
			},
			"Unknown NoLookYet", "no traffic yet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(rollout.CanaryProgressing, tc.change))
			if c := conditions(got)["ErrorsHealthy"]; c != tc.want {
				t.Errorf("%s, want %s", c, tc.want)
			}
			says(t, got, "ErrorsHealthy", tc.says)
		})
	}
}

func TestMetricsAvailable(t *testing.T) {
	second := func(change func(*status.Pod)) func(*status.Input) {
		return func(in *status.Input) { in.Pods[1] = edit(in.Pods[1], change) }
	}
	for name, tc := range map[string]struct {
		change func(*status.Input)
		want   string
		says   []string
	}{
		"all report": {nil, "True AllReporting", []string{"2 of 2 pods"}},
		"TestO31 one is silent": {
			second(func(p *status.Pod) { p.Stale = true }),
			"False TelemetryStale", []string{"1 of 2 pods", "(two)", "kubectl logs -n shop two -c pool-router"},
		},
		"TestO32 one is away": {
			second(func(p *status.Pod) { p.Connected, p.Acknowledged = false, false }),
			"False PodsUnreachable", []string{"1 of 2 pods", "(two)"},
		},
		"one is joining": {
			second(func(p *status.Pod) { p.Connected, p.Acknowledged, p.Joining = false, false, true }),
			"Unknown PodsJoining", []string{"1 of 2 pods send figures; on their way to the operator: two"},
		},
		"TestO5 one changes its stream": {
			second(func(p *status.Pod) { p.Connected, p.Acknowledged, p.Joining, p.Settled = false, false, true, true }),
			"True AllReporting", nil,
		},
		"no pods": {func(in *status.Input) { in.Pods = nil }, "Unknown NoPods", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(rollout.CanaryProgressing, tc.change))
			if c := conditions(got)["MetricsAvailable"]; c != tc.want {
				t.Errorf("%s, want %s", c, tc.want)
			}
			says(t, got, "MetricsAvailable", tc.says...)
		})
	}
}

func TestPaused(t *testing.T) {
	since := metav1.NewTime(t0)
	for name, tc := range map[string]struct {
		change func(*status.Input)
		want   string
		says   []string
	}{
		"no":          {nil, "False NotPaused", nil},
		"by the spec": {func(in *status.Input) { in.Pool.Spec.Paused = true }, "True SpecPaused", []string{"rolling back go on"}},
		"by a token": {
			func(in *status.Input) {
				in.Decision.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken, Since: since}
			},
			"True PauseToken", []string{"since 2026-11-24T09:00:00Z", "pool.dspex.dev/resume=$(date +%s)"},
		},
		"by the policy": {
			func(in *status.Input) {
				in.Decision.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByPolicy, Since: since, Message: evidence}
			},
			"True RollbackPolicy", []string{evidence, "pool.dspex.dev/abort=$(date +%s)", "pool.dspex.dev/resume=$(date +%s)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := status.Of(underWay(rollout.CanaryProgressing, tc.change))
			if c := conditions(got)["Paused"]; c != tc.want {
				t.Errorf("%s, want %s", c, tc.want)
			}
			says(t, got, "Paused", tc.says...)
		})
	}
}

// TestO10_AnnotationsThatMeanNothingAreSaid, each with what to write instead.
func TestO10_AnnotationsThatMeanNothingAreSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        string
		says        []string
	}{
		"none":              {nil, "True AllAccepted", nil},
		"other's":           {map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}, "True AllAccepted", nil},
		"all tokens":        {map[string]string{v1alpha1.RetryAnnotation: "1", v1alpha1.PromoteAnnotation: "1", v1alpha1.AbortAnnotation: "1", v1alpha1.PauseAnnotation: "1", v1alpha1.ResumeAnnotation: "1"}, "True AllAccepted", nil},
		"an approval":       {map[string]string{"pool.dspex.dev/approve": "x/1"}, "False UnsupportedAnnotation", []string{"pool.dspex.dev/approve", "aren't supported yet", "pool.dspex.dev/pause", "pool.dspex.dev/resume"}},
		"a typo":            {map[string]string{"pool.dspex.dev/rety": "1"}, "False UnknownAnnotation", []string{"pool.dspex.dev/rety", "pool.dspex.dev/retry"}},
		"too long":          {map[string]string{v1alpha1.RetryAnnotation: strings.Repeat("x", 257)}, "False TokenTooLong", []string{"257 bytes", "at most 256"}},
		"as long as may be": {map[string]string{v1alpha1.RetryAnnotation: strings.Repeat("x", 256)}, "True AllAccepted", nil},
		"two at once":       {map[string]string{"pool.dspex.dev/rety": "1", "pool.dspex.dev/approve": "1"}, "False UnsupportedAnnotation", []string{"approve", "; ", "rety"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{pod("one", v1)}, Now: t0}
			in.Pool.Annotations = tc.annotations
			got := status.Of(in)
			if c := conditions(got)["Accepted"]; c != tc.want {
				t.Errorf("%s, want %s", c, tc.want)
			}
			says(t, got, "Accepted", tc.says...)
		})
	}
}
