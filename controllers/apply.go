package controllers

import (
	"context"
	"maps"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

// decide asks the rollout.
func (r *WorkerPoolReconciler) decide(_ context.Context, p *pass) error {
	was := &p.pool.Status
	in := rollout.Input{
		Spec:    &p.pool.Spec,
		Stable:  was.Stable,
		Canary:  was.Canary,
		Applied: rollout.StoredWeight(was.Weight.Applied),
		Told:    p.memory.told,

		Now:     p.now,
		Rollout: was.Rollout,
		Blocked: was.BlockedRevision,
		Hold:    was.Hold,
		Handled: was.Handled,
		Tokens:  tokens(p.pool),

		Findings:   p.findings,
		Unrecorded: rollout.Newest(p.rollbacks, was.LastRollback, was.Handled.Retry, p.now),
	}
	for i := range p.pods {
		switch pod := &p.pods[i]; {
		case pod.Live:
			in.Pods = append(in.Pods, pod.Pod)
		case pod.Injected:
			in.Coming = append(in.Coming, pod.Pod)
		}
	}
	p.decision = rollout.Decide(in)
	p.sooner(p.decision.Again)
	return nil
}

// tokens are what the pool's annotations say.
func tokens(pool *v1alpha1.WorkerPool) v1alpha1.HandledTokens {
	return v1alpha1.HandledTokens{
		Retry:   pool.Annotations[v1alpha1.RetryAnnotation],
		Promote: pool.Annotations[v1alpha1.PromoteAnnotation],
		Abort:   pool.Annotations[v1alpha1.AbortAnnotation],
		Pause:   pool.Annotations[v1alpha1.PauseAnnotation],
		Resume:  pool.Annotations[v1alpha1.ResumeAnnotation],
	}
}

// build makes the snapshot. One that says something new is in force nowhere yet.
func (r *WorkerPoolReconciler) build(_ context.Context, p *pass) error {
	p.complete()
	s, err := snapshot.Build(snapshot.Input{
		Spec: &p.pool.Spec, Assignment: p.toTell().Assignment, Texts: p.texts, Weight: p.decision.Weight,
		TripToken: p.decision.Handled.Retry, LastRollback: p.lastRollback(),
	})
	if err != nil {
		p.problem = err.Error()
		return nil
	}
	p.snapshot = s
	if !r.Fleet.Published(p.key, s) {
		for i := range p.pods {
			p.pods[i].Acknowledged, p.pods[i].Settled, p.pods[i].Refusal = false, false, ""
		}
	}
	return nil
}

// lastRollback is the decision's, or the one that the status has.
func (p *pass) lastRollback() *v1alpha1.RollbackStatus {
	if p.decision.Rollback != nil {
		return p.decision.Rollback
	}
	return p.pool.Status.LastRollback
}

// complete adds what isn't stored of the texts in use: the spec's, and what the routers run already.
func (p *pass) complete() {
	if p.texts == nil {
		p.texts = revision.Texts{}
	}
	maps.Copy(p.texts, p.decision.Assignment.Texts(&p.pool.Spec))
	for _, hash := range p.inUse() {
		if text, told := p.memory.texts[hash]; told {
			p.texts[hash] = text
		}
	}
}

// toTell is the decision as the routers see it: a canary that isn't started isn't there.
func (p *pass) toTell() rollout.Told {
	told := rollout.Told{Assignment: p.decision.Assignment, Weight: p.decision.Weight}
	if p.decision.Idle {
		told.Assignment.Canary = nil
	}
	return told
}

// inUse are the revisions of the assignment.
func (p *pass) inUse() []string {
	hashes := []string{p.decision.Assignment.Stable.Revision}
	if c := p.decision.Assignment.Canary; c != nil {
		hashes = append(hashes, c.Revision)
	}
	return hashes
}

// publish tells the routers what the status says by now. A look whose findings went into it is a look that was made.
func (r *WorkerPoolReconciler) publish(_ context.Context, p *pass) error {
	if p.snapshot == nil || p.problem != "" {
		return nil
	}
	r.Fleet.Publish(p.key, p.snapshot)
	told := p.toTell()
	p.memory.told, p.memory.texts = &told, revision.Texts{}
	for _, hash := range p.inUse() {
		p.memory.texts[hash] = p.texts[hash]
	}
	if p.findings != nil {
		p.memory.comparison.looked(p.findings)
	}
	return nil
}

// pruneRevisions deletes the oldest.
func (r *WorkerPoolReconciler) pruneRevisions(ctx context.Context, p *pass) error {
	if p.problem != "" {
		return nil
	}
	surplus := revision.Surplus(p.pool, p.revisions, p.inUse()...)
	for i := range surplus {
		if err := client.IgnoreNotFound(r.Client.Delete(ctx, &surplus[i])); err != nil {
			return &unfinished{err}
		}
	}
	return nil
}
