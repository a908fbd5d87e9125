package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Await lists and lists again after each change until done reports true, or ctx ends.
func (c *Cluster) Await(ctx context.Context, list client.ObjectList, done func() bool, opts ...client.ListOption) error {
	for {
		if err := c.List(ctx, list, opts...); err != nil {
			return err
		}
		if done() {
			return nil
		}
		if err := c.nextChange(ctx, list, opts); err != nil {
			return err
		}
	}
}

// nextChange returns after the first change since list was read.
func (c *Cluster) nextChange(ctx context.Context, list client.ObjectList, opts []client.ListOption) error {
	since := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}}
	changes, err := c.Watch(ctx, list.DeepCopyObject().(client.ObjectList), append([]client.ListOption{since}, opts...)...)
	if err != nil {
		return err
	}
	defer changes.Stop()
	select {
	case <-changes.ResultChan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AwaitPool waits until the pool is as done says, and returns it. An error tells what the pool said last.
func (c *Cluster) AwaitPool(ctx context.Context, namespace, name, what string, done func(*v1alpha1.WorkerPool) bool) (*v1alpha1.WorkerPool, error) {
	var pools v1alpha1.WorkerPoolList
	var pool v1alpha1.WorkerPool
	err := c.Await(ctx, &pools, func() bool {
		for _, p := range pools.Items {
			if p.Name == name {
				pool = p
				return done(&p)
			}
		}
		return false
	}, client.InNamespace(namespace))
	if err != nil {
		return &pool, fmt.Errorf("waiting for WorkerPool %s to be %s: %w; it says:\n%s", name, what, err, Describe(&pool))
	}
	return &pool, nil
}

// Ready reports whether the pool's Ready condition speaks of its current spec and is true.
func Ready(p *v1alpha1.WorkerPool) bool {
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == p.Generation
}

// AwaitReady waits until the pool is Ready, and says so of the pods that are there: a status from before the last pod came or
// went speaks of others.
func (c *Cluster) AwaitReady(ctx context.Context, namespace, name string) (*v1alpha1.WorkerPool, error) {
	var pods corev1.PodList
	var failure error
	pool, err := c.AwaitPool(ctx, namespace, name, "ready with all of its pods", func(p *v1alpha1.WorkerPool) bool {
		failure = c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.PoolLabel: name})
		return failure != nil || Ready(p) && int(p.Status.Pods.Matched) == living(pods.Items)
	})
	return pool, errors.Join(err, failure)
}

func living(pods []corev1.Pod) (n int) {
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			n++
		}
	}
	return n
}

// ConditionIs reports whether a condition that speaks of the current spec has this status and reason.
func ConditionIs(p *v1alpha1.WorkerPool, kind string, status metav1.ConditionStatus, reason string) bool {
	found := meta.FindStatusCondition(p.Status.Conditions, kind)
	return found != nil && found.Status == status && found.ObservedGeneration == p.Generation &&
		(reason == "" || found.Reason == reason)
}

// Describe shows a pool's status for a failure's text.
func Describe(p *v1alpha1.WorkerPool) string {
	var b strings.Builder
	s := p.Status
	fmt.Fprintf(&b, "  generation %d, observed %d; weight %s, pods %s, workers %s\n",
		p.Generation, s.ObservedGeneration, s.Weight.Summary, s.Pods.Summary, s.Workers.Summary)
	for _, condition := range s.Conditions {
		fmt.Fprintf(&b, "  %s=%s %s: %s\n", condition.Type, condition.Status, condition.Reason, condition.Message)
	}
	return b.String()
}

// AwaitPods waits until exactly n pods match, all of them ready and none on its way out, and returns them.
func (c *Cluster) AwaitPods(ctx context.Context, n int, opts ...client.ListOption) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := c.Await(ctx, &pods, func() bool {
		for _, pod := range pods.Items {
			if !PodReady(&pod) {
				return false
			}
		}
		return len(pods.Items) == n
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("waiting for %d ready pods: %w; there are:\n%s", n, err, describePods(pods.Items))
	}
	return pods.Items, nil
}

// PodReady reports whether a pod is ready and stays.
func PodReady(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func describePods(pods []corev1.Pod) string {
	var b strings.Builder
	for _, pod := range pods {
		fmt.Fprintf(&b, "  %s %s ready=%v %s\n", pod.Name, pod.Status.Phase, PodReady(&pod), pod.Status.Message)
		for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			fmt.Fprintf(&b, "    %-14s started=%v restarts=%d%s\n", s.Name, s.Started != nil && *s.Started, s.RestartCount, trouble(s.State))
		}
	}
	return b.String()
}

func trouble(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return fmt.Sprintf(" waiting: %s %s", s.Waiting.Reason, s.Waiting.Message)
	case s.Terminated != nil && s.Terminated.ExitCode != 0:
		return fmt.Sprintf(" ended with %d: %s %s", s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	}
	return ""
}

// AwaitDeployment waits until all of a Deployment's pods are of its current template and available.
func (c *Cluster) AwaitDeployment(ctx context.Context, namespace, name string) error {
	var list appsv1.DeploymentList
	err := c.Await(ctx, &list, func() bool {
		for _, d := range list.Items {
			if d.Name == name {
				s := d.Status
				return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == *d.Spec.Replicas &&
					s.AvailableReplicas == s.UpdatedReplicas && s.Replicas == s.UpdatedReplicas
			}
		}
		return false
	}, client.InNamespace(namespace))
	if err == nil {
		return nil
	}
	var pods corev1.PodList
	_ = c.List(context.WithoutCancel(ctx), &pods, client.InNamespace(namespace))
	return fmt.Errorf("waiting for Deployment %s/%s: %w; pods there:\n%s", namespace, name, err, describePods(pods.Items))
}
