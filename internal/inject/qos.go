package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// qosResources decide a pod's class; others don't count.
var qosResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// qosClass is the class that Kubernetes gives the pod: from its pod-level resources when it has them, else from all of
// its containers.
func qosClass(spec *corev1.PodSpec) corev1.PodQOSClass {
	if podLevel(spec) {
		if isGuaranteed(*spec.Resources) {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	all := slices.Concat(spec.InitContainers, spec.Containers)
	switch {
	case !slices.ContainsFunc(all, func(c corev1.Container) bool { return hasAny(c.Resources) }):
		return corev1.PodQOSBestEffort
	case !slices.ContainsFunc(all, func(c corev1.Container) bool { return !isGuaranteed(c.Resources) }):
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// podLevel tells whether the pod has resources of its own that decide its class.
func podLevel(spec *corev1.PodSpec) bool { return spec.Resources != nil && hasAny(*spec.Resources) }

func hasAny(r corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(qosResources, func(name corev1.ResourceName) bool {
		return positive(r.Requests, name) || positive(r.Limits, name)
	})
}

// isGuaranteed tells whether cpu and memory are limited and requested alike; a request that is absent is its limit.
func isGuaranteed(r corev1.ResourceRequirements) bool {
	for _, name := range qosResources {
		if !positive(r.Limits, name) {
			return false
		}
		if request, ok := r.Requests[name]; ok && request.Cmp(r.Limits[name]) != 0 {
			return false
		}
	}
	return true
}

func positive(list corev1.ResourceList, name corev1.ResourceName) bool {
	q := list[name]
	return q.Sign() > 0
}
