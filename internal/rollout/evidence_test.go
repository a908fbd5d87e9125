package rollout_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

func TestHelpersOfTheAnalysis(t *testing.T) {
	s := stepped("m", "5 for 60s", "25 for 60s")
	if diff := cmp.Diff(analysis.Thresholds{MinSamples: 100, MaxErrorRateIncrease: 0.01, MaxTimeoutRateIncrease: 0.01}, rollout.Thresholds(s, nil)); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	s.Analysis = v1alpha1.Analysis{
		MinSamples: new(int32(300)), MaxErrorRateIncrease: new(intstr.FromString("0.5%")), MaxTimeoutRateIncrease: new(intstr.FromInt32(0)),
	}
	s.Canary.Steps[1].MinSamples = new(int32(40))
	for step, want := range map[int32]uint64{0: 300, 1: 300, 2: 40, 3: 300} {
		got := rollout.Thresholds(s, &v1alpha1.RolloutStatus{Step: step})
		if diff := cmp.Diff(analysis.Thresholds{MinSamples: want, MaxErrorRateIncrease: 0.005}, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", step, diff)
		}
	}
	progress := &v1alpha1.RolloutStatus{AnalysisSince: at(-time.Hour)}
	if grid, runs := rollout.Looks(progress); !runs || !grid.Start.Equal(start.Add(-time.Hour)) {
		t.Errorf("looks from %s (%v)", grid.Start, runs)
	}
	if _, runs := rollout.Looks(&v1alpha1.RolloutStatus{}); runs {
		t.Error("looks before the canary had traffic")
	}
	if rollout.ReportOnly(s) {
		t.Error("trips are only reported without DryRun")
	}
	if s.Rollback.Policy = v1alpha1.RollbackDryRun; !rollout.ReportOnly(s) {
		t.Error("trips are acted upon under DryRun")
	}
}
