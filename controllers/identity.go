package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
)

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create

// What the API server says of a token that is bound to a pod.
const (
	serviceAccountPrefix = "system:serviceaccount:"
	podNameExtra         = "authentication.kubernetes.io/pod-name"
	podUIDExtra          = "authentication.kubernetes.io/pod-uid"
)

// TokenReviewer asks the API server.
type TokenReviewer struct{ Client client.Client }

// Review implements control.Reviewer.
func (t TokenReviewer) Review(ctx context.Context, token string) (control.Caller, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{
		Token: token, Audiences: []string{control.Audience},
	}}
	if err := t.Client.Create(ctx, review); err != nil {
		return control.Caller{}, err
	}
	return callerOf(&review.Status)
}

// callerOf reads the pod out of a review. The server's own error text isn't passed on: it goes to whoever asked.
func callerOf(s *authenticationv1.TokenReviewStatus) (control.Caller, error) {
	refuse := func(why string) (control.Caller, error) {
		return control.Caller{}, fmt.Errorf("%w: %s", control.ErrTokenRefused, why)
	}
	switch {
	case !s.Authenticated:
		return refuse("it is expired, or not one of this cluster's")
	case !slices.Contains(s.Audiences, control.Audience):
		return refuse("it is for another audience")
	}
	account, isAccount := strings.CutPrefix(s.User.Username, serviceAccountPrefix)
	namespace, _, named := strings.Cut(account, ":")
	pod, uid := s.User.Extra[podNameExtra], s.User.Extra[podUIDExtra]
	if !isAccount || !named || len(pod) != 1 || len(uid) != 1 {
		return refuse("it isn't bound to a pod")
	}
	return control.Caller{Namespace: namespace, Pod: pod[0], PodUID: types.UID(uid[0])}, nil
}

// Directory looks pods and pools up in the cache, and asks the API server when what is there doesn't do: a pod connects
// within moments of its creation.
type Directory struct{ Cached, Live client.Reader }

// Pod implements control.Directory.
func (d Directory) Pod(ctx context.Context, name types.NamespacedName, uid types.UID) (control.PodIdentity, error) {
	var cached, live corev1.Pod
	err := d.Cached.Get(ctx, name, &cached)
	if id := identityOf(&cached); err == nil && id.UID == uid && id.PoolUID != "" {
		return id, nil
	}
	err = d.Live.Get(ctx, name, &live)
	return identityOf(&live), lookup(err)
}

func identityOf(pod *corev1.Pod) control.PodIdentity {
	return control.PodIdentity{
		UID:     pod.UID,
		Pool:    pod.Labels[v1alpha1.PoolLabel],
		PoolUID: types.UID(pod.Annotations[v1alpha1.InjectedAnnotation]),
	}
}

// PoolUID implements control.Directory.
func (d Directory) PoolUID(ctx context.Context, name types.NamespacedName) (types.UID, error) {
	var pool v1alpha1.WorkerPool
	err := d.Cached.Get(ctx, name, &pool)
	if apierrors.IsNotFound(err) {
		err = d.Live.Get(ctx, name, &pool)
	}
	return pool.UID, lookup(err)
}

// lookup marks the absence of an object as control knows it.
func lookup(err error) error {
	if apierrors.IsNotFound(err) {
		return errors.Join(control.ErrNotFound, err)
	}
	return err
}
