package status

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// rolledOut is what the rollout says once every pod does what it was told.
func rolledOut(in *Input) (finding, progress) {
	d, a := &in.Decision, &in.Decision.Assignment
	pausable := d.State == rollout.CanaryPinned || d.State == rollout.Unacknowledged
	if f := paused(in); pausable && f.status == metav1.ConditionTrue {
		return no(ReasonPaused, "%s is at %s %%; %s", describe(a.Canary), d.Applied, f.message), settled
	}
	switch d.State {
	case rollout.Promoted:
		return yes(ReasonPromoted, "%s (%s) serves everything", a.Stable.Version, a.Stable.Revision), settled
	case rollout.CanaryPinned:
		return pinned(d), settled
	case rollout.Unacknowledged: // the rollout is strict about pods that are re-joining
		if d.Applied == d.Desired && d.Desired < rollout.Full && (d.Rollout == nil || d.Rollout.Steps == 0) && len(in.unacknowledged()) == 0 {
			return pinned(d), settled
		}
		return progressing(in), moving
	case rollout.CanaryDropping:
		return no(ReasonCanaryProgressing, "%s (%s) is being taken out", a.Canary.Version, a.Canary.Revision), moving
	default:
		return standing(in)
	}
}

// standing is what a rollout says that holds by itself. Any other is on its way.
func standing(in *Input) (finding, progress) {
	d := &in.Decision
	reason, at := string(d.State), fmt.Sprintf("%s is at %s %%", describe(d.Assignment.Canary), d.Applied)
	switch d.State {
	case rollout.RolledBack:
		return readyAfterRollback(in), stuck
	case rollout.Paused:
		return no(reason, "%s; %s", at, paused(in).message), settled
	case rollout.AnalysisFailed:
		return no(reason, "%s; %s", at, paused(in).message), stuck
	case rollout.PodsTripped:
		return no(reason, "%s and isn't raised: %s. To try it there again, from zero: %s; to take it back everywhere: %s",
			at, trips(in), command(in.Pool, v1alpha1.RetryAnnotation), command(in.Pool, v1alpha1.AbortAnnotation)), stuck
	case rollout.MetricsUnavailable:
		return no(reason, "%s and isn't raised: %s", at, metricsAvailable(in).message), moving
	case rollout.InsufficientSamples:
		return no(reason, "%s and isn't raised before the analysis can tell: %s. Not to wait: lower minSamples, or %s",
			at, samples(in), command(in.Pool, v1alpha1.PromoteAnnotation)), moving
	case rollout.StepInProgress:
		return stepping(d), moving
	default:
		return progressing(in), moving
	}
}

// stepping tells since when a step lasts; until when is the spec's to say.
func stepping(d *rollout.Decision) finding {
	text := fmt.Sprintf("%s is at %s %%", describe(d.Assignment.Canary), d.Applied)
	if r := d.Rollout; r != nil && r.StepSince != nil {
		text = fmt.Sprintf("%s, step %d of %d, since %s", text, r.Step, r.Steps, since(r.StepSince.Time))
	}
	return no(ReasonCanaryProgressing, "%s", text)
}

// trips names the pods whose routers took the canary off their traffic, and what the first of them saw.
func trips(in *Input) string {
	pods := in.tripped()
	if len(pods) == 0 {
		return "a pod took it off its traffic"
	}
	t := first(pods).Tripped
	return fmt.Sprintf("%d of %d pods took it off their traffic (%s): %s: %s",
		len(pods), len(in.live()), named(pods), t.Reason, cut(t.Message, maxMessage))
}

// samples are how many executed requests the last look compared, and how many it needs.
func samples(in *Input) string {
	last := in.Looks.Last
	switch {
	case last == nil:
		return fmt.Sprintf("no look at it yet; each side needs %d executed requests", in.Looks.Needed)
	case last.Reason == analysis.NoComparison:
		return fmt.Sprintf("no pod in which both revisions executed a request; each side needs %d of them together", in.Looks.Needed)
	case last.Reason == analysis.Undecided:
		return fmt.Sprintf("worse than allowed, by no more than chance may do; more requests decide: %s", evidenceOf(last))
	}
	a := &in.Decision.Assignment
	canary, stable := Names(a)
	return fmt.Sprintf("%s executed %d requests and %s %d; each needs %d", canary, last.CanarySamples, stable, last.StableSamples, in.Looks.Needed)
}

// Names are how people call the canary and the stable: by version, and by revision too when both have the same.
func Names(a *rollout.Assignment) (canary, stable string) {
	if a.Canary == nil {
		return "the canary", string(a.Stable.Version)
	}
	if a.Canary.Version != a.Stable.Version {
		return string(a.Canary.Version), string(a.Stable.Version)
	}
	return describe(a.Canary), describe(&a.Stable)
}

func pinned(d *rollout.Decision) finding {
	c, s := d.Assignment.Canary, &d.Assignment.Stable
	return yes(ReasonCanaryPinned, "%s (%s) has its %s %%, %s (%s) the rest, for as long as spec.canary.weight says so",
		c.Version, c.Revision, d.Applied, s.Version, s.Revision)
}

// progressing tells the way.
func progressing(in *Input) finding {
	d := &in.Decision
	if d.Applied == d.Desired {
		return stepping(d)
	}
	text := fmt.Sprintf("%s is at %s %% on its way to %s %%", describe(d.Assignment.Canary), d.Applied, d.Desired)
	if r := d.Rollout; r != nil && r.Step > 0 {
		text = fmt.Sprintf("%s, step %d of %d", text, r.Step, r.Steps)
	}
	return no(ReasonCanaryProgressing, "%s", text)
}

func describe(r *v1alpha1.SlotRevision) string {
	if r == nil {
		return "the new revision"
	}
	return fmt.Sprintf("%s (%s)", r.Version, r.Revision)
}
