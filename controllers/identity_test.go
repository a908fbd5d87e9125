package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
)

func TestO46_WhoATokenSpeaksFor(t *testing.T) {
	reviewed := func(change func(*authenticationv1.TokenReviewStatus)) *authenticationv1.TokenReviewStatus {
		s := &authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"pool.dspex.dev"},
			User: authenticationv1.UserInfo{
				Username: "system:serviceaccount:shop:default",
				Extra:    map[string]authenticationv1.ExtraValue{podNameExtra: {"web-1"}, podUIDExtra: {"uid-1"}},
			},
		}
		if change != nil {
			change(s)
		}
		return s
	}
	for name, tc := range map[string]struct {
		status *authenticationv1.TokenReviewStatus
		says   string // empty: accepted
	}{
		"a pod's":          {reviewed(nil), ""},
		"not one at all":   {&authenticationv1.TokenReviewStatus{Error: "secret details"}, "expired, or not one of this cluster's"},
		"another audience": {reviewed(func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"api"} }), "another audience"},
		"no audience":      {reviewed(func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }), "another audience"},
		"not bound to a pod": {reviewed(func(s *authenticationv1.TokenReviewStatus) {
			delete(s.User.Extra, podUIDExtra)
		}), "isn't bound to a pod"},
		"a person's": {reviewed(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "alice" }), "isn't bound to a pod"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := callerOf(tc.status)
			if tc.says == "" {
				want := control.Caller{Namespace: "shop", Pod: "web-1", PodUID: "uid-1"}
				if got != want || err != nil {
					t.Errorf("%+v, %v; want %+v", got, err, want)
				}
				return
			}
			if !errors.Is(err, control.ErrTokenRefused) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want a refusal that says %q and nothing of the server's", err, tc.says)
			}
		})
	}
}

// scheme for fake clients.
func fakeClient(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func memberPod(uid types.UID, poolUID string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-1", UID: uid,
		Labels: map[string]string{v1alpha1.PoolLabel: "main"}, Annotations: map[string]string{v1alpha1.InjectedAnnotation: poolUID},
	}}
}

// A pod connects within moments of its creation: what the cache has may be nothing, or its namesake before it.
func TestDirectoryAsksTheServerWhenTheCacheWillNotDo(t *testing.T) {
	for name, tc := range map[string]struct {
		cached, live []client.Object
		want         control.PodIdentity
		absent       bool
	}{
		"cached":                 {[]client.Object{memberPod("new", "p")}, nil, control.PodIdentity{UID: "new", Pool: "main", PoolUID: "p"}, false},
		"not cached yet":         {nil, []client.Object{memberPod("new", "p")}, control.PodIdentity{UID: "new", Pool: "main", PoolUID: "p"}, false},
		"a namesake is cached":   {[]client.Object{memberPod("old", "p")}, []client.Object{memberPod("new", "p")}, control.PodIdentity{UID: "new", Pool: "main", PoolUID: "p"}, false},
		"nowhere":                {nil, nil, control.PodIdentity{}, true},
		"gone, but still cached": {[]client.Object{memberPod("old", "p")}, nil, control.PodIdentity{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := Directory{Cached: fakeClient(t, tc.cached...), Live: fakeClient(t, tc.live...)}
			got, err := d.Pod(context.Background(), types.NamespacedName{Namespace: "shop", Name: "web-1"}, "new")
			if got != tc.want || errors.Is(err, control.ErrNotFound) != tc.absent {
				t.Errorf("%+v, %v; want %+v, absent %v", got, err, tc.want, tc.absent)
			}
		})
	}
}

func TestDirectoryKnowsPools(t *testing.T) {
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "main", UID: "p"}}
	name := client.ObjectKeyFromObject(pool)
	d := Directory{Cached: fakeClient(t), Live: fakeClient(t, pool)}
	if uid, err := d.PoolUID(context.Background(), name); uid != "p" || err != nil {
		t.Errorf("%q, %v", uid, err)
	}
	d.Live = fakeClient(t)
	if _, err := d.PoolUID(context.Background(), name); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a pool that doesn't exist: %v", err)
	}
}
