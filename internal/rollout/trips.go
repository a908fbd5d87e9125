package rollout

import "fmt"

// Trip is a router's own decision that the canary gets nothing in its pod.
type Trip struct {
	Revision        string
	Reason, Message string
	ByHand          bool
	// ReportOnly: it would have, under another rollback.policy.
	ReportOnly bool
	// Outdated: it was told before the router had in force what it was told last, which may have ended it.
	Outdated bool
}

const (
	// tripsOfOwn is how many pods may trip by themselves before the fleet may follow, and fleetPart (one in so many) the
	// part of the fleet that must have: a pod or two that trip may be those pods' own trouble.
	tripsOfOwn = 1
	fleetPart  = 10
	// maxEvidence is how many lines of evidence are kept.
	maxEvidence = 10
)

// trippedPods returns the names of the live pods whose routers took this canary off their traffic.
func (r *round) trippedPods() []string {
	return r.podsWith(func(p *Pod) bool { return r.tripped(p) && !p.Tripped.ReportOnly })
}

// tripped tells whether a pod's router decided against the canary that is placed.
func (r *round) tripped(p *Pod) bool {
	return p.Tripped != nil && r.assignment.Canary != nil && p.Tripped.Revision == r.assignment.Canary.Revision
}

// rollBackForTrips follows when so many pods tripped by themselves that it is no longer their own trouble. Trips by
// hand say nothing of the canary, and a pod that hasn't in force what was told last, or hasn't said anything since, may
// not know yet that a retry token has ended its trip.
func (r *round) rollBackForTrips() (Decision, bool) {
	if !r.hasTraffic() {
		return Decision{}, false
	}
	own := r.podsWith(func(p *Pod) bool {
		return r.tripped(p) && !p.Tripped.ByHand && !p.Tripped.Outdated && p.Tripped.ReportOnly == ReportOnly(r.Spec) &&
			p.Connected && p.Acknowledged
	})
	if !fleetFollows(len(own), len(r.Pods)) {
		return Decision{}, false
	}
	return r.condemn(ReasonPodsTripped, r.tripLines(own))
}

// fleetFollows tells whether trips in so many of the live pods condemn the canary: more than one and more than a tenth,
// or all there are, since the only pod of a fleet has no other to compare with.
func fleetFollows(own, live int) bool {
	return own > tripsOfOwn && own*fleetPart > live || own > 0 && own == live
}

// tripLines are the trips as evidence, at most maxEvidence lines.
func (r *round) tripLines(pods []string) []string {
	named := map[string]bool{}
	for _, name := range pods {
		named[name] = true
	}
	var out []string
	for i := range r.Pods {
		if p := &r.Pods[i]; named[p.Name] {
			out = append(out, fmt.Sprintf("%s: %s: %s", p.Name, p.Tripped.Reason, p.Tripped.Message))
		}
	}
	if len(out) > maxEvidence {
		rest := len(out) - maxEvidence + 1
		out = append(out[:maxEvidence-1], fmt.Sprintf("and %d more of %d pods", rest, len(r.Pods)))
	}
	return out
}

// holdForTrips raises nothing while a live pod's router keeps the canary off its traffic.
func (r *round) holdForTrips() (Decision, bool) {
	tripped := r.trippedPods()
	return r.decision(PodsTripped, None, tripped...), len(tripped) > 0
}
