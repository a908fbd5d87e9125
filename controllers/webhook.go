package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/inject"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

// InjectionPath is where the webhook serves; config/webhook names it too.
const InjectionPath = "/inject"

// namedPools is how many pools a refusal lists.
const namedPools = 10

// Injector puts the sidecars into pods that bear the pool's label. Every replica serves it, not only the leader.
type Injector struct {
	// Cached reads what the informers know; Live asks the API server itself. A pod may well be created in the same
	// second as its pool, so nothing is refused before a live read.
	Cached, Live client.Reader
	Settings     inject.Settings
	decoder      admission.Decoder
}

// +kubebuilder:rbac:groups=pool.dspex.dev,resources=workerpools,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=controllerrevisions,verbs=get;list;watch

// SetupWithManager registers the webhook with the manager's server.
func (i *Injector) SetupWithManager(mgr ctrl.Manager) error {
	if i.Settings.OperatorImage == "" || i.Settings.WorkerImage == "" || i.Settings.ControlAddress == "" {
		return errors.New("injection needs the operator's image, the worker image and the control address; set all three flags")
	}
	i.decoder = admission.NewDecoder(mgr.GetScheme())
	mgr.GetWebhookServer().Register(InjectionPath, &admission.Webhook{Handler: i})
	return nil
}

// Handle answers one admission request.
func (i *Injector) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create || req.Resource.Resource != "pods" || req.SubResource != "" {
		return admission.Allowed("")
	}
	pod := &corev1.Pod{}
	if err := i.decoder.Decode(req, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	name, labelled := pod.Labels[v1alpha1.PoolLabel]
	if !labelled {
		return admission.Allowed("")
	}
	patched, warnings, err := i.inject(ctx, pod, types.NamespacedName{Namespace: req.Namespace, Name: name})
	if refused := new(refusal); errors.As(err, &refused) {
		return admission.Denied(refused.Error())
	}
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	// Never the difference to the request's own text: that has what a newer API server knows and this program doesn't.
	operations, err := inject.Patch(pod, patched)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.Patched("", operations...).WithWarnings(warnings...)
}

// refusal is a pod's own fault, as against a failure of ours.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func (i *Injector) inject(ctx context.Context, pod *corev1.Pod, key types.NamespacedName) (*corev1.Pod, []string, error) {
	pool, err := i.pool(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	bootstrap, workers, err := i.bootstrap(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	patched, warnings, err := inject.Pod(pod, inject.Input{Pool: pool, Bootstrap: bootstrap, Workers: workers, Settings: i.Settings})
	if err != nil {
		return nil, nil, &refusal{err.Error()}
	}
	return patched, warnings, nil
}

// pool finds the pool that the label names, or refuses with the names that exist.
func (i *Injector) pool(ctx context.Context, key types.NamespacedName) (*v1alpha1.WorkerPool, error) {
	if problems := validation.IsDNS1123Subdomain(key.Name); len(problems) > 0 { // admission comes before validation
		there, err := i.poolNames(ctx, key.Namespace)
		if err != nil {
			return nil, err
		}
		return nil, &refusal{fmt.Sprintf("pod label %s is %q, which is no WorkerPool's name; name one of namespace %q (there is: %s), or remove the label.",
			v1alpha1.PoolLabel, key.Name, key.Namespace, there)}
	}
	pool := &v1alpha1.WorkerPool{}
	err := i.Cached.Get(ctx, key, pool)
	if apierrors.IsNotFound(err) {
		err = i.Live.Get(ctx, key, pool)
	}
	switch {
	case err == nil:
		return pool, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading WorkerPool %q: %w", key.Name, err)
	}
	there, err := i.poolNames(ctx, key.Namespace)
	if err != nil {
		return nil, err
	}
	return nil, &refusal{fmt.Sprintf("pod label %s names WorkerPool %q, which doesn't exist in namespace %q (there is: %s). Create it, or correct the label.",
		v1alpha1.PoolLabel, key.Name, key.Namespace, there)}
}

// poolNames lists the pools of a namespace as a refusal shows them; live, as one that was made just now may be the one
// that was meant.
func (i *Injector) poolNames(ctx context.Context, namespace string) (string, error) {
	var pools v1alpha1.WorkerPoolList
	if err := i.Live.List(ctx, &pools, client.InNamespace(namespace)); err != nil {
		return "", fmt.Errorf("listing the WorkerPools of namespace %q: %w", namespace, err)
	}
	var names []string
	for _, p := range pools.Items {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	switch n := len(names); {
	case n == 0:
		return "none", nil
	case n > namedPools:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namedPools], ", "), n-namedPools), nil
	}
	return strings.Join(names, ", "), nil
}

// bootstrap is what the pod starts from when no operator answers: the pool's present assignment, with the weight that
// all live pods have acknowledged, or less where the spec allows less. Epoch 0 lets any leader's snapshot supersede it.
// Beside it are the workers of its slots.
func (i *Injector) bootstrap(ctx context.Context, pool *v1alpha1.WorkerPool) (*controlpb.Snapshot, map[string]revision.Worker, error) {
	assignment := rollout.Current(pool)
	texts, err := i.texts(ctx, i.Cached, pool, assignment)
	if err != nil {
		return nil, nil, err
	}
	in := snapshot.Input{
		Spec: &pool.Spec, Assignment: assignment, Texts: texts,
		Weight: rollout.CurrentWeight(pool), TripToken: pool.Status.Handled.Retry,
	}
	built, err := snapshot.Build(in)
	if err == nil {
		return built, workersOf(pool, in), nil
	}
	// The status may be ahead of the cache of revisions.
	if in.Texts, err = i.texts(ctx, i.Live, pool, assignment); err != nil {
		return nil, nil, err
	}
	built, err = snapshot.Build(in)
	return built, workersOf(pool, in), err
}

// workersOf are the workers that the slots of a pod are made for: those of its bootstrap, and in an idle slot what comes
// next.
func workersOf(pool *v1alpha1.WorkerPool, in snapshot.Input) map[string]revision.Worker {
	workers := map[string]revision.Worker{}
	for slot := range inject.SlotContainers {
		if placed := in.Assignment.In(slot); placed != nil {
			workers[slot] = in.Texts[placed.Revision].Worker
		} else if next := rollout.Next(pool); next != nil {
			workers[slot] = next.Worker
		}
	}
	return workers
}

// texts are the stored revisions of the pool, and those of its spec, which may not be stored yet.
func (i *Injector) texts(ctx context.Context, from client.Reader, pool *v1alpha1.WorkerPool, assignment rollout.Assignment) (revision.Texts, error) {
	var stored appsv1.ControllerRevisionList
	err := from.List(ctx, &stored, client.InNamespace(pool.Namespace), client.MatchingLabels{
		v1alpha1.PoolLabel: pool.Name, v1alpha1.ManagedByLabel: v1alpha1.ManagedBy,
	})
	if err != nil {
		return nil, fmt.Errorf("listing the revisions of WorkerPool %q: %w", pool.Name, err)
	}
	texts, err := revision.Read(pool, stored.Items)
	if err != nil {
		return nil, err
	}
	for hash, text := range assignment.Texts(&pool.Spec) {
		texts[hash] = text
	}
	return texts, nil
}
