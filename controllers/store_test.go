package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/inject"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

// anyBundle is trusted.
type anyBundle string

func (b anyBundle) Bundle() []byte { return []byte(b) }

// labelledOnly is a cache as CacheOptions makes it: of revisions and bundles it has those with the operator's label.
func labelledOnly(on client.WithWatch) client.WithWatch {
	return interceptor.NewClient(on, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, o, opts...)
			if _, filtered := o.(*corev1.ConfigMap); err == nil && filtered && o.GetLabels()[v1alpha1.ManagedByLabel] != v1alpha1.ManagedBy {
				return apierrors.NewNotFound(corev1.Resource("configmaps"), key.Name)
			}
			return err
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, filtered := list.(*appsv1.ControllerRevisionList); filtered {
				opts = append(opts, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedBy})
			}
			return c.List(ctx, list, opts...)
		},
	})
}

// leading is a reconciler that leads, over a server with these objects; refuse is asked about each Create.
func leading(t *testing.T, refuse func(client.Object) error, objects ...client.Object) (*WorkerPoolReconciler, client.WithWatch, *events.FakeRecorder) {
	t.Helper()
	server := fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.WorkerPool{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if refuse != nil {
					if err := refuse(o); err != nil {
						return err
					}
				}
				return c.Create(ctx, o, opts...)
			},
		}).Build()
	clock := func() time.Time { return time.Unix(1_800_000_000, 0) }
	recorder := events.NewFakeRecorder(100)
	r := &WorkerPoolReconciler{
		Client: labelledOnly(server), Live: server, Clock: clock, Events: recorder, Trust: anyBundle("the CA"),
		patience: time.Minute,
		Fleet:    control.NewFleet(clock, control.NewMetrics(prometheus.NewRegistry()), func(types.NamespacedName) {}),
	}
	r.Fleet.Lead(1)
	return r, server, recorder
}

func visit(t *testing.T, r *WorkerPoolReconciler, pool client.Object) (reconcile.Result, error) {
	t.Helper()
	return r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pool)})
}

// condition of a pool as the server has it.
func condition(t *testing.T, server client.Reader, pool client.Object, name string) metav1.Condition {
	t.Helper()
	var now v1alpha1.WorkerPool
	if err := server.Get(t.Context(), client.ObjectKeyFromObject(pool), &now); err != nil {
		t.Fatal(err)
	}
	if c := meta.FindStatusCondition(now.Status.Conditions, name); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// TestO10_ARevisionThatCannotBeStoredIsSaid: what is forbidden isn't silence, and is tried again.
func TestO10_ARevisionThatCannotBeStoredIsSaid(t *testing.T) {
	revisions := schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}
	pool := poolNamed("main")
	theirs := revision.Object(pool, revision.Of(&pool.Spec), 1)
	theirs.OwnerReferences[0].UID = "another"
	for name, tc := range map[string]struct {
		refusal error
		objects []client.Object
		says    string
	}{
		"forbidden":      {apierrors.NewForbidden(revisions, "main-1", errors.New("exceeded quota")), nil, "quotas"},
		"invalid":        {apierrors.NewInvalid(schema.GroupKind{Kind: "ControllerRevision"}, "main-1", nil), nil, "is invalid"},
		"someone else's": {nil, []client.Object{theirs}, "isn't pool shop/main's: delete it"},
	} {
		t.Run(name, func(t *testing.T) {
			r, server, _ := leading(t, func(o client.Object) error {
				if _, ok := o.(*appsv1.ControllerRevision); ok {
					return tc.refusal
				}
				return nil
			}, append(tc.objects, poolNamed("main"))...)
			if _, err := visit(t, r, pool); err == nil {
				t.Error("no error: nothing tries again")
			}
			ready := condition(t, server, pool, v1alpha1.ConditionReady)
			if ready.Reason != "Blocked" || !strings.Contains(ready.Message, tc.says) {
				t.Errorf("Ready is %s: %s; want Blocked with %q", ready.Reason, ready.Message, tc.says)
			}
			if stalled := condition(t, server, pool, v1alpha1.ConditionStalled); stalled.Status != metav1.ConditionTrue {
				t.Errorf("Stalled is %q", stalled.Status)
			}
		})
	}
}

// TestARevisionThatIsDeletedComesBack: the stable's text can't be made from the spec, which has moved on; without it no
// canary could be taken back.
func TestARevisionThatIsDeletedComesBack(t *testing.T) {
	pool := poolNamed("main")
	stable := revision.Object(pool, revision.Of(&pool.Spec), 1)
	pool.Status.Stable = new(rollout.Place(revision.Of(&pool.Spec), rollout.SlotA))
	pool.Status.Stable.Proven = true
	pool.Spec.Worker.Module, pool.Spec.Canary = "another", &v1alpha1.Canary{Weight: new(intstr.FromInt32(10))}
	r, server, _ := leading(t, nil, pool, stable)
	if _, err := visit(t, r, pool); err != nil {
		t.Fatal(err)
	}
	if err := server.Delete(t.Context(), stable); err != nil {
		t.Fatal(err)
	}
	if _, err := visit(t, r, pool); err != nil {
		t.Error(err)
	}
	if ready := condition(t, server, pool, v1alpha1.ConditionReady); ready.Reason == "Blocked" {
		t.Errorf("Blocked: %s", ready.Message)
	}
	if err := server.Get(t.Context(), client.ObjectKeyFromObject(stable), &appsv1.ControllerRevision{}); err != nil {
		t.Error(err)
	}
}

