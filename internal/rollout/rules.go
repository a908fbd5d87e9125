package rollout

import "slices"

// replaceUnproven starts over when the stable has never had a worker anywhere (a module that doesn't import, an image
// that doesn't exist): there is nothing in it to keep, and a canary beside it would be compared with a failure. While a
// live pod isn't heard, its workers may well be serving.
func (r *round) replaceUnproven() (Decision, bool) {
	first := First(r.Spec)
	if r.held() {
		first.Canary = nil // nothing is started
	}
	if r.first || r.blocked() || r.assignment.Stable.Proven || r.weight > 0 || len(r.unheard()) > 0 {
		return Decision{}, false
	}
	if first.equal(r.assignment) || (r.held() && same(&first.Stable, &r.assignment.Stable)) {
		return Decision{}, false
	}
	r.assignment = first
	r.applied = 0
	d := r.decision(r.firstState(), StableSet)
	if first.Canary != nil {
		if outdated := r.unsuited(); len(outdated) > 0 {
			d.State, d.Idle, d.Blockers = PodsOutdated, true, outdated
		}
	}
	return d, true
}

func (r *round) unheard() []string {
	return r.podsWith(func(p *Pod) bool { return !p.Connected })
}

func (r *round) firstState() State {
	switch {
	case r.assignment.Canary != nil:
		return WaitingForWorkers
	case r.assignment.Stable.Revision != r.wanted.Revision:
		return Paused
	}
	return Promoted
}

// settled: the spec's revision is the stable one, and there is no canary to get rid of.
func (r *round) settled() (Decision, bool) {
	if r.assignment.Canary != nil || r.wanted.Revision != r.assignment.Stable.Revision {
		return Decision{}, false
	}
	return r.decision(Promoted, None), true
}

// dropUnwanted takes a canary off the traffic that the spec no longer wants (reverted, or superseded), and empties its
// slot once no connected router sends anything there. A router that can't be reached doesn't hold this up: what it
// gets when it is back takes the canary off its traffic in the same instant.
func (r *round) dropUnwanted() (Decision, bool) {
	c := r.assignment.Canary
	if c == nil || c.Revision == r.wanted.Revision {
		return Decision{}, false
	}
	if d, busy := r.release(CanaryDropping); busy {
		return d, true
	}
	if d, speaks := r.settled(); speaks {
		d.Action = CanaryDropped
		return d, true
	}
	if r.held() {
		return r.decision(Paused, CanaryDropped), true
	}
	return r.place()
}

// release takes the canary off the traffic and then out of its slot. It is busy until no connected router sends it
// anything.
func (r *round) release(state State) (d Decision, busy bool) {
	waiting := r.podsWith(func(p *Pod) bool { return p.Connected && !p.Acknowledged })
	if r.weight > 0 || (r.toldCanary() && r.applied > 0 && len(waiting) > 0) {
		d = r.decision(state, None, waiting...)
		if r.weight > 0 {
			d.Action = WeightChanged
		}
		d.Weight, d.Desired = 0, 0
		return d, true
	}
	r.assignment.Canary = nil
	r.weight, r.applied = 0, 0
	return Decision{}, false
}

// place gives the spec's revision the slot that isn't the stable's, without traffic.
func (r *round) place() (Decision, bool) {
	if r.assignment.Canary != nil {
		return Decision{}, false
	}
	r.assignment.Canary = &r.wanted
	d := r.decision(WaitingForWorkers, CanaryStarted)
	if outdated := r.unsuited(); len(outdated) > 0 {
		d.State, d.Idle, d.Blockers = PodsOutdated, true, outdated
	}
	return d, true
}

// holdForPods keeps a canary's weight where no pod is there to prove it: when pods are back, the stable serves, and the
// canary gets its share once its workers are ready.
func (r *round) holdForPods() (Decision, bool) {
	return r.decision(WaitingForPods, None), len(r.Pods) == 0
}

// holdForContainers keeps a canary's slot idle while a pod's slot, running or about to, wasn't made for it: its workers would run the
// revision's module in another image, with other variables, or without the files that it wants.
func (r *round) holdForContainers() (Decision, bool) {
	outdated := r.unsuited()
	d := r.decision(PodsOutdated, None, outdated...)
	d.Idle = r.weight == 0
	return d, len(outdated) > 0
}

func (r *round) unsuited() []string {
	var names []string
	for _, p := range slices.Concat(r.Pods, r.Coming) {
		if !p.Suits(r.assignment.Canary) {
			names = append(names, p.Name)
		}
	}
	return names
}

// lower needs no one's consent.
func (r *round) lower() (Decision, bool) {
	if r.weight <= r.target {
		return Decision{}, false
	}
	r.give(r.target)
	return r.decision(CanaryProgressing, WeightChanged), true
}

// holdForBoot never gives traffic to workers that don't start.
func (r *round) holdForBoot() (Decision, bool) {
	failing := r.podsWith(func(p *Pod) bool { return p.FailsToBoot(r.assignment.Canary) })
	return r.decision(WorkerBootFailed, None, failing...), len(failing) > 0
}

// holdForAcknowledgement raises nothing while a live pod may be on another configuration.
func (r *round) holdForAcknowledgement() (Decision, bool) {
	waiting := r.unacknowledged()
	state := Unacknowledged
	if r.toldCanary() && r.weight != r.applied {
		state = CanaryProgressing
	}
	return r.decision(state, None, waiting...), len(waiting) > 0
}

// holdForWorkers raises nothing before the canary's workers are ready in every live pod.
func (r *round) holdForWorkers() (Decision, bool) {
	starting := r.podsWith(func(p *Pod) bool { return !p.Runs(r.assignment.Canary) })
	return r.decision(WaitingForWorkers, None, starting...), len(starting) > 0 || !r.toldCanary()
}

// holdForReports raises and promotes nothing on what a pod said before it had in force what it was told last.
func (r *round) holdForReports() (Decision, bool) {
	waiting := r.podsWith(func(p *Pod) bool { return p.Unreported })
	return r.decision(CanaryProgressing, None, waiting...), len(waiting) > 0 && r.underway()
}

// promote makes the canary the stable. By now every live pod sends it everything, and has all its workers.
func (r *round) promote() (Decision, bool) {
	if r.target != Full || r.weight != Full {
		return Decision{}, false
	}
	r.assignment = Assignment{Stable: *r.assignment.Canary}
	r.assignment.Stable.Proven = true
	return r.decision(Promoted, Promotion), true
}

// raise gives the canary its share.
func (r *round) raise() (Decision, bool) {
	if r.weight == r.target {
		return Decision{}, false
	}
	r.give(r.target)
	return r.decision(CanaryProgressing, WeightChanged), true
}
