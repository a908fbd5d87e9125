package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// application is what the pod's own containers ask for.
type application struct {
	class      corev1.PodQOSClass
	containers []corev1.ResourceRequirements // of those that run for as long as the pod does
	podLevel   bool
}

func applicationOf(spec *corev1.PodSpec) application {
	a := application{class: qosClass(spec), podLevel: podLevel(spec)}
	for _, c := range spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			a.containers = append(a.containers, c.Resources)
		}
	}
	for _, c := range spec.Containers {
		a.containers = append(a.containers, c.Resources)
	}
	return a
}

// allLimit reports whether each container has a limit: then a policy may want one of every container.
func (a application) allLimit(name corev1.ResourceName) bool {
	return !slices.ContainsFunc(a.containers, func(r corev1.ResourceRequirements) bool { return !positive(r.Limits, name) })
}

// allRequest reports the same of requests. A container with a limit alone requests that much.
func (a application) allRequest(name corev1.ResourceName) bool {
	return !slices.ContainsFunc(a.containers, func(r corev1.ResourceRequirements) bool {
		return !positive(r.Requests, name) && !positive(r.Limits, name)
	})
}

func (a application) anyLimits(name corev1.ResourceName) bool {
	return slices.ContainsFunc(a.containers, func(r corev1.ResourceRequirements) bool { return positive(r.Limits, name) })
}

// guarantees reports whether the pod's class asks for a request that is as high as the limit.
func (a application) guarantees(name corev1.ResourceName) bool {
	return a.class == corev1.PodQOSGuaranteed && slices.Contains(qosResources, name)
}

// warnings are about what the workers' resources leave open.
func (p planner) warnings(slot corev1.ResourceRequirements) []string {
	var warnings []string
	if p.app.podLevel && len(slot.Limits) == 0 {
		warnings = append(warnings, "the workers share the pod's own resources with the application, because the pool sets none for them; set spec.worker.resources of the WorkerPool")
	}
	if p.app.podLevel { // its resources decide its class by themselves, and policies look at these
		return warnings
	}
	_, cpu := slot.Limits[corev1.ResourceCPU]
	_, memory := slot.Limits[corev1.ResourceMemory]
	if p.app.class == corev1.PodQOSGuaranteed {
		if !cpu || !memory {
			warnings = append(warnings, fmt.Sprintf("the pod was of QoS class %s and becomes %s, because its workers have no limits for both cpu and memory; set spec.worker.resources.limits of the WorkerPool",
				corev1.PodQOSGuaranteed, corev1.PodQOSBurstable))
		}
		return warnings
	}
	if lacking := p.lacking(slot); len(lacking) > 0 {
		warnings = append(warnings, fmt.Sprintf("the application's containers have limits for %s and the workers have none, so a ResourceQuota for limits refuses the pod; set spec.worker.resources.limits of the WorkerPool",
			strings.Join(lacking, " and ")))
	}
	if p.app.allRequest(corev1.ResourceCPU) && p.workersAskNothing(corev1.ResourceCPU) {
		q := supervisor[corev1.ResourceCPU]
		warnings = append(warnings, fmt.Sprintf("the workers have no cpu request, so each slot gets one of %s: a HorizontalPodAutoscaler on cpu utilization compares all that they use with that; set spec.worker.resources.requests.cpu of the WorkerPool",
			q.String()))
	}
	return warnings
}

// lacking names what the application's containers are limited in, and the slots aren't.
func (p planner) lacking(slot corev1.ResourceRequirements) (names []string) {
	for _, name := range shared {
		if _, limited := slot.Limits[name]; !limited && p.app.allLimit(name) {
			names = append(names, string(name))
		}
	}
	return names
}

func (p planner) workersAskNothing(name corev1.ResourceName) bool {
	w := p.pool.Worker.Resources
	return w == nil || !positive(w.Requests, name) && !positive(w.Limits, name)
}
