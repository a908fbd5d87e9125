package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// autoscalerAnnotation lists local volumes that don't keep the cluster autoscaler from evicting the pod.
const autoscalerAnnotation = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

// equipApp gives each container of the application, init containers too, the socket's variable and its volume. The
// mount is read-only: connecting works, replacing the socket doesn't.
func equipApp(spec *corev1.PodSpec) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			equip(&list[i])
		}
	}
}

func equip(c *corev1.Container) {
	if slices.Contains(ownContainers, c.Name) {
		return
	}
	if !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == SocketVariable }) {
		c.Env = append(c.Env, corev1.EnvVar{Name: SocketVariable, Value: AppSocket})
	}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == appVolume }) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: appVolume, MountPath: appDir, ReadOnly: true})
	}
}

// annotate marks the pod with its pool and with what its slots were made with.
func annotate(pod *corev1.Pod, in Input, added []corev1.Volume) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[v1alpha1.InjectedAnnotation] = string(in.Pool.UID)
	pod.Annotations[v1alpha1.ImagesAnnotation] = compact(SlotImages(in))
	if sources := slotSources(in); len(sources) > 0 {
		pod.Annotations[v1alpha1.EnvFromAnnotation] = compact(sources)
	}
	if mounts := Mounts(in.Pool); mounts != "" {
		pod.Annotations[v1alpha1.MountsAnnotation] = mounts
	}
	pod.Annotations[autoscalerAnnotation] = mergeLists(pod.Annotations[autoscalerAnnotation], localVolumes(added))
}

// compact is JSON.
func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("inject: %v", err)) // strings only: can't happen
	}
	return string(text)
}

// mergeLists appends the names that a comma-separated list lacks.
func mergeLists(list string, names []string) string {
	var merged []string
	for _, n := range append(strings.Split(list, ","), names...) {
		if n = strings.TrimSpace(n); n != "" && !slices.Contains(merged, n) {
			merged = append(merged, n)
		}
	}
	return strings.Join(merged, ",")
}

// podWarnings are about settings of the pod that work, but not as its owner may expect.
func podWarnings(pod *corev1.Pod, in Input) []string {
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }

	drain := time.Duration(in.Bootstrap.GetLimits().GetDrainMs()) * time.Millisecond
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil && time.Duration(*g)*time.Second < drain {
		warn("terminationGracePeriodSeconds is %d, shorter than timeouts.drain of WorkerPool %q (%s): requests may be cut off; raise it",
			*g, in.Pool.Name, drain)
	}
	switch {
	case pod.Spec.HostNetwork:
		warn("the pod is in the host's network, so the pool doesn't listen on 127.0.0.1:%d; use %s", listenPort, SocketVariable)
	case appListens(&pod.Spec):
		warn("a container has port %d itself, so the pool doesn't listen on 127.0.0.1:%d; use %s", listenPort, listenPort, SocketVariable)
	}
	if !resolvesServices(&pod.Spec) {
		warn("the pod's dnsPolicy doesn't resolve Services, so its router can't reach the operator and keeps the configuration it started with; use ClusterFirst, or ClusterFirstWithHostNet with hostNetwork")
	}
	return warnings
}

// resolvesServices tells whether the pod's DNS knows the cluster's Services. With policy None the pod's own dnsConfig
// may know them; it gets the benefit of the doubt.
func resolvesServices(spec *corev1.PodSpec) bool {
	switch spec.DNSPolicy {
	case corev1.DNSDefault:
		return false
	case corev1.DNSClusterFirst, "":
		return !spec.HostNetwork
	default:
		return true
	}
}
