package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// Reasons of events that aren't a decision's action.
const (
	eventRolledBack     = "RolledBack"
	eventSerialCapacity = "SerialCapacityExceeded"
)

// record records events, after the status that they speak of.
func (r *WorkerPoolReconciler) record(ctx context.Context, p *pass) error {
	if p.problem == "" {
		r.recordDecision(ctx, p)
	}
	if !p.wrote {
		return nil
	}
	was := meta.FindStatusCondition(p.before.Conditions, v1alpha1.ConditionStalled)
	is := meta.FindStatusCondition(p.pool.Status.Conditions, v1alpha1.ConditionStalled)
	if is != nil && is.Reason != eventRolledBack && (was == nil || was.Reason != is.Reason) {
		r.warn(p, is.Reason, "Hold", is.Message)
	}
	return nil
}

// recordDecision tells of what was put into practice.
func (r *WorkerPoolReconciler) recordDecision(ctx context.Context, p *pass) {
	if note, action := story(p); note != "" {
		r.normal(p, string(p.decision.Action), action, note)
	}
	r.recordNotes(p)
	r.recordRollback(ctx, p)
	if p.wrote {
		r.recordCapacity(p)
	}
}

// recordNotes tells what became of tokens, and, as a warning, what a DryRun would have done.
func (r *WorkerPoolReconciler) recordNotes(p *pass) {
	for _, note := range p.decision.Notes {
		if note.Reason == rollout.NoteWouldRollBack {
			r.warn(p, note.Reason, "Decide", note.Message)
		} else {
			r.normal(p, note.Reason, "Decide", note.Message)
		}
	}
}

func (r *WorkerPoolReconciler) normal(p *pass, reason, action, note string) {
	r.Events.Eventf(p.pool, nil, corev1.EventTypeNormal, reason, action, "%s", bounded(note))
}

func (r *WorkerPoolReconciler) warn(p *pass, reason, action, note string) {
	r.Events.Eventf(p.pool, nil, corev1.EventTypeWarning, reason, action, "%s", bounded(note))
}

// recordRollback tells of a rollback with its evidence and counts it, once: the status that was written before keeps any
// later pass, of this leader or another, from deciding it again.
func (r *WorkerPoolReconciler) recordRollback(ctx context.Context, p *pass) {
	back := p.recorded()
	if back == nil {
		return
	}
	p.memory.unrecorded = nil
	if p.memory.rolledBack.IsZero() {
		p.memory.rolledBack = p.now
	}
	r.Metrics.Rollbacks.WithLabelValues(back.Reason).Inc()
	r.warn(p, eventRolledBack, "RollBack", fmt.Sprintf("%s (%s) → %s (%s): %s", back.From, back.Revision, back.To, back.ToRevision, p.found(back)))
	about := []any{
		"from", back.From, "revision", back.Revision, "to", back.To, "toRevision", back.ToRevision,
		"weight", back.Weight, "reason", back.Reason, "evidence", back.Evidence,
	}
	if p.findings != nil {
		for i := range p.findings.Evidence {
			about = append(about, "test"+fmt.Sprint(i+1), p.findings.Evidence[i].Proof())
		}
	}
	log.FromContext(ctx).Info("Rolled back", about...)
}

// recorded is a rollback that the status has now and that wasn't told of; nil: there is none. The server may have stored it
// though its answer never came.
func (p *pass) recorded() *v1alpha1.RollbackStatus {
	if p.decision.Rollback != nil && p.wrote {
		return p.decision.Rollback
	}
	u, last := p.memory.unrecorded, p.before.LastRollback
	if u != nil && last != nil && last.Revision == u.Revision && last.Time.Equal(&u.Time) {
		return &u.RollbackStatus
	}
	return nil
}

