package rollout

import (
	"strings"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// PodsTripped and Aborted are reasons of a rollback beside the analysis' own.
const (
	ReasonPodsTripped = "PodsTripped"
	ReasonAborted     = "Aborted"
)

// policy says what follows when the canary is found worse than allowed.
func (r *round) policy() v1alpha1.RollbackPolicy {
	if r.Spec.Rollback.Policy == "" {
		return v1alpha1.RollbackAutomatic
	}
	return r.Spec.Rollback.Policy
}

// rollBackForAnalysis acts on what the look found against a canary that has traffic: at whatever weight, and while the
// rollout is held too.
func (r *round) rollBackForAnalysis() (Decision, bool) {
	if !r.hasTraffic() || !r.failed() {
		return Decision{}, false
	}
	return r.condemn(string(r.Findings.Reason), lines(r.Findings))
}

// hasTraffic tells whether the wanted canary gets, or may still get, requests.
func (r *round) hasTraffic() bool { return r.bringingIn() && max(r.weight, r.applied) > 0 }

// condemn does what the policy wants done with a canary that is worse than allowed. Under Pause it holds once, and
// under DryRun it says once what it would have done; both leave the traffic alone.
func (r *round) condemn(reason string, evidence []string) (Decision, bool) {
	switch r.policy() {
	case v1alpha1.RollbackDryRun:
		if r.progress.WouldRollBack == "" {
			r.progress.WouldRollBack = bounded(reason + ": " + strings.Join(evidence, "; "))
			r.note(NoteWouldRollBack, "rollback.policy Automatic would have rolled back %s at %s %%: %s",
				r.wanted.Revision, r.weight, r.progress.WouldRollBack)
		}
		return Decision{}, false
	case v1alpha1.RollbackPause:
		if r.heldByPolicy() {
			return Decision{}, false
		}
		r.Hold = &v1alpha1.HoldStatus{
			By: v1alpha1.HeldByPolicy, Revision: r.wanted.Revision, Since: happened(r.Now),
			Message: bounded(reason + ": " + strings.Join(evidence, "; ")),
		}
		return r.decision(AnalysisFailed, Holding), true
	case v1alpha1.RollbackAutomatic:
	}
	return r.rollBack(Rollback, reason, evidence), true
}

// rollBack takes the canary off the traffic at once, blocks its revision and records why.
func (r *round) rollBack(action Action, reason string, evidence []string) Decision {
	c, s := r.assignment.Canary, &r.assignment.Stable
	record := &v1alpha1.RollbackStatus{
		Revision: c.Revision, From: c.Version, To: s.Version, ToRevision: s.Revision,
		Weight: r.weight.String(), Reason: reason, Evidence: evidence, Time: happened(r.Now),
	}
	r.Blocked = c.Revision
	if r.heldByPolicy() {
		r.Hold = nil
	}
	r.weight = 0
	d := r.decision(RolledBack, action)
	d.Rollback = record
	return d
}

// stayRolledBack finishes what a rollback began, whoever made it, and then keeps the blocked revision out: no resync,
// restart or scaling tries it again.
func (r *round) stayRolledBack() (Decision, bool) {
	if !r.blocked() {
		return Decision{}, false
	}
	if r.assignment.Canary == nil {
		return r.decision(RolledBack, None), true
	}
	if d, busy := r.release(RolledBack); busy {
		return d, true
	}
	return r.decision(RolledBack, CanaryDropped), true
}

// maxMessage bounds what is kept of evidence in one text.
const maxMessage = 2048

// bounded cuts a text that is longer than a status should hold.
func bounded(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage-len("…")], "") + "…"
}
