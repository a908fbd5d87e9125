package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// How often a pool is looked at for its figures when nothing else asks for it.
const (
	lookAtCanary = 30 * time.Second
	lookAtStable = 5 * time.Minute
)

// report writes the status where it is due: before the routers hear of what it says, so that whoever leads next knows
// of it. The optimistic lock makes a pass that was based on an old status end here.
func (r *WorkerPoolReconciler) report(ctx context.Context, p *pass) error {
	next := status.Of(status.Input{
		Pool: p.pool, Decision: p.decision, Pods: p.pods, Figures: p.figures, Problem: p.problem, Now: p.now,
	})
	p.lookAgain(&next)
	if p.settling(&next) {
		p.sooner(joinGrace)
		return nil
	}
	write, again := status.Due(&p.before, &next, p.now.Sub(p.memory.wrote))
	if !write {
		p.sooner(again)
		return nil
	}
	base := p.pool.DeepCopy()
	p.pool.Status = next
	if err := r.Client.Status().Patch(ctx, p.pool, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	p.memory.written, p.memory.wrote, p.wrote = p.pool.ResourceVersion, p.now, true
	return nil
}

// settling tells whether a new leader, to which not all routers have found yet, would only report that: nothing has
// changed for anyone, and the conditions stay as they were.
func (p *pass) settling(next *v1alpha1.WorkerPoolStatus) bool {
	if p.memory.settled || p.problem != "" || p.before.ObservedGeneration != p.pool.Generation {
		return false
	}
	p.memory.settled = p.now.Sub(p.led) >= joinGrace || p.allKnown()
	return !p.memory.settled && sameRoles(&p.before, next)
}

// allKnown tells whether every live pod has found to this leader and told how it is.
func (p *pass) allKnown() bool {
	return !slices.ContainsFunc(p.pods, func(pod status.Pod) bool {
		return pod.Live && (!pod.Connected || !pod.Acknowledged || len(pod.Slots) == 0)
	})
}

func sameRoles(a, b *v1alpha1.WorkerPoolStatus) bool {
	same := func(a, b *v1alpha1.SlotRevision) bool {
		return (a == nil) == (b == nil) && (a == nil || *a == *b)
	}
	return same(a.Stable, b.Stable) && same(a.Canary, b.Canary) && a.Weight.Applied == b.Weight.Applied
}

// lookAgain plans the next pass for what no event announces: figures, and pods whose time to join runs out.
func (p *pass) lookAgain(next *v1alpha1.WorkerPoolStatus) {
	p.sooner(lookAtStable)
	if next.Canary != nil || len(next.Versions) > 0 {
		p.sooner(lookAtCanary)
	}
	for i := range p.pods {
		if p.pods[i].Joining {
			p.sooner(joinGrace)
		}
	}
}

// sooner plans the next pass after d, unless it is planned for earlier. 0 plans nothing.
func (p *pass) sooner(d time.Duration) {
	if d > 0 && (p.again == 0 || d < p.again) {
		p.again = d
	}
}

// record records events, after the status that they speak of.
func (r *WorkerPoolReconciler) record(_ context.Context, p *pass) error {
	if note, action := story(p); note != "" && p.problem == "" {
		r.Events.Eventf(p.pool, nil, corev1.EventTypeNormal, string(p.decision.Action), action, "%s", note)
	}
	if !p.wrote {
		return nil
	}
	was := meta.FindStatusCondition(p.before.Conditions, v1alpha1.ConditionStalled)
	is := meta.FindStatusCondition(p.pool.Status.Conditions, v1alpha1.ConditionStalled)
	if is != nil && (was == nil || was.Reason != is.Reason) {
		r.Events.Eventf(p.pool, nil, corev1.EventTypeWarning, is.Reason, "Hold", "%s", bounded(is.Message))
	}
	return nil
}

// story tells what a decision newly did, and the action as events name it.
func story(p *pass) (note, action string) {
	d := &p.decision
	name := func(r *v1alpha1.SlotRevision) string { return fmt.Sprintf("%s (%s)", r.Version, r.Revision) }
	switch d.Action {
	case rollout.StableSet:
		return fmt.Sprintf("%s is the stable revision", name(&d.Assignment.Stable)), "SetStable"
	case rollout.CanaryStarted:
		return fmt.Sprintf("%s is started beside %s", name(d.Assignment.Canary), name(&d.Assignment.Stable)), "StartCanary"
	case rollout.WeightChanged:
		return fmt.Sprintf("%s: %s → %s %%", name(d.Assignment.Canary), d.Applied, d.Weight), "SetWeight"
	case rollout.CanaryDropped:
		return fmt.Sprintf("%s serves alone; the spec no longer wants the canary", name(&d.Assignment.Stable)), "DropCanary"
	case rollout.Promotion:
		return fmt.Sprintf("%s is the stable revision in every pod", name(&d.Assignment.Stable)), "Promote"
	case rollout.None:
	}
	return "", ""
}

// maxNote is what the events API takes.
const maxNote = 1024

func bounded(s string) string {
	if len(s) <= maxNote {
		return s
	}
	return strings.ToValidUTF8(s[:maxNote-len("…")], "") + "…"
}
