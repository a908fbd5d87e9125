package controllers

import (
	"bytes"
	"context"
	"errors"
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
)

// unfinished is a phase's failure that doesn't keep the pass from going on. It is returned at the end, for the retry.
type unfinished struct{ error }

func (u *unfinished) Unwrap() error { return u.error }

// taken is an object whose name the pool needs and that isn't the pool's.
type taken struct {
	object client.Object
	pool   string
}

func (t *taken) Error() string {
	return fmt.Sprintf("%s exists and isn't pool %s's: delete it, unless it belongs to a pool of that name that is being deleted",
		t.object.GetName(), t.pool)
}

// needsHelp tells of a failed write that fails again until someone changes something: rights, a quota, an admission
// policy, an object of the same name.
func needsHelp(err error) bool {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return false
	}
	return errors.As(err, new(*taken)) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// storeRevisions stores the texts of the assignment's revisions, before anything is said about them. Where that needs
// help the routers are told nothing new, and the status says why.
func (r *WorkerPoolReconciler) storeRevisions(ctx context.Context, p *pass) error {
	if p.problem != "" {
		return nil
	}
	for _, hash := range p.inUse() {
		err := r.storeRevision(ctx, p, p.texts[hash])
		if needsHelp(err) {
			p.problem = fmt.Sprintf("ControllerRevision %s can't be stored: %v", revision.ObjectName(p.key.Name, hash), err)
			if !errors.As(err, new(*taken)) {
				p.problem += fmt.Sprintf("; let the operator create and update controllerrevisions in namespace %s (rights, quotas, admission policies)", p.key.Namespace)
			}
			return &unfinished{err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeRevision creates a ControllerRevision, or makes one that comes back into use the newest.
func (r *WorkerPoolReconciler) storeRevision(ctx context.Context, p *pass, text revision.Text) error {
	newest := int64(0)
	for i := range p.revisions {
		newest = max(newest, p.revisions[i].Revision)
	}
	object := revision.Object(p.pool, text, newest+1)
	i := slices.IndexFunc(p.revisions, func(o appsv1.ControllerRevision) bool { return o.Name == object.Name })
	if i < 0 {
		err := r.Client.Create(ctx, object)
		if apierrors.IsAlreadyExists(err) {
			return r.claim(ctx, p, object)
		}
		if err == nil {
			p.revisions = append(p.revisions, *object)
		}
		return err
	}
	o := &p.revisions[i]
	if !metav1.IsControlledBy(o, p.pool) {
		return r.claim(ctx, p, object)
	}
	if o.Revision < newest && p.decision.Action == rollout.CanaryStarted && p.decision.Assignment.Canary.Revision == text.Hash() {
		o.Revision = newest + 1
		return r.Client.Update(ctx, o)
	}
	return nil
}

// claim looks past the cache at an object that exists though the cache doesn't know it as the pool's. Either the cache
// is behind; or the object lost the labels by which it gets into the cache; or it lost its owner, as it does when a pool
// is deleted without its dependents and made again; or it isn't the pool's at all.
func (r *WorkerPoolReconciler) claim(ctx context.Context, p *pass, wanted client.Object) error {
	found, ok := wanted.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object of an API server", wanted)
	}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(wanted), found)
	owned := metav1.IsControlledBy(found, p.pool)
	switch {
	case apierrors.IsNotFound(err):
		return errAgain
	case err != nil:
		return err
	case !owned && (metav1.GetControllerOf(found) != nil || !madeAs(found, wanted)):
		return &taken{found, p.key.String()}
	case owned && labelled(found, wanted):
		return errAgain
	}
	labels := found.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for name, value := range wanted.GetLabels() {
		labels[name] = value
	}
	found.SetLabels(labels)
	if !owned {
		found.SetOwnerReferences(append(found.GetOwnerReferences(), wanted.GetOwnerReferences()...))
	}
	if err := r.Client.Update(ctx, found); err != nil {
		return err
	}
	return errAgain
}

// madeAs tells whether an object without an owner is what this operator made for a pool of that name: a revision has
// the very text; the bundle, which changes with the CA, has the labels.
func madeAs(found, wanted client.Object) bool {
	theirs, isRevision := found.(*appsv1.ControllerRevision)
	if !isRevision {
		return labelled(found, wanted)
	}
	ours, ok := wanted.(*appsv1.ControllerRevision)
	if !ok {
		return false
	}
	text, err := revision.Parse(theirs.Data.Raw)
	return err == nil && bytes.Equal(text.Canonical(), ours.Data.Raw)
}

// labelled tells whether an object has all labels that are wanted.
func labelled(found, wanted client.Object) bool {
	labels := found.GetLabels()
	for name, value := range wanted.GetLabels() {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// keepBundle stores the CA bundle. New pods need it, and those that run have it: that it can't be written is told in an
// event, and keeps neither the status nor the routers from what there is to say.
func (r *WorkerPoolReconciler) keepBundle(ctx context.Context, p *pass) error {
	err := r.storeBundle(ctx, p)
	if err == nil {
		return nil
	}
	if needsHelp(err) {
		r.Events.Eventf(p.pool, nil, corev1.EventTypeWarning, "BundleNotStored", "StoreBundle", "%s", bounded(fmt.Sprintf(
			"ConfigMap %s, without which new pods don't start, can't be stored: %v", inject.CAConfigMap(p.key.Name), err)))
	}
	return &unfinished{err}
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
			return r.claim(ctx, p, wanted)
		}
		return err
	case err != nil:
		return err
	case !metav1.IsControlledBy(&found, p.pool) || !labelled(&found, wanted):
		return r.claim(ctx, p, wanted)
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
