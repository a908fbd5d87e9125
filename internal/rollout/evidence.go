package rollout

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
)

// The API's defaults, for a spec that didn't pass through the API server.
const (
	defaultMinSamples = 100
	defaultIncrease   = 0.01
)

// Looks are the times at which a rollout is analysed; false: its canary has had no traffic yet. When they begin at
// another time than before, the analysis' progress is that of a beginning.
func Looks(progress *v1alpha1.RolloutStatus) (analysis.Grid, bool) {
	if progress == nil || progress.AnalysisSince == nil {
		return analysis.Grid{}, false
	}
	return analysis.Grid{Start: progress.AnalysisSince.Time}, true
}

// ReportOnly tells whether routers are to say that they would trip, and leave the traffic alone.
func ReportOnly(spec *v1alpha1.WorkerPoolSpec) bool {
	return spec.Rollback.Policy == v1alpha1.RollbackDryRun
}

// Thresholds are what the canary may cost at this place of its rollout.
func Thresholds(spec *v1alpha1.WorkerPoolSpec, progress *v1alpha1.RolloutStatus) analysis.Thresholds {
	return analysis.Thresholds{
		MinSamples:             minSamples(spec, progress),
		MaxErrorRateIncrease:   increase(spec.Analysis.MaxErrorRateIncrease),
		MaxTimeoutRateIncrease: increase(spec.Analysis.MaxTimeoutRateIncrease),
	}
}

// minSamples is the step's own, or that of the analysis.
func minSamples(spec *v1alpha1.WorkerPoolSpec, progress *v1alpha1.RolloutStatus) uint64 {
	least := spec.Analysis.MinSamples
	if progress != nil && progress.Step >= 1 && spec.Canary != nil && int(progress.Step) <= len(spec.Canary.Steps) {
		if own := spec.Canary.Steps[progress.Step-1].MinSamples; own != nil {
			least = own
		}
	}
	if least == nil {
		return defaultMinSamples
	}
	return uint64(max(1, *least))
}

// increase reads percentage points as a fraction. A malformed one, which the API server doesn't admit, allows nothing.
func increase(points *intstr.IntOrString) float64 {
	if points == nil {
		return defaultIncrease
	}
	w, err := ParseWeight(*points)
	if err != nil {
		return 0
	}
	return float64(w) / float64(Full)
}

// failed tells whether the look that is due found the canary worse than allowed. Without a pod that hears of it,
// nothing is done.
func (r *round) failed() bool {
	connected := r.podsWith(func(p *Pod) bool { return p.Connected })
	return r.Findings != nil && r.Findings.Verdict == analysis.Fail && len(connected) > 0 &&
		!byHand(r.Spec, r.assignment.Stable.Version)
}

// passed tells whether the look that is due lets the step end. Under DryRun what would have been a rollback counts as
// passed, once there are samples enough.
func (r *round) passed() bool {
	f := r.Findings
	if f == nil {
		return false
	}
	if least := minSamples(r.Spec, &r.progress); f.CanarySamples < least || f.StableSamples < least {
		return false
	}
	return f.Verdict == analysis.Pass || (r.policy() == v1alpha1.RollbackDryRun && r.progress.WouldRollBack != "")
}

// lines are what the analysis found against the canary, the worst first: each for people, then for the statistician.
func lines(findings *analysis.Result) []string {
	var out []string
	for i := range findings.Evidence {
		if e := &findings.Evidence[i]; e.Exceeded() {
			out = append(out, fmt.Sprintf("%s (%s)", e.String(), e.Proof()))
		}
	}
	return out
}