// TestO10_ABundleThatCannotBeStoredKeepsNothingElse from being said and done.
func TestO10_ABundleThatCannotBeStoredKeepsNothingElse(t *testing.T) {
	pool := poolNamed("main")
	for name, refusal := range map[string]error{
		"forbidden": apierrors.NewForbidden(corev1.Resource("configmaps"), "x", errors.New("exceeded quota")),
		"a failure": errors.New("connection lost"),
	} {
		t.Run(name, func(t *testing.T) {
			r, server, recorder := leading(t, func(o client.Object) error {
				if _, ok := o.(*corev1.ConfigMap); ok {
					return refusal
				}
				return nil
			}, poolNamed("main"))
			if _, err := visit(t, r, pool); !errors.Is(err, refusal) {
				t.Errorf("got %v, want the refusal for the retry", err)
			}
			if ready := condition(t, server, pool, v1alpha1.ConditionReady); ready.Reason != "NoPods" {
				t.Errorf("Ready is %q, want it reported", ready.Reason)
			}
			if told := r.memories.of(client.ObjectKeyFromObject(pool), pool.UID, r.Clock()).told; told == nil {
				t.Error("the routers were told nothing")
			}
			var said []string
			for len(recorder.Events) > 0 {
				said = append(said, <-recorder.Events)
			}
			if got := strings.Contains(strings.Join(said, "\n"), "BundleNotStored"); got != (name == "forbidden") {
				t.Errorf("events %q", said)
			}
		})
	}
}

// TestO26_WhatIsLeftOutKeepsNoLookWaiting: a bundle that can't be stored is no reason to look at a canary once a minute.
func TestO26_WhatIsLeftOutKeepsNoLookWaiting(t *testing.T) {
	r, late := &WorkerPoolReconciler{}, errors.New("exceeded quota")
	p := &pass{again: time.Second}
	if _, err := r.finished(t.Context(), p, late); !errors.Is(err, late) {
		t.Errorf("got %v, want the error for the retry", err)
	}
	p.decision.Again = 2 * time.Second
	if result, err := r.finished(t.Context(), p, late); err != nil || result.RequeueAfter != time.Second {
		t.Errorf("a canary is looked at again after %v, %v; want when that was planned", result.RequeueAfter, err)
	}
}

// TestOwnObjectsComeBack: what lost its labels, or its owner, is made the pool's again within a few passes.
func TestOwnObjectsComeBack(t *testing.T) {
	pool := poolNamed("main")
	objects := func() []client.Object {
		return []client.Object{revision.Object(pool, revision.Of(&pool.Spec), 1), bundleMap(pool, []byte("an older CA"))}
	}
	for name, change := range map[string]func(client.Object){
		"no labels": func(o client.Object) { o.SetLabels(nil) },
		"another's label of management": func(o client.Object) {
			o.SetLabels(map[string]string{v1alpha1.ManagedByLabel: "Helm", v1alpha1.PoolLabel: "main", "app": "shop"})
		},
		"deleted without its dependents, and made again": func(o client.Object) { o.SetOwnerReferences(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			all := []client.Object{poolNamed("main")}
			for _, o := range objects() {
				change(o)
				all = append(all, o)
			}
			r, server, _ := leading(t, nil, all...)
			var err error
			for range 5 {
				if _, err = visit(t, r, pool); err != nil {
					t.Fatal(err)
				}
			}
			for _, wanted := range objects() {
				got, ok := wanted.DeepCopyObject().(client.Object)
				if !ok {
					t.Fatalf("%T", wanted)
				}
				if err := server.Get(t.Context(), client.ObjectKeyFromObject(wanted), got); err != nil {
					t.Fatal(err)
				}
				if !metav1.IsControlledBy(got, pool) || !labelled(got, wanted) {
					t.Errorf("%T has labels %v, owners %v", got, got.GetLabels(), got.GetOwnerReferences())
				}
				if bundle, is := got.(*corev1.ConfigMap); is && bundle.Data[inject.CAKey] != "the CA\n" {
					t.Errorf("bundle %q", bundle.Data)
				}
			}
			if ready := condition(t, server, pool, v1alpha1.ConditionReady); ready.Reason != "NoPods" {
				t.Errorf("Ready is %s: %s", ready.Reason, ready.Message)
			}
		})
	}
}

// What merely has the name isn't taken over.
func TestStrangersAreNotAdopted(t *testing.T) {
	pool := poolNamed("main")
	stranger := revision.Object(pool, revision.Of(&pool.Spec), 1)
	stranger.OwnerReferences, stranger.Data.Raw = nil, []byte(`{"poolVersion":"v1"}`)
	unlabelled := bundleMap(pool, []byte("theirs"))
	unlabelled.OwnerReferences, unlabelled.Labels = nil, nil
	for _, object := range []client.Object{stranger, unlabelled} {
		r, server, _ := leading(t, nil, poolNamed("main"), object)
		if _, err := visit(t, r, pool); !errors.As(err, new(*taken)) {
			t.Errorf("%T: %v, want it to be told as another's", object, err)
		}
		if err := server.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil || len(object.GetOwnerReferences()) > 0 {
			t.Errorf("%T has owners %v, %v", object, object.GetOwnerReferences(), err)
		}
	}
}

func TestNotesOfEventsAreBoundedBetweenCharacters(t *testing.T) {
	for shift := range 4 {
		got := bounded(strings.Repeat("x", shift) + strings.Repeat("日", maxNote))
		if len(got) > maxNote || !utf8.ValidString(got) || !strings.HasSuffix(got, "日…") {
			t.Errorf("%d bytes, valid %v, ends in %q", len(got), utf8.ValidString(got), got[len(got)-6:])
		}
	}
}
