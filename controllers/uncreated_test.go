package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/status"
)

// Of a pool without pods, the workloads that want some are found, of each kind, and why they have none.
func TestWhyThereAreNoPods(t *testing.T) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.PoolLabel: "main"}}}
	replicaSet := func(change func(*appsv1.ReplicaSet)) client.Object {
		s := &appsv1.ReplicaSet{ObjectMeta: named("web-5d9f"), Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(2)), Template: template}}
		s.Labels = map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: "5d9f"}
		s.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Message: "exceeded quota"}}
		change(s)
		return s
	}
	failed := func(kind, name, message string, at int64) client.Object {
		return &corev1.Event{ObjectMeta: named(message), InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name}, Reason: "FailedCreate",
			Message: message, LastTimestamp: metav1.Unix(at, 0)}
	}
	want := func(kind, name, message string) []status.Uncreated {
		return []status.Uncreated{{Workload: status.Workload{Kind: kind, Name: name, Rolling: kind == "deployment"}, Message: message}}
	}
	for name, tc := range map[string]struct {
		objects []client.Object
		want    []status.Uncreated
	}{
		"nothing is deployed":    {nil, nil},
		"a quota":                {[]client.Object{replicaSet(func(*appsv1.ReplicaSet) {})}, want("deployment", "web", "exceeded quota")},
		"scaled to zero":         {[]client.Object{replicaSet(func(s *appsv1.ReplicaSet) { s.Spec.Replicas = new(int32(0)) })}, nil},
		"another pool's":         {[]client.Object{replicaSet(func(s *appsv1.ReplicaSet) { s.Spec.Template.Labels = nil })}, nil},
		"of no one":              {[]client.Object{replicaSet(func(s *appsv1.ReplicaSet) { s.Labels = nil })}, want("replicaset", "web-5d9f", "exceeded quota")},
		"they are being created": {[]client.Object{replicaSet(func(s *appsv1.ReplicaSet) { s.Status.Conditions = nil })}, want("deployment", "web", "")},
		"refused in a statefulset": {[]client.Object{
			&appsv1.StatefulSet{ObjectMeta: named("db"), Spec: appsv1.StatefulSetSpec{Template: template}},
			failed("StatefulSet", "db", "first", 1), failed("StatefulSet", "db", "last", 2), failed("StatefulSet", "other", "no", 3),
		}, want("statefulset", "db", "last")},
		"refused in a daemonset": {[]client.Object{
			&appsv1.DaemonSet{ObjectMeta: named("agent"), Spec: appsv1.DaemonSetSpec{Template: template}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1}},
			failed("DaemonSet", "agent", "policy", 1),
		}, want("daemonset", "agent", "policy")},
		"refused in a job": {[]client.Object{
			&batchv1.Job{ObjectMeta: named("night"), Spec: batchv1.JobSpec{Template: template}}, failed("Job", "night", "policy", 1),
		}, want("job", "night", "policy")},
		"a job that is over": {[]client.Object{&batchv1.Job{ObjectMeta: named("night"), Spec: batchv1.JobSpec{Template: template}, Status: batchv1.JobStatus{
			Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}},
		}}}, nil},
		"a job without parallelism": {[]client.Object{&batchv1.Job{ObjectMeta: named("night"), Spec: batchv1.JobSpec{Template: template, Parallelism: new(int32(0))}}}, nil},
		"a job that is suspended":   {[]client.Object{&batchv1.Job{ObjectMeta: named("night"), Spec: batchv1.JobSpec{Template: template, Suspend: new(true)}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			live := fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(tc.objects...)
			for _, field := range []string{"involvedObject.kind", "involvedObject.name", "reason"} {
				live = live.WithIndex(&corev1.Event{}, field, func(o client.Object) []string {
					e := o.(*corev1.Event)
					return []string{map[string]string{"involvedObject.kind": e.InvolvedObject.Kind, "involvedObject.name": e.InvolvedObject.Name, "reason": e.Reason}[field]}
				})
			}
			p := &pass{key: client.ObjectKey{Namespace: "shop", Name: "main"}}
			if err := (&WorkerPoolReconciler{Live: live.Build()}).findUncreated(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.uncreated); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A server that doesn't list the workloads leaves it open whether some want pods, which isn't that none does.
func TestWorkloadsThatCannotBeListed(t *testing.T) {
	live := interceptor.NewClient(fake.NewClientBuilder().WithScheme(testScheme(t)).Build(), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return apierrors.NewForbidden(appsv1.Resource("replicasets"), "", nil)
		},
	})
	p := &pass{key: client.ObjectKey{Namespace: "shop", Name: "main"}}
	err := (&WorkerPoolReconciler{Live: live}).findUncreated(t.Context(), p)
	if !errors.As(err, new(*unfinished)) || !strings.Contains(p.unlisted, "replicasets.apps is forbidden") {
		t.Errorf("%v, unlisted: %q", err, p.unlisted)
	}
}

// Workloads aren't looked at where there are pods: the server isn't asked.
func TestWorkloadsAreLookedAtOnlyWithoutPods(t *testing.T) {
	for name, p := range map[string]*pass{"with pods": {pods: []status.Pod{{}}}, "with pods that leave": {leaving: 1}} {
		if err := (&WorkerPoolReconciler{}).findUncreated(context.Background(), p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A pod's status says which of its sidecars can't be started; the cache keeps that.
func TestWhatASidecarWaitsForIsKept(t *testing.T) {
	pod := memberPod("u", "pool")
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such image"}}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{
		{Name: "own", Image: "app", State: waiting}, {Name: "pool-b", Image: "shop:tpyo", State: waiting},
	}}
	kept, err := stripPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]status.Wait{"pool-b": {Reason: "ErrImagePull", Message: "no such image", Image: "shop:tpyo"}}
	if diff := cmp.Diff(want, waitsOf(kept.(*corev1.Pod))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
