package controllers

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/inject"
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

// storeRevisions stores the texts of the assignment's revisions, before anything is said about them.
func (r *WorkerPoolReconciler) storeRevisions(ctx context.Context, p *pass) error {
	if p.problem != "" {
		return nil
	}
	for _, hash := range p.inUse() {
		if err := r.storeRevision(ctx, p, p.texts[hash]); err != nil {
			return err
		}
	}
	return nil
}

// inUse are the revisions of the assignment.
func (p *pass) inUse() []string {
	hashes := []string{p.decision.Assignment.Stable.Revision}
	if c := p.decision.Assignment.Canary; c != nil {
		hashes = append(hashes, c.Revision)
	}
	return hashes
}

// storeRevision creates a ControllerRevision, or makes one that comes back into use the newest.
func (r *WorkerPoolReconciler) storeRevision(ctx context.Context, p *pass, text revision.Text) error {
	newest := int64(0)
	for i := range p.revisions {
		newest = max(newest, p.revisions[i].Revision)
	}
	name := revision.ObjectName(p.pool.Name, text.Hash())
	i := slices.IndexFunc(p.revisions, func(o appsv1.ControllerRevision) bool { return o.Name == name })
	if i < 0 {
		object := revision.Object(p.pool, text, newest+1)
		err := r.Client.Create(ctx, object)
		if apierrors.IsAlreadyExists(err) {
			return r.foreign(ctx, p, object, err)
		}
		p.revisions = append(p.revisions, *object)
		return err
	}
	if o := &p.revisions[i]; o.Revision < newest && p.decision.Action == rollout.CanaryStarted && p.decision.Assignment.Canary.Revision == text.Hash() {
		o.Revision = newest + 1
		return r.Client.Update(ctx, o)
	}
	return nil
}

// foreign explains an object that exists though the cache doesn't have it: the cache is behind, or it isn't the pool's.
func (r *WorkerPoolReconciler) foreign(ctx context.Context, p *pass, object client.Object, exists error) error {
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(object), object)
	switch {
	case apierrors.IsNotFound(err), err == nil && metav1.IsControlledBy(object, p.pool):
		return errAgain
	case err != nil:
		return err
	}
	return fmt.Errorf("%w, and it isn't pool %s's: delete it, unless it belongs to a pool of that name that is being deleted", exists, p.key)
}

// storeBundle keeps the ConfigMap from which the pool's pods get the CA that they trust.
func (r *WorkerPoolReconciler) storeBundle(ctx context.Context, p *pass) error {
	bundle := r.Trust.Bundle()
	if len(bundle) == 0 {
		return nil // the first one wakes all pools
	}
	wanted := bundleMap(p.pool, bundle)
	var found corev1.ConfigMap
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(wanted), &found)
	switch {
	case apierrors.IsNotFound(err):
		err = r.Client.Create(ctx, wanted)
		if apierrors.IsAlreadyExists(err) {
			return r.foreign(ctx, p, wanted, err)
		}
		return err
	case err != nil:
		return err
	case !metav1.IsControlledBy(&found, p.pool):
		return r.foreign(ctx, p, &found, apierrors.NewAlreadyExists(corev1.Resource("configmaps"), found.Name))
	case found.Data[inject.CAKey] == wanted.Data[inject.CAKey]:
		return nil
	}
	found.Data = wanted.Data
	return r.Client.Update(ctx, &found)
}

func bundleMap(pool *v1alpha1.WorkerPool, bundle []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:      inject.CAConfigMap(pool.Name),
			Namespace: pool.Namespace,
			Labels: map[string]string{
				v1alpha1.ManagedByLabel: v1alpha1.ManagedBy,
				v1alpha1.PoolLabel:      pool.Name,
			},
			OwnerReferences: []metav1.OwnerReference{revision.OwnedBy(pool)},
		},
		Data: map[string]string{inject.CAKey: string(bytes.TrimSpace(bundle)) + "\n"},
	}
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
