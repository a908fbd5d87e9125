package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

var leaseName = types.NamespacedName{Namespace: "workerpool-system", Name: LeaseName}

func leaseOf(holder, resourceVersion string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: leaseName.Namespace, Name: leaseName.Name, ResourceVersion: resourceVersion},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder},
	}
}

func TestO44_TheEpochIsTheLeasesVersion(t *testing.T) {
	l := &Leader{Live: fakeClient(t, leaseOf("me", "4711")), Lease: leaseName, Identity: "me"}
	if epoch, err := l.epoch(context.Background()); epoch != 4711 || err != nil {
		t.Errorf("epoch %d, %v; want 4711", epoch, err)
	}
	l.Identity = "other"
	if epoch, err := l.epoch(context.Background()); err == nil || !strings.Contains(err.Error(), `held by "me"`) {
		t.Errorf("epoch %d, %v; want it refused to whom the Lease isn't", epoch, err)
	}
	l.Live = fakeClient(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if epoch, err := l.epoch(ctx); err == nil {
		t.Errorf("epoch %d without a Lease", epoch)
	}
}

func TestOnlyTheLeaderIsSelected(t *testing.T) {
	operatorPod := func(name, leader string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: leaseName.Namespace, Name: name, Labels: map[string]string{"app": "operator"}}}
		if leader != "" {
			p.Labels[v1alpha1.LeaderLabel] = leader
		}
		return p
	}
	for name, pods := range map[string][]client.Object{
		"the first leader":    {operatorPod("me", ""), operatorPod("other", "")},
		"after another one":   {operatorPod("me", ""), operatorPod("other", "true")},
		"again":               {operatorPod("me", "true"), operatorPod("other", "")},
		"the other is gone":   {operatorPod("me", "")},
		"both, by some error": {operatorPod("me", "true"), operatorPod("other", "true")},
	} {
		t.Run(name, func(t *testing.T) {
			c := fakeClient(t, pods...)
			l := &Leader{Client: c, Live: c, Pod: types.NamespacedName{Namespace: leaseName.Namespace, Name: "me"}}
			if err := l.label(context.Background()); err != nil {
				t.Fatal(err)
			}
			var marked corev1.PodList
			if err := c.List(context.Background(), &marked, client.MatchingLabels{v1alpha1.LeaderLabel: "true"}); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range marked.Items {
				names = append(names, p.Name)
				if p.Labels["app"] != "operator" {
					t.Errorf("labels of %s: %v", p.Name, p.Labels)
				}
			}
			if diff := cmp.Diff([]string{"me"}, names); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A leader that routers can't find tries each second until they can, and looks every 30 s from then on.
func TestALabelThatCouldNotBeSetIsSoonTriedAgain(t *testing.T) {
	c := fakeClient(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: leaseName.Namespace, Name: "me"}})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var looked []time.Duration
		unsteady := interceptor.NewClient(c.(client.WithWatch), interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				looked = append(looked, time.Since(start))
				if len(looked) <= 3 {
					return errors.New("connection refused")
				}
				return c.List(ctx, list, options...)
			},
		})
		l := &Leader{Client: c, Live: unsteady, Pod: types.NamespacedName{Namespace: leaseName.Namespace, Name: "me"}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l.stayLabelled(ctx)
		want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, 33 * time.Second}
		if diff := cmp.Diff(want, looked); diff != "" {
			t.Errorf("looked (-want +got):\n%s", diff)
		}
	})
}
