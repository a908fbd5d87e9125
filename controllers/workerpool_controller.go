// Package controllers is the operator's only contact with Kubernetes: it reads pools and pods, asks the packages that
// decide, and writes what they decided. observe → analyse → decide → build → lower → report → apply.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
)

// +kubebuilder:rbac:groups=pool.dspex.dev,resources=workerpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=pool.dspex.dev,resources=workerpools/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;update
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// coalesce is for how long changes in a pool's fleet are gathered into one pass.
const coalesce = 100 * time.Millisecond

// WorkerPoolReconciler brings pools to what their specs say.
type WorkerPoolReconciler struct {
	Client client.Client
	// Live reads past the cache.
	Live   client.Reader
	Fleet  *control.Fleet
	Events events.EventRecorder
	Clock  func() time.Time
	// WorkerImage is what a slot runs whose revision names no image.
	WorkerImage string
	// Metrics count what was decided.
	Metrics *Metrics
	// Trust is what routers must trust to talk to this operator.
	Trust Trust
	// Wake asks for a pass over a pool. It doesn't block.
	Wake func(types.NamespacedName)

	memories memories
	hanging  atomic.Bool   // the API server took longer lately than a pass waits
	patience time.Duration // how long it waits; 0: keepPatience
}

// Trust holds the CA bundle for the routers.
type Trust interface {
	// Bundle in PEM; empty before there is one.
	Bundle() []byte
}

// errAgain ends a pass early because what it would be based on is known to be outdated.
var errAgain = errors.New("the cache is behind")

// phase is a part of a pass.
type phase struct {
	name string
	run  func(*WorkerPoolReconciler, context.Context, *pass) error
}

// The phases in their order. Those that store ask the API server, which may not answer: what lowers a weight comes before
// them, what raises one after them.
var (
	deciding = []phase{
		{"find the pool", (*WorkerPoolReconciler).find},
		{"observe its revisions", (*WorkerPoolReconciler).observeRevisions},
		{"observe its pods", (*WorkerPoolReconciler).observePods},
		{"analyse", (*WorkerPoolReconciler).analyse},
		{"decide", (*WorkerPoolReconciler).decide},
		{"build the snapshot", (*WorkerPoolReconciler).build},
		{"take traffic off", (*WorkerPoolReconciler).lower},
	}
	storing = []phase{
		{"store revisions", (*WorkerPoolReconciler).storeRevisions},
		{"store the CA bundle", (*WorkerPoolReconciler).keepBundle},
		{"find pods that can't be created", (*WorkerPoolReconciler).findUncreated},
		{"report", (*WorkerPoolReconciler).report},
		{"prune revisions", (*WorkerPoolReconciler).pruneRevisions},
	}
	telling = []phase{
		{"tell the routers", (*WorkerPoolReconciler).publish},
		{"record events", (*WorkerPoolReconciler).record},
	}
)

// Reconcile takes a pool through its phases.
func (r *WorkerPoolReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	epoch, led := r.Fleet.Leading()
	if epoch == 0 {
		return reconcile.Result{RequeueAfter: coalesce}, nil
	}
	p := &pass{key: request.NamespacedName, now: r.Clock(), led: led}
	if failed, err, _ := r.walk(ctx, p, deciding); err != nil {
		return r.ended(ctx, failed, err)
	}
	if p.done {
		return reconcile.Result{RequeueAfter: p.again}, nil
	}
	again := p.soonest()
	stored, b := r.keep(ctx, p)
	switch {
	case b == nil: // p is the books'; they wake the pool when they are done
		return reconcile.Result{RequeueAfter: again}, nil
	case !stored:
		return r.unstored(ctx, b, again)
	}
	_, err, _ := r.walk(ctx, p, telling)
	return r.finished(ctx, p, errors.Join(b.late, err))
}

// walk runs phases until one fails, or ends the pass. late is of what the pass could do without.
func (r *WorkerPoolReconciler) walk(ctx context.Context, p *pass, phases []phase) (failed string, _, late error) {
	for _, phase := range phases {
		err := phase.run(r, ctx, p)
		switch {
		case errors.As(err, new(*unfinished)):
			late = errors.Join(late, fmt.Errorf("%s: %w", phase.name, err))
		case err != nil:
			return phase.name, err, late
		}
		if p.done {
			break
		}
	}
	return "", nil, late
}

// untilStored is after how long a rollback that couldn't be recorded is tried to be recorded again.
const untilStored = time.Second

// soonest is when there is a next pass whatever becomes of what this one has stored.
func (p *pass) soonest() time.Duration {
	if p.decision.Rollback != nil {
		p.sooner(untilStored)
	}
	return p.again
}

// unstored plans the next pass after what couldn't be stored: ever later, unless time matters to the decision. A canary that is
// looked at goes on being looked at, and a rollback is recorded as soon as it can be.
func (r *WorkerPoolReconciler) unstored(ctx context.Context, b *books, again time.Duration) (reconcile.Result, error) {
	if b.pass.decision.Again == 0 && b.pass.decision.Rollback == nil {
		return r.ended(ctx, b.failed, b.err)
	}
	result, err := r.ended(ctx, b.failed, b.err)
	if err != nil {
		b.pass.memory.leave(b.pass.findings)
		log.FromContext(ctx).Error(err, "What was decided couldn't be stored; trying again with the next look at the canary")
		return reconcile.Result{RequeueAfter: again}, nil
	}
	return result, nil
}

// finished plans the next pass. What was left out is tried again ever more slowly, unless time matters to the decision:
// a canary that is looked at goes on being looked at.
func (r *WorkerPoolReconciler) finished(ctx context.Context, p *pass, late error) (reconcile.Result, error) {
	if late != nil && p.decision.Again == 0 {
		return r.ended(ctx, "what was left out", late)
	}
	if late != nil {
		log.FromContext(ctx).Error(late, "A part of the pass was left out; it is tried again with the next look at the canary")
	}
	return reconcile.Result{RequeueAfter: p.again}, nil
}

// ended tells an error of a phase from the ordinary course of things.
func (r *WorkerPoolReconciler) ended(ctx context.Context, phase string, err error) (reconcile.Result, error) {
	if errors.Is(err, errAgain) || apierrors.IsConflict(err) {
		log.FromContext(ctx).V(1).Info("Starting over", "phase", phase, "reason", err.Error())
		return reconcile.Result{RequeueAfter: coalesce}, nil
	}
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return reconcile.Result{}, nil // the pool goes with its namespace
	}
	return reconcile.Result{}, fmt.Errorf("%s: %w", phase, err)
}

// SetupWithManager registers the reconciler. wakeups is where the fleet's changes come from.
func (r *WorkerPoolReconciler) SetupWithManager(mgr ctrl.Manager, wakeups *Wakeups) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.WorkerPool{}).
		Owns(&appsv1.ControllerRevision{}).
		Owns(&corev1.ConfigMap{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(poolOfPod)).
		WatchesRawSource(source.Func(wakeups.start)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4, RateLimiter: retries()}).
		Complete(r)
}

// retries backs off from 200 ms to a minute after errors of one pool.
func retries() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](200*time.Millisecond, time.Minute)
}

// poolOfPod names the pool that a pod's label does.
func poolOfPod(_ context.Context, pod client.Object) []reconcile.Request {
	name := pod.GetLabels()[v1alpha1.PoolLabel]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: name}}}
}
