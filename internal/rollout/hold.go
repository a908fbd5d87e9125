package rollout

import "github.com/dspex/workerpool-operator/api/v1alpha1"

// held tells whether nothing may be started, raised or promoted. Lowering, dropping and rolling back go on.
func (r *round) held() bool { return r.Spec.Paused || r.Hold != nil }

func (r *round) heldByPolicy() bool { return r.Hold != nil && r.Hold.By == v1alpha1.HeldByPolicy }

// holdPlacing keeps a revision out that hasn't been started.
func (r *round) holdPlacing() (Decision, bool) {
	return r.decision(Paused, None), r.assignment.Canary == nil && r.held()
}

// holdForPolicy leaves a canary where it is that rollback.policy Pause holds.
func (r *round) holdForPolicy() (Decision, bool) {
	return r.decision(AnalysisFailed, None), r.heldByPolicy()
}

// holdForMetrics raises nothing while the figures of a live pod don't come: what they would say isn't known. Going back
// to v1 by hand asks for no figures.
func (r *round) holdForMetrics() (Decision, bool) {
	stale := r.podsWith(func(p *Pod) bool { return p.Connected && p.Stale })
	waits := len(stale) > 0 && r.underway() && !byHand(r.Spec, r.assignment.Stable.Version)
	return r.decision(MetricsUnavailable, None, stale...), waits
}

// holdForPause goes no further.
func (r *round) holdForPause() (Decision, bool) {
	return r.decision(Paused, None), r.held() && r.underway()
}

// underway tells whether there is anything to come: all but a pinned weight that is reached.
func (r *round) underway() bool { return r.weight != r.target || r.target == Full || r.step() != nil }
