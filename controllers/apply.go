package controllers

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

// decide asks the rollout.
func (r *WorkerPoolReconciler) decide(_ context.Context, p *pass) error {
	in := rollout.Input{
		Spec:    &p.pool.Spec,
		Stable:  p.pool.Status.Stable,
		Canary:  p.pool.Status.Canary,
		Applied: rollout.StoredWeight(p.pool.Status.Weight.Applied),
		Told:    p.memory.told,
	}
	for i := range p.pods {
		if p.pods[i].Live {
			in.Pods = append(in.Pods, p.pods[i].Pod)
		}
	}
	p.decision = rollout.Decide(in)
	return nil
}

// build makes the snapshot. One that says something new is in force nowhere yet.
func (r *WorkerPoolReconciler) build(_ context.Context, p *pass) error {
	for hash, text := range p.decision.Assignment.Texts(&p.pool.Spec) {
		if p.texts == nil {
			p.texts = revision.Texts{}
		}
		p.texts[hash] = text
	}
	s, err := snapshot.Build(snapshot.Input{
		Spec: &p.pool.Spec, Assignment: p.toTell().Assignment, Texts: p.texts, Weight: p.decision.Weight,
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

// publish tells the routers what the status says already.
func (r *WorkerPoolReconciler) publish(_ context.Context, p *pass) error {
	if p.snapshot == nil || p.problem != "" {
		return nil
	}
	r.Fleet.Publish(p.key, p.snapshot)
	told := p.toTell()
	p.memory.told = &told
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
			return err
		}
	}
	return nil
}
