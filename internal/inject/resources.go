package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// What the pool's own processes need, beside the workers.
var (
	// supervisor is a slot's own share, added to its workers' for each resource that they have.
	supervisor = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("50m"),
		corev1.ResourceMemory:           resource.MustParse("64Mi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("64Mi"),
	}
	// A router without a limit for cpu isn't throttled; only a Guaranteed pod forces one on it.
	routerRequests = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("50m"),
		corev1.ResourceMemory: resource.MustParse("64Mi"),
	}
	routerLimits = corev1.ResourceList{
		corev1.ResourceMemory: resource.MustParse("256Mi"),
	}
	routerGuaranteed = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("250m"),
		corev1.ResourceMemory: resource.MustParse("256Mi"),
	}
	installRequests = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10m"),
		corev1.ResourceMemory: resource.MustParse("64Mi"),
	}
	installGuaranteed = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("100m"),
		corev1.ResourceMemory: resource.MustParse("64Mi"),
	}
)

// resources of the sidecars.
type resources struct {
	install, slot, router corev1.ResourceRequirements
	// maxWorkers that the limits of a slot's container allow; 0: no limits.
	maxWorkers int
	// workerMemory is the limit of one of them, in bytes; 0: none.
	workerMemory int64
	warnings     []string
}

// planResources sizes the sidecars so that the pod keeps its QoS class wherever the pool's own settings allow it.
func planResources(pod *corev1.PodSpec, pool *v1alpha1.WorkerPoolSpec) resources {
	class := qosClass(pod)
	workers := int(pool.Size + pool.Overflow)
	r := resources{slot: slotResources(pool.Worker.Resources, int64(workers), class)}
	if len(r.slot.Limits) > 0 {
		r.maxWorkers = workers
	}
	if w := pool.Worker.Resources; w != nil {
		r.workerMemory = w.Limits.Memory().Value()
	}
	switch {
	case class == corev1.PodQOSGuaranteed:
		r.install, r.router = exactly(installGuaranteed), exactly(routerGuaranteed)
		r.warnings = guaranteedWarnings(pod, r.slot)
	case class == corev1.PodQOSBestEffort && pool.Worker.Resources == nil:
		// Nothing for the sidecars either: one request would make the pod Burstable.
	default:
		r.install = corev1.ResourceRequirements{Requests: installRequests.DeepCopy()}
		r.router = corev1.ResourceRequirements{Requests: routerRequests.DeepCopy(), Limits: routerLimits.DeepCopy()}
	}
	if podLevel(pod) && len(r.slot.Limits) == 0 {
		r.warnings = append(r.warnings, "the workers share the pod's own resources with the application, because the pool sets none for them; set spec.worker.resources of the WorkerPool")
	}
	return r
}

// slotResources are the supervisor's share and that of all workers that the container may ever hold. Both slots get
// all of it: during a migration both are full.
func slotResources(worker *v1alpha1.WorkerResources, workers int64, class corev1.PodQOSClass) corev1.ResourceRequirements {
	if worker == nil {
		return corev1.ResourceRequirements{}
	}
	r := corev1.ResourceRequirements{Requests: share(worker.Requests, workers), Limits: share(worker.Limits, workers)}
	if class != corev1.PodQOSGuaranteed {
		return r
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if limit, ok := r.Limits[name]; ok {
			if r.Requests == nil {
				r.Requests = corev1.ResourceList{}
			}
			r.Requests[name] = limit.DeepCopy()
		}
	}
	return r
}

func share(worker corev1.ResourceList, workers int64) corev1.ResourceList {
	if len(worker) == 0 {
		return nil
	}
	sum := corev1.ResourceList{}
	for name, q := range worker {
		total := q.DeepCopy()
		total.Mul(workers)
		total.Add(supervisor[name])
		sum[name] = total
	}
	return sum
}

func exactly(list corev1.ResourceList) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: list.DeepCopy(), Limits: list.DeepCopy()}
}

// guaranteedWarnings tells when slots without limits make a Guaranteed pod Burstable. Pod-level resources decide the
// class by themselves.
func guaranteedWarnings(pod *corev1.PodSpec, slot corev1.ResourceRequirements) []string {
	_, cpu := slot.Limits[corev1.ResourceCPU]
	_, memory := slot.Limits[corev1.ResourceMemory]
	if podLevel(pod) || (cpu && memory) {
		return nil
	}
	return []string{fmt.Sprintf("the pod was of QoS class %s and becomes %s, because its workers have no limits for both cpu and memory; set spec.worker.resources.limits of the WorkerPool",
		corev1.PodQOSGuaranteed, corev1.PodQOSBurstable)}
}

// raisePodResources adds the sidecars' sum to pod-level resources, for each resource that these bound already. The
// install container adds nothing: it ends before anything else starts.
func raisePodResources(spec *corev1.PodSpec) {
	if !podLevel(spec) {
		return
	}
	for _, c := range spec.InitContainers {
		if c.Name == SlotAContainer || c.Name == SlotBContainer || c.Name == RouterContainer {
			raise(spec.Resources.Requests, c.Resources.Requests, c.Resources.Limits)
			raise(spec.Resources.Limits, c.Resources.Limits, c.Resources.Requests)
		}
	}
}

// raise adds what a container has to each entry of the total; where it has none, the other list's stands in.
func raise(total, have, otherwise corev1.ResourceList) {
	for name, sum := range total {
		q, ok := have[name]
		if !ok {
			q = otherwise[name]
		}
		sum.Add(q)
		total[name] = sum
	}
}
