package status

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
)

// metricsAvailable: the figures that the analysis needs come in from every live pod.
func metricsAvailable(in *Input) finding {
	live := in.live()
	if len(live) == 0 {
		f := available(in)
		return unknown(f.reason, "%s", f.message)
	}
	away, stale := in.unreachable(), in.stale()
	switch {
	case len(away) > 0:
		return no(ReasonPodsUnreachable, "no figures from %d of %d pods, which have no connection to the operator (%s): no weight is raised",
			len(away), len(live), heardLast(away))
	case len(stale) > 0:
		return no(ReasonTelemetryStale, "no figures for more than 5 s from %d of %d pods, whose connections still stand (%s): no weight is raised; look at: kubectl logs -n %s %s -c pool-router",
			len(stale), len(live), heardLast(stale), in.Pool.Namespace, first(stale).Name)
	}
	joining := in.where(func(p *Pod) bool { return p.Live && !p.Connected && !p.rejoining() })
	if len(joining) > 0 {
		return unknown(ReasonPodsJoining, "%d of %d pods send figures; on their way to the operator: %s",
			len(live)-len(joining), len(live), heardLast(joining))
	}
	return yes(ReasonAllReporting, "%d of %d pods send figures", len(live), len(live))
}

// heardLast names pods, and when the first of them was heard last.
func heardLast(pods []*Pod) string {
	if p := first(pods); !p.Heard.IsZero() {
		return fmt.Sprintf("%s; %s was last heard at %s", named(pods), p.Name, since(p.Heard))
	}
	return named(pods)
}

// errorsHealthy: the canary's error and timeout rates aren't above the stable's by more than is allowed. What a look
// found stands until another says the opposite: later ones have less of the level, and say less.
func errorsHealthy(in *Input) finding {
	if in.blocked() {
		return errorsOfRollback(in)
	}
	if hold := in.Decision.Hold; hold != nil && hold.By == v1alpha1.HeldByPolicy && hold.Message != "" && in.Looks.Failed == nil {
		return no(hold.By, "%s", cut(hold.Message, maxMessage))
	}
	if in.Decision.Assignment.Canary == nil {
		return unknown(ReasonNoCanary, "there is no canary to compare")
	}
	if failed := in.Looks.Failed; failed != nil {
		return no(string(failed.Reason), "%s", evidenceOf(failed))
	}
	last := in.Looks.Last
	if last == nil {
		return errorsNotLookedAt(in)
	}
	if last.Verdict == analysis.Pass {
		return yes(string(last.Reason), "%s", evidenceOf(last))
	}
	return unknown(string(last.Reason), "%s", samples(in))
}

// errorsOfRollback says what the rollback rested on; one by hand or by the pods' trips says nothing about rates.
func errorsOfRollback(in *Input) finding {
	last := in.Decision.Rollback
	if last == nil {
		last = in.Pool.Status.LastRollback
	}
	if last == nil || last.Revision != in.Decision.Blocked || len(last.Evidence) == 0 {
		return unknown(ReasonRolledBack, "the canary was rolled back")
	}
	if r := analysis.Reason(last.Reason); r == analysis.ErrorRateExceeded || r == analysis.TimeoutRateExceeded {
		return no(last.Reason, "%s", cut(last.Evidence[0], maxMessage))
	}
	return unknown(last.Reason, "%s", cut(last.Evidence[0], maxMessage))
}

// errorsNotLookedAt keeps what an earlier leader found of the same canary.
func errorsNotLookedAt(in *Input) finding {
	before := meta.FindStatusCondition(in.Pool.Status.Conditions, v1alpha1.ConditionErrorsHealthy)
	if r := in.Decision.Rollout; r != nil && r.AnalysisSince != nil && before != nil && before.Reason != ReasonNoCanary && before.Reason != ReasonBlocked {
		return finding{before.Status, before.Reason, before.Message}
	}
	return unknown(ReasonNoLookYet, "the canary has had no traffic yet that could be compared")
}

// evidenceOf is the worst of what a look tested, in words.
func evidenceOf(r *analysis.Result) string {
	if len(r.Evidence) == 0 {
		return string(r.Reason)
	}
	return r.Evidence[0].String()
}
