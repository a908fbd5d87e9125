package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// recorded are the events of a pass.
func recorded(t *testing.T, r *WorkerPoolReconciler, p *pass) []string {
	t.Helper()
	recorder := events.NewFakeRecorder(10)
	r.Events = recorder
	if err := r.record(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	close(recorder.Events)
	var out []string
	for e := range recorder.Events {
		out = append(out, e)
	}
	return out
}

// rolledBack is a pass that decided to roll back and wrote it.
func rolledBack(reason string, evidence ...string) *pass {
	p := &pass{now: time.Unix(1_800_000_000, 0), pool: &v1alpha1.WorkerPool{}, memory: &memory{}, wrote: true}
	p.decision.Action = rollout.Rollback
	p.decision.Rollback = &v1alpha1.RollbackStatus{
		Revision: "2222", From: "v2", To: "v1", ToRevision: "1111", Weight: "25", Reason: reason, Evidence: evidence,
	}
	p.pool.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStalled, Reason: "RolledBack", Message: "twice"}}
	return p
}

// counted are the rollbacks by reason, without those that there were none of.
func counted(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 4 {
		t.Fatalf("%v, %v; want one metric, with a series for each reason from the beginning", families, err)
	}
	out := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			out[m.GetLabel()[0].GetValue()] = n
		}
	}
	return out
}

func TestO35_O36_ARollbackIsToldAndCountedOnce(t *testing.T) {
	found := analysis.Decide(analysis.Input{
		Pods: []analysis.Pod{{Canary: analysis.Counts{Requests: 412, Errors: 61}, Stable: analysis.Counts{Requests: 1240, Errors: 3}}},
		Grid: analysis.Grid{Interval: 1}, Thresholds: analysis.Thresholds{MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01},
		Now: (analysis.Grid{}).Start.Add(1),
	})
	for name, tc := range map[string]struct {
		pass *pass
		want string
	}{
		"ErrorRateExceeded": {
			func() *pass { p := rolledBack("ErrorRateExceeded", "long"); p.findings = &found; return p }(),
			"Warning RolledBack v2 (2222) → v1 (1111): error rate 14.8 % against 0.2 %, n=412/1240",
		},
		"PodsTripped": {rolledBack("PodsTripped", "p: CrashLoop: 3 crashes"), "Warning RolledBack v2 (2222) → v1 (1111): PodsTripped: p: CrashLoop: 3 crashes"},
		"Aborted":     {rolledBack("Aborted"), "Warning RolledBack v2 (2222) → v1 (1111): Aborted"},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			r := &WorkerPoolReconciler{Metrics: NewMetrics(registry)}
			if diff := cmp.Diff([]string{tc.want}, recorded(t, r, tc.pass)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			tc.pass.decision.Rollback, tc.pass.decision.Action, tc.pass.decision.State = nil, rollout.CanaryDropped, rollout.RolledBack
			tc.pass.now = tc.pass.now.Add(900 * time.Millisecond)
			if got := recorded(t, r, tc.pass); len(got) != 1 || !strings.HasSuffix(got[0], "weight 0 0.9 s after the rollback was decided") {
				t.Errorf("once its slot is idle: %v", got)
			}
			if diff := cmp.Diff(map[string]float64{name: 1}, counted(t, registry)); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
		})
	}
}

// A rollback that couldn't be written, or of which something else was written than that it was made, is told by the pass
// that does write it.
func TestO36_NothingIsCountedThatIsNotWritten(t *testing.T) {
	for name, change := range map[string]func(*pass){
		"nothing is written":         func(p *pass) { p.wrote = false },
		"why it can't be made is it": func(p *pass) { p.problem = "ControllerRevision main-1111 is missing" },
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			p := rolledBack("Aborted")
			change(p)
			if got := recorded(t, &WorkerPoolReconciler{Metrics: NewMetrics(registry)}, p); len(got) != 0 || len(counted(t, registry)) != 0 {
				t.Errorf("told %v, counted %v", got, counted(t, registry))
			}
		})
	}
}

