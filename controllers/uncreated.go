package controllers

import (
	"cmp"
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/status"
)

// +kubebuilder:rbac:groups=apps,resources=replicasets;statefulsets;daemonsets,verbs=list
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=list
// +kubebuilder:rbac:groups="",resources=events,verbs=list

// findUncreated looks, for a pool without pods, at the workloads of its namespace: which of them want pods of the pool, and why
// they have none. It is asked for past the cache, as it is asked for seldom; without it the status says so.
func (r *WorkerPoolReconciler) findUncreated(ctx context.Context, p *pass) error {
	if len(p.pods) > 0 || p.leaving > 0 {
		return nil
	}
	wanting, err := r.wanting(ctx, p)
	for _, w := range wanting {
		u := status.Uncreated{Workload: w.workload, Message: w.failure}
		if u.Message == "" {
			u.Message, err = r.refusal(ctx, p, w)
		}
		p.uncreated = append(p.uncreated, u)
		if err != nil {
			break
		}
	}
	if err != nil {
		p.unlisted = err.Error()
		return &unfinished{err}
	}
	slices.SortFunc(p.uncreated, func(a, b status.Uncreated) int { // those with a reason first
		return cmp.Or(cmp.Compare(len(b.Message), len(a.Message)), cmp.Compare(a.Workload.Name, b.Workload.Name))
	})
	return nil
}

// wanting is a workload that wants more pods than there are.
type wanting struct {
	kind, name string // of the object that makes pods
	workload   status.Workload
	failure    string // as its conditions tell
}

// wanting lists those whose pods would have the pool's label.
func (r *WorkerPoolReconciler) wanting(ctx context.Context, p *pass) ([]wanting, error) {
	var out []wanting
	add := func(kind string, object metav1.Object, template *corev1.PodTemplateSpec, wanted, has int32, failure string) {
		if template.Labels[v1alpha1.PoolLabel] == p.key.Name && wanted > has && object.GetDeletionTimestamp() == nil {
			out = append(out, wanting{kind, object.GetName(), status.MakerOf(kind, object), failure})
		}
	}
	var replicaSets appsv1.ReplicaSetList
	var statefulSets appsv1.StatefulSetList
	var daemonSets appsv1.DaemonSetList
	var jobs batchv1.JobList
	for _, list := range []client.ObjectList{&replicaSets, &statefulSets, &daemonSets, &jobs} {
		if err := r.Live.List(ctx, list, client.InNamespace(p.key.Namespace)); err != nil {
			return nil, err
		}
	}
	for i := range replicaSets.Items {
		o := &replicaSets.Items[i]
		add("ReplicaSet", o, &o.Spec.Template, replicas(o.Spec.Replicas), o.Status.Replicas, failureOf(o))
	}
	for i := range statefulSets.Items {
		o := &statefulSets.Items[i]
		add("StatefulSet", o, &o.Spec.Template, replicas(o.Spec.Replicas), o.Status.Replicas, "")
	}
	for i := range daemonSets.Items {
		o := &daemonSets.Items[i]
		add("DaemonSet", o, &o.Spec.Template, o.Status.DesiredNumberScheduled, o.Status.CurrentNumberScheduled, "")
	}
	for i := range jobs.Items {
		o := &jobs.Items[i]
		add("Job", o, &o.Spec.Template, jobWants(o), o.Status.Active, "")
	}
	return out, nil
}

// replicas is a number with its default.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// jobWants is how many pods a job should be running: none once it is over, or suspended.
func jobWants(job *batchv1.Job) int32 {
	over := slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
	if over || (job.Spec.Suspend != nil && *job.Spec.Suspend) {
		return 0
	}
	return replicas(job.Spec.Parallelism)
}

// failureOf is why a ReplicaSet can't create its pods.
func failureOf(set *appsv1.ReplicaSet) string {
	for _, c := range set.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return c.Message
		}
	}
	return ""
}

// refusal is why a workload's pods can't be created, as its last event tells; empty: there is none.
func (r *WorkerPoolReconciler) refusal(ctx context.Context, p *pass, w wanting) (string, error) {
	var events corev1.EventList
	err := r.Live.List(ctx, &events, client.InNamespace(p.key.Namespace), client.MatchingFieldsSelector{Selector: fields.SelectorFromSet(fields.Set{
		"involvedObject.kind": w.kind, "involvedObject.name": w.name, "reason": "FailedCreate",
	})})
	if err != nil || len(events.Items) == 0 {
		return "", err
	}
	last := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return lastSeen(&a).Compare(lastSeen(&b).Time) })
	return strings.TrimSpace(last.Message), nil
}

// lastSeen is when an event was, by whichever API it was written.
func lastSeen(e *corev1.Event) metav1.Time {
	latest := e.LastTimestamp
	for _, t := range []metav1.Time{{Time: e.EventTime.Time}, e.CreationTimestamp} {
		if t.After(latest.Time) {
			latest = t
		}
	}
	return latest
}