// found is the shortest form of what a rollback rests on.
func (p *pass) found(back *v1alpha1.RollbackStatus) string {
	if p.findings != nil {
		for i := range p.findings.Evidence {
			if e := &p.findings.Evidence[i]; e.Exceeded() {
				return e.Summary()
			}
		}
	}
	if len(back.Evidence) > 0 {
		return back.Reason + ": " + back.Evidence[0]
	}
	return back.Reason
}

// recordCapacity warns once for each canary, before it is promoted: afterwards there is no v1 to go back to.
func (r *WorkerPoolReconciler) recordCapacity(p *pass) {
	c, canary := p.pool.Status.SerialCapacity, p.decision.Assignment.Canary
	if c == nil || !c.Exceeded || canary == nil || p.memory.warned == canary.Revision {
		return
	}
	p.memory.warned = canary.Revision
	r.warn(p, eventSerialCapacity, "Measure", fmt.Sprintf(
		"%s could serve %s requests/s alone, one at a time in each pod, and the load is %s: a rollback would still happen, and what is over would be refused (queue_full). Add pods before the promotion, or make requests shorter",
		name(&p.decision.Assignment.Stable), c.RequestsPerSecond, c.Load))
}

func name(r *v1alpha1.SlotRevision) string {
	if r == nil {
		return "the canary"
	}
	return fmt.Sprintf("%s (%s)", r.Version, r.Revision)
}

// story tells what a decision newly did, and the action as events name it.
func story(p *pass) (note, action string) {
	d := &p.decision
	switch d.Action {
	case rollout.StableSet:
		return fmt.Sprintf("%s is the stable revision", name(&d.Assignment.Stable)), "SetStable"
	case rollout.CanaryStarted:
		return fmt.Sprintf("%s is started beside %s", name(d.Assignment.Canary), name(&d.Assignment.Stable)), "StartCanary"
	case rollout.WeightChanged:
		return fmt.Sprintf("%s: %s → %s %%", name(d.Assignment.Canary), d.Applied, d.Weight), "SetWeight"
	case rollout.CanaryDropped:
		return p.dropped(), "DropCanary"
	case rollout.Promotion:
		return fmt.Sprintf("%s is the stable revision in every pod", name(&d.Assignment.Stable)), "Promote"
	case rollout.StepAdvanced:
		return p.step(), "Advance"
	case rollout.Pause:
		return "held where it is", "Pause"
	case rollout.Resume:
		return "goes on", "Resume"
	case rollout.Retry:
		return name(d.Assignment.Canary) + " is tried again, from zero", "Retry"
	case rollout.Promote:
		return fmt.Sprintf("%s is promoted, as was asked for; what is left of the canary is skipped", name(d.Assignment.Canary)), "Promote"
	case rollout.Rollback, rollout.Abort, rollout.Holding, rollout.None: // told with their evidence, or nothing to tell
	}
	return "", ""
}

// dropped tells that a canary is gone, and after a rollback how long that took.
func (p *pass) dropped() string {
	text := name(&p.decision.Assignment.Stable) + " serves alone; the canary's slot is idle"
	if decided := p.memory.rolledBack; !decided.IsZero() && p.decision.State == rollout.RolledBack {
		text += fmt.Sprintf("; every connected pod had it at weight 0 %.1f s after the rollback was decided", p.now.Sub(decided).Seconds())
	}
	p.memory.rolledBack = time.Time{}
	return text
}

// step tells where a canary came to.
func (p *pass) step() string {
	is := p.decision.Rollout
	if is == nil || is.Promoting {
		return name(p.decision.Assignment.Canary) + ": all steps are done, the rest of the requests follows"
	}
	return fmt.Sprintf("%s: step %d of %d, %s %%", name(p.decision.Assignment.Canary), is.Step, is.Steps, p.decision.Weight)
}

// maxNote is what the events API takes.
const maxNote = 1024

func bounded(s string) string {
	if len(s) <= maxNote {
		return s
	}
	return strings.ToValidUTF8(s[:maxNote-len("…")], "") + "…"
}
