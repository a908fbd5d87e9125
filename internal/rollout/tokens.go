package rollout

import (
	"fmt"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// order is a token's kind: where it is written, and what it asks for.
type order struct {
	name    string
	token   func(*v1alpha1.HandledTokens) *string
	nothing string // the note's reason when there is nothing to do
	// act does what is asked for. It says why not when there is nothing to do.
	act func(*round, string) (Action, string)
}

// orders are the tokens, the safest first: when several come at once, each has a pass of its own, in this order. The
// one that asks for more traffic comes last, and finds what the others have made of the rollout.
var orders = []order{
	{"abort", func(h *v1alpha1.HandledTokens) *string { return &h.Abort }, NoteNothingToAbort, (*round).abort},
	{"pause", func(h *v1alpha1.HandledTokens) *string { return &h.Pause }, NoteNothingToPause, (*round).pause},
	{"retry", func(h *v1alpha1.HandledTokens) *string { return &h.Retry }, NoteNothingToRetry, (*round).retry},
	{"resume", func(h *v1alpha1.HandledTokens) *string { return &h.Resume }, NoteNothingToResume, (*round).resume},
	{"promote", func(h *v1alpha1.HandledTokens) *string { return &h.Promote }, NoteNothingToPromote, (*round).promoteAll},
}

// obey acts upon the first new token there is something to do for. The others wait for the next pass. A token is
// handled once, also when there was nothing to do for it, which is noted.
func (r *round) obey() (Decision, bool) {
	for i := range orders {
		o := &orders[i]
		token, is := r.fresh(o)
		if !is {
			continue
		}
		*o.token(&r.Handled) = token
		action, none := o.act(r, token)
		if none != "" {
			r.note(o.nothing, "%s token %q: %s", o.name, token, none)
			continue
		}
		if r.first {
			continue // the first visit's action is StableSet
		}
		r.unfinished = true // other tokens, and what follows from this one
		if action == Abort {
			return r.rollBack(Abort, ReasonAborted, []string{fmt.Sprintf("abort token %q", token)}), true
		}
		return r.stand(action), true
	}
	return Decision{}, false
}

// fresh returns a token that hasn't been handled. One that is too long asks for nothing, and leaves the one that was
// handled last as it is: the routers' trips are ended by it, and it would be obeyed twice. The condition Accepted tells.
func (r *round) fresh(o *order) (string, bool) {
	token, handled := *o.token(&r.Tokens), *o.token(&r.Handled)
	return token, token != "" && token != handled && len(token) <= v1alpha1.MaxToken
}

func (r *round) note(reason, format string, args ...any) {
	r.notes = append(r.notes, Note{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// stand says where the rollout is after a token, without doing anything else.
func (r *round) stand(action Action) Decision {
	switch {
	case r.wanted.Revision == r.assignment.Stable.Revision && r.assignment.Canary == nil:
		return r.decision(Promoted, action)
	case r.blocked():
		return r.decision(RolledBack, action)
	case r.held():
		return r.decision(Paused, action)
	case r.assignment.Canary == nil:
		return r.decision(WaitingForWorkers, action)
	case r.assignment.Canary.Revision != r.wanted.Revision:
		return r.decision(CanaryDropping, action)
	}
	return r.decision(CanaryProgressing, action)
}

// canaryBefore tells whether there was a canary to order about when this pass began: a token that comes with the
// pool, or with a new revision, asks for nothing that isn't there yet.
func (r *round) canaryBefore() bool { return !r.first && r.bringingIn() }

// abort is a rollback by hand.
func (r *round) abort(string) (Action, string) {
	if !r.canaryBefore() {
		return None, "there is no canary to abort"
	}
	return Abort, ""
}

// pause holds the rollout where it is, whichever revision comes, until a resume token.
func (r *round) pause(token string) (Action, string) {
	if r.Hold != nil {
		return None, "the rollout is held already (" + r.Hold.By + ")"
	}
	r.Hold = &v1alpha1.HoldStatus{
		By: v1alpha1.HeldByToken, Message: fmt.Sprintf("pause token %q", token), Since: happened(r.Now),
	}
	return Pause, ""
}

// retry tries the revision from zero: unblocked, with the first step, a new analysis and the hold of an old one ended.
// That pods' trips end, too, follows from the handled token, which is the routers' trip token.
func (r *round) retry(string) (Action, string) {
	if r.first || (!r.blocked() && !r.bringingIn()) {
		return None, "nothing was rolled back, and there is no canary to start over with; pods' trips end all the same"
	}
	r.Blocked = ""
	if r.heldByPolicy() {
		r.Hold = nil
	}
	r.progress = v1alpha1.RolloutStatus{Revision: r.wanted.Revision}
	r.progress = located(r.Spec, r.assignment.Stable.Version, &r.progress, r.wanted.Revision, 0)
	r.target = target(r.Spec, r.assignment.Stable.Version, &r.progress)
	r.give(min(r.weight, r.target))
	return Retry, ""
}

// resume ends a hold of either kind. After one by rollback.policy the analysis starts from zero: what it had found was
// seen and accepted.
func (r *round) resume(string) (Action, string) {
	switch {
	case r.Hold == nil && r.Spec.Paused:
		return None, "spec.paused holds the rollout, and only the spec ends that"
	case r.Hold == nil:
		return None, "nothing is held"
	}
	if r.heldByPolicy() {
		r.progress.AnalysisSince, r.progress.WeightSince, r.progress.StepSince = nil, nil, nil
	}
	r.Hold = nil
	return Resume, ""
}

// promoteAll skips what is left: the rest of the steps, or a pinned weight. A hold still holds, and what is found against
// the canary on the way still rolls it back.
func (r *round) promoteAll(string) (Action, string) {
	switch {
	case !r.canaryBefore():
		return None, "there is no canary to promote"
	case r.progress.Promoting:
		return None, "it is being promoted already"
	}
	r.progress.Promoting, r.progress.StepSince = true, nil
	if len(r.steps()) == 0 {
		r.progress.Skipped = SpecWeight(r.Spec).String()
	}
	r.progress = located(r.Spec, r.assignment.Stable.Version, &r.progress, r.wanted.Revision, r.applied)
	r.target = target(r.Spec, r.assignment.Stable.Version, &r.progress)
	return Promote, ""
}