// TestO33_TheCapacityIsWarnedOfOnce for each canary, however often the load crosses it.
func TestO33_TheCapacityIsWarnedOfOnce(t *testing.T) {
	r := &WorkerPoolReconciler{}
	p := &pass{pool: &v1alpha1.WorkerPool{}, memory: &memory{}, wrote: true}
	p.decision.Assignment = rollout.Assignment{
		Stable: v1alpha1.SlotRevision{Version: "v1", Revision: "1111"}, Canary: &v1alpha1.SlotRevision{Version: "v2", Revision: "2222"},
	}
	for _, step := range []struct {
		name     string
		capacity *v1alpha1.SerialCapacity
		canary   string
		warnings int
	}{
		{"not measured", nil, "2222", 0},
		{"enough", &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "90"}, "2222", 0},
		{"exceeded", &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "120", Exceeded: true}, "2222", 1},
		{"still", &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "130", Exceeded: true}, "2222", 0},
		{"another canary", &v1alpha1.SerialCapacity{RequestsPerSecond: "100", Load: "130", Exceeded: true}, "3333", 1},
	} {
		p.pool.Status.SerialCapacity, p.decision.Assignment.Canary.Revision = step.capacity, step.canary
		got := recorded(t, r, p)
		if len(got) != step.warnings || (step.warnings > 0 && !strings.Contains(got[0], "v1 (1111) could serve 100 requests/s alone")) {
			t.Errorf("%s: %v, want %d warnings", step.name, got, step.warnings)
		}
	}
}

func TestWhatADecisionTells(t *testing.T) {
	v1, v2 := v1alpha1.SlotRevision{Version: "v1", Revision: "1111"}, v1alpha1.SlotRevision{Version: "v2", Revision: "2222"}
	second := &v1alpha1.RolloutStatus{Step: 2, Steps: 3}
	for name, tc := range map[string]struct {
		decision rollout.Decision
		want     []string
	}{
		"a step": {
			rollout.Decision{Action: rollout.StepAdvanced, Rollout: second, Weight: 2500},
			[]string{"Normal StepAdvanced v2 (2222): step 2 of 3, 25 %"},
		},
		"the last step": {
			rollout.Decision{Action: rollout.StepAdvanced, Rollout: &v1alpha1.RolloutStatus{Promoting: true}},
			[]string{"Normal StepAdvanced v2 (2222): all steps are done, the rest of the requests follows"},
		},
		"TestO40 a note": {
			rollout.Decision{Notes: []rollout.Note{{Reason: rollout.NoteWouldRollBack, Message: "at 25 %"}}},
			[]string{"Warning WouldRollBack at 25 %"},
		},
		"a token without use": {
			rollout.Decision{Notes: []rollout.Note{{Reason: rollout.NoteNothingToAbort, Message: "no canary"}}},
			[]string{"Normal NothingToAbort no canary"},
		},
		"a canary that the spec no longer wants": {
			rollout.Decision{Action: rollout.CanaryDropped, State: rollout.Promoted},
			[]string{"Normal CanaryDropped v1 (1111) serves alone; the canary's slot is idle"},
		},
		"a retry": {rollout.Decision{Action: rollout.Retry}, []string{"Normal Retried v2 (2222) is tried again, from zero"}},
		"nothing": {rollout.Decision{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc.decision.Assignment = rollout.Assignment{Stable: v1, Canary: &v2}
			p := &pass{pool: &v1alpha1.WorkerPool{}, memory: &memory{}, decision: tc.decision}
			if diff := cmp.Diff(tc.want, recorded(t, &WorkerPoolReconciler{}, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			p.problem = "it can't be put into practice"
			if got := recorded(t, &WorkerPoolReconciler{}, p); len(got) != 0 {
				t.Errorf("told of what wasn't done: %v", got)
			}
		})
	}
}
