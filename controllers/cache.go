package controllers

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/inject"
)

// CacheOptions keep of a cluster's objects what this operator looks at: pods with the opt-in label, stripped of all but
// what tells who they are and how they do, and the objects that it wrote itself. namespace is the operator's.
func CacheOptions(namespace string) (cache.Options, error) {
	labelled, err := labels.NewRequirement(v1alpha1.PoolLabel, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("the label %s: %w", v1alpha1.PoolLabel, err)
	}
	own := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedBy})}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                {Label: labels.NewSelector().Add(*labelled), Transform: stripPod},
			&corev1.ConfigMap{}:          own,
			&appsv1.ControllerRevision{}: own,
			&corev1.Secret{}:             SecretCache(namespace),
		},
	}, nil
}

// stripPod keeps a pod's identity, owner, phase, what injection stamped on it, and how its slots ended last.
func stripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	annotations := map[string]string{}
	for _, name := range []string{
		v1alpha1.InjectedAnnotation, v1alpha1.ImagesAnnotation, v1alpha1.EnvFromAnnotation, v1alpha1.MountsAnnotation,
	} {
		if value, ok := pod.Annotations[name]; ok {
			annotations[name] = value
		}
	}
	return &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:              pod.Name,
			Namespace:         pod.Namespace,
			UID:               pod.UID,
			ResourceVersion:   pod.ResourceVersion,
			CreationTimestamp: pod.CreationTimestamp,
			DeletionTimestamp: pod.DeletionTimestamp,
			Labels:            pod.Labels,
			Annotations:       annotations,
			OwnerReferences:   pod.OwnerReferences,
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, StartTime: pod.Status.StartTime, InitContainerStatuses: sidecarsOf(pod)},
	}, nil
}

// sidecar reports whether a container is the operator's.
func sidecar(name string) bool {
	switch name {
	case inject.InstallContainer, inject.SlotAContainer, inject.SlotBContainer, inject.RouterContainer:
		return true
	}
	return false
}

// sidecarsOf keeps how the containers of a pod's slots ended last, of those that did, and what a sidecar waits for that doesn't run.
func sidecarsOf(pod *corev1.Pod) (kept []corev1.ContainerStatus) {
	for _, c := range pod.Status.InitContainerStatuses {
		if !sidecar(c.Name) {
			continue
		}
		k := corev1.ContainerStatus{Name: c.Name, RestartCount: c.RestartCount}
		if last := c.LastTerminationState.Terminated; last != nil {
			k.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: last.Reason, FinishedAt: last.FinishedAt}
		}
		if w := c.State.Waiting; w != nil {
			k.Image, k.State.Waiting = c.Image, &corev1.ContainerStateWaiting{Reason: w.Reason, Message: w.Message}
		}
		if k.LastTerminationState.Terminated != nil || k.State.Waiting != nil {
			kept = append(kept, k)
		}
	}
	return kept
}
