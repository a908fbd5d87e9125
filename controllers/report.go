package controllers

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/status"
)

// How often a pool is looked at for its figures when nothing else asks for it.
const (
	lookAtCanary = 30 * time.Second
	lookAtStable = 5 * time.Minute
)

// report writes the status where it is due: before the routers hear of what it says beyond less for a canary, so that the next
// leader knows of it. The optimistic lock makes a pass that was based on an old status end here.
func (r *WorkerPoolReconciler) report(ctx context.Context, p *pass) error {
	next := status.Of(status.Input{
		Pool: p.pool, Decision: p.decision, Pods: p.pods, Leaving: p.leaving, Uncreated: p.uncreated, Unlisted: p.unlisted,
		Figures: p.figures, Looks: p.looks(),
		Problem: p.problem, Now: p.now,
	})
	p.lookAgain(&next)
	if p.settling(&next) {
		p.sooner(joinGrace)
		return nil
	}
	write, again := status.Due(&p.before, &next, p.now.Sub(p.memory.record.at))
	if !write {
		p.sooner(again)
		return nil
	}
	base := p.pool.DeepCopy()
	p.pool.Status = next
	if err := r.Client.Status().Patch(ctx, p.pool, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	p.memory.record.written, p.memory.record.at, p.wrote = p.pool.DeepCopy(), p.now, true
	return nil
}

// settling tells whether a new leader, to which not all routers have found yet, would only report that: nothing has
// changed for anyone, and the conditions stay as they were.
func (p *pass) settling(next *v1alpha1.WorkerPoolStatus) bool {
	if p.memory.record.settled || p.problem != "" || p.before.ObservedGeneration != p.pool.Generation {
		return false
	}
	p.memory.record.settled = p.now.Sub(p.led) >= joinGrace || p.allKnown()
	return !p.memory.record.settled && sameRoles(&p.before, next)
}

// allKnown tells whether every live pod has found to this leader and told how it is.
func (p *pass) allKnown() bool {
	return !slices.ContainsFunc(p.pods, func(pod status.Pod) bool {
		return pod.Live && (!pod.Connected || !pod.Acknowledged || len(pod.Slots) == 0)
	})
}

// sameRoles tells whether what was decided is the same in both: only then can the status wait.
func sameRoles(a, b *v1alpha1.WorkerPoolStatus) bool {
	decided := func(s *v1alpha1.WorkerPoolStatus) []any {
		return []any{s.Stable, s.Canary, s.Weight.Applied, s.Rollout, s.BlockedRevision, s.LastRollback, s.Hold, s.Handled}
	}
	return equality.Semantic.DeepEqual(decided(a), decided(b))
}

// lookAgain plans the next pass for what no event announces: figures, and pods whose time to join runs out.
func (p *pass) lookAgain(next *v1alpha1.WorkerPoolStatus) {
	p.sooner(lookAtStable)
	if next.Canary != nil || len(next.Versions) > 0 || len(p.pods) == 0 { // no event tells of pods that can't be created
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
