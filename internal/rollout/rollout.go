package rollout

import (
	"time"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Decision is what the routers are to be told, and why.
type Decision struct {
	// Assignment is recorded in the status before the routers are told of it. What takes traffic off a canary they are told
	// first.
	Assignment Assignment
	// Idle keeps the canary's slot without workers though the canary is placed.
	Idle bool
	// Weight of the canary that the routers are told.
	Weight Weight
	// Desired is the weight that the spec wants now: the step's, or the pinned one. Applied is what every live pod has
	// acknowledged. Both are Full when the spec's revision is the stable one and serves alone, and 0 when it is blocked.
	Desired, Applied Weight
	State            State
	Action           Action
	// Blockers are the pods that hold the rollout up, where there are any.
	Blockers []string

	// Rollout, Blocked, Hold and Handled go into the status, before the routers are told of anything more.
	Rollout *v1alpha1.RolloutStatus
	Blocked string
	Hold    *v1alpha1.HoldStatus
	Handled v1alpha1.HandledTokens
	// Rollback is set by the decision that rolls back, and by those after it until it is recorded.
	Rollback *v1alpha1.RollbackStatus
	// Notes tell what became of tokens, and what a DryRun would have done; for events.
	Notes []Note
	// Again is after how long time alone can change the decision; 0: never.
	Again time.Duration
}

// Note is something to tell that is no state.
type Note struct{ Reason, Message string }

// Decide is the whole rollout: the first rule that speaks wins. What takes traffic off a canary comes before what people
// ask for, and that before what goes on by itself; what holds comes before what raises. ROLLOUT.md draws it.
func Decide(in Input) Decision {
	r := newRound(in)
	for _, rule := range []func(*round) (Decision, bool){
		(*round).takeOver,
		(*round).replaceUnproven,
		(*round).rollBackForAnalysis,
		(*round).rollBackForTrips,
		(*round).obey,
		(*round).settled,
		(*round).dropUnwanted,
		(*round).stayRolledBack,
		(*round).holdPlacing,
		(*round).place,
		(*round).lower,
		(*round).holdForPolicy,
		(*round).holdForPods,
		(*round).holdForTrips,
		(*round).holdForContainers,
		(*round).holdForBoot,
		(*round).holdForAcknowledgement,
		(*round).holdForWorkers,
		(*round).holdForMetrics,
		(*round).holdForPause,
		(*round).holdForReports,
		(*round).promote,
		(*round).raise,
		(*round).walk,
	} {
		if d, speaks := rule(r); speaks {
			return d
		}
	}
	return r.decision(CanaryPinned, None)
}
