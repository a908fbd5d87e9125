package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// What the pool's own processes need, beside the workers.
var (
	// supervisor is a slot's own share, added to its workers' for each resource that they have, and the request of a slot
	// whose workers have none where the application has one. Its storage is for the container's log, and for what is
	// written to /tmp before the supervisor sees it.
	supervisor = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("50m"),
		corev1.ResourceMemory:           resource.MustParse("64Mi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("256Mi"),
	}
	routerRequests = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("50m"),
		corev1.ResourceMemory:           resource.MustParse("64Mi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("64Mi"),
	}
	// A router without a limit for cpu isn't throttled, so it gets one only where all others have one; a whole core is
	// tens of thousands of requests per second. Its storage is the binaries', its state's and the logs'.
	routerLimits = corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("1"),
		corev1.ResourceMemory:           resource.MustParse("256Mi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("512Mi"),
	}
	// routerGuaranteed are its requests and limits in a Guaranteed pod, which has to have both for these two.
	routerGuaranteed = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("250m"),
		corev1.ResourceMemory: resource.MustParse("256Mi"),
	}
)

// shared are the resources that are given to sidecars, in the order in which texts name them.
var shared = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// resources of the sidecars.
type resources struct {
	slot corev1.ResourceRequirements
	// router's are the install container's, too: as that ends before anything else starts, it adds nothing to the pod.
	router corev1.ResourceRequirements
	// maxWorkers that the limits of a slot's container allow; 0: no limits.
	maxWorkers int
	// workerMemory is the limit of one of them, in bytes; 0: none.
	workerMemory int64
	tmp          tmp
	warnings     []string
}

// planResources sizes the sidecars. The pod keeps its QoS class wherever the pool's own settings allow it, and each
// sidecar has what a policy of the namespace (ResourceQuota, LimitRange) may have made the application's containers
// have: the router always, slots where the pool says how large workers are.
func planResources(pod *corev1.PodSpec, pool *v1alpha1.WorkerPoolSpec) resources {
	p := planner{app: applicationOf(pod), pool: pool, workers: int64(pool.Size + pool.Overflow)}
	r := resources{tmp: planTmp(pool, p.workers)}
	r.slot, r.router = p.slot(r.tmp), p.router()
	if w := pool.Worker.Resources; w != nil {
		r.workerMemory = w.Limits.Memory().Value()
		if len(w.Limits) > 0 {
			r.maxWorkers = int(p.workers)
		}
	}
	r.warnings = p.warnings(r.slot)
	return r
}

type planner struct {
	app     application
	pool    *v1alpha1.WorkerPoolSpec
	workers int64
}

// router's resources: its defaults, as far as the pod has such; what the pool says of it instead.
func (p planner) router() corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	switch {
	case p.app.class == corev1.PodQOSGuaranteed:
		r.Requests, r.Limits = routerGuaranteed.DeepCopy(), routerGuaranteed.DeepCopy()
	case p.app.class == corev1.PodQOSBestEffort && p.pool.Worker.Resources == nil:
		// Neither cpu nor memory: one request would make the pod Burstable.
	default:
		take(r.Requests, routerRequests, corev1.ResourceCPU, corev1.ResourceMemory)
		take(r.Limits, routerLimits, corev1.ResourceMemory)
		if p.app.allLimit(corev1.ResourceCPU) {
			take(r.Limits, routerLimits, corev1.ResourceCPU)
		}
	}
	if p.app.anyLimits(corev1.ResourceEphemeralStorage) || p.app.allRequest(corev1.ResourceEphemeralStorage) {
		take(r.Requests, routerRequests, corev1.ResourceEphemeralStorage)
	}
	if p.app.anyLimits(corev1.ResourceEphemeralStorage) {
		take(r.Limits, routerLimits, corev1.ResourceEphemeralStorage)
	}
	return p.instead(r)
}

// instead puts what the pool says of the router in place of the defaults. A request isn't above its limit, nor apart
// from it in a Guaranteed pod.
func (p planner) instead(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	said := &v1alpha1.RouterResources{}
	if own := p.pool.Router; own != nil && own.Resources != nil {
		said = own.Resources
	}
	for _, name := range shared {
		request, requested := said.Requests[name]
		limit, limited := said.Limits[name]
		if requested {
			r.Requests[name] = request
		}
		if limited {
			r.Limits[name] = limit
		}
		have, bounded := r.Limits[name]
		switch want := r.Requests[name]; {
		case !bounded:
		case requested && !limited && (want.Cmp(have) > 0 || p.app.guarantees(name)): // the limit is a default
			r.Limits[name] = want
		case want.Cmp(have) > 0, p.app.guarantees(name):
			r.Requests[name] = have
		}
	}
	return withoutEmpty(r)
}

// slot's resources are the supervisor's share and that of all workers that the container may ever hold. Both slots get
// all of it: during a migration both are full.
func (p planner) slot(t tmp) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	if w := p.pool.Worker.Resources; w != nil {
		r.Requests, r.Limits = share(w.Requests, p.workers), share(w.Limits, p.workers)
	}
	if limit, ok := r.Limits[corev1.ResourceMemory]; ok && t.inMemory {
		limit.Add(*resource.NewQuantity(t.limit, resource.BinarySI))
		r.Limits[corev1.ResourceMemory] = limit
	}
	p.storage(&r, t)
	for _, name := range shared {
		limit, limited := r.Limits[name]
		_, requested := r.Requests[name]
		switch {
		case limited && p.app.guarantees(name):
			r.Requests[name] = limit.DeepCopy()
		case !limited && !requested && p.app.allRequest(name):
			take(r.Requests, supervisor, name)
		}
	}
	return withoutEmpty(r)
}

// storage bounds a slot's container where the application is bounded, and nowhere else. The kubelet adds the limits up
// and evicts the whole pod when all of it takes more: a sidecar without one would live at the application's cost, and an
// application without one by the sidecars' limit. The workers' own is kept by the supervisor either way (see tmp).
func (p planner) storage(r *corev1.ResourceRequirements, t tmp) {
	const name = corev1.ResourceEphemeralStorage
	limit, limited := r.Limits[name]
	_, requested := r.Requests[name]
	if !p.app.anyLimits(name) {
		delete(r.Limits, name)
		if limited && !requested {
			r.Requests[name] = limit
		}
		return
	}
	if limited {
		return
	}
	limit = supervisor[name].DeepCopy()
	if !t.inMemory {
		limit.Add(*resource.NewQuantity(t.limit, resource.BinarySI))
	}
	if want := r.Requests[name]; want.Cmp(limit) > 0 {
		limit = want
	}
	r.Limits[name] = limit
	if !requested {
		take(r.Requests, routerRequests, name)
	}
}

func share(worker corev1.ResourceList, workers int64) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for name, q := range worker {
		total := q.DeepCopy()
		total.Mul(workers)
		total.Add(supervisor[name])
		if name != corev1.ResourceCPU { // parts of a byte, as autoscalers write them, add up to whole ones
			total = *resource.NewQuantity(total.Value(), total.Format)
		}
		sum[name] = total
	}
	return sum
}

func take(to, from corev1.ResourceList, names ...corev1.ResourceName) {
	for _, name := range names {
		to[name] = from[name].DeepCopy()
	}
}

// withoutEmpty leaves out what is empty.
func withoutEmpty(r corev1.ResourceRequirements) corev1.ResourceRequirements {
	if len(r.Requests) == 0 {
		r.Requests = nil
	}
	if len(r.Limits) == 0 {
		r.Limits = nil
	}
	return r
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
