package inject

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestSlotResources(t *testing.T) {
	for name, tc := range map[string]struct {
		pod              *corev1.Pod
		in               Input // size 4, overflow 2
		requests, limits corev1.ResourceList
		maxWorkers       string
	}{
		"none": {pod: podOf(), in: inputOf(), maxWorkers: "0"},
		"requests alone cap nothing": {
			podOf(), inputOf(workers(quantities("cpu", "100m"), nil)),
			quantities("cpu", "650m"), nil, "0",
		},
		"limits alone": {
			podOf(), inputOf(workers(nil, quantities("memory", "100Mi"))),
			nil, quantities("memory", "664Mi"), "6",
		},
		"three resources": {
			podOf(), inputOf(workers(quantities("cpu", "100m", "ephemeral-storage", "1Mi"), quantities("cpu", "1", "memory", "100Mi", "ephemeral-storage", "10Mi"))),
			quantities("cpu", "650m", "ephemeral-storage", "70Mi"), quantities("cpu", "6050m", "memory", "664Mi", "ephemeral-storage", "124Mi"), "6",
		},
		"Guaranteed: requests become limits": {
			podOf(everyContainer(nil, quantities("cpu", "1", "memory", "1Gi"))),
			inputOf(workers(quantities("cpu", "100m"), quantities("cpu", "1", "memory", "100Mi"))),
			quantities("cpu", "6050m", "memory", "664Mi"), quantities("cpu", "6050m", "memory", "664Mi"), "6",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := mustInject(t, tc.pod, tc.in)
			for _, name := range []string{SlotAContainer, SlotBContainer} {
				c := container(t, pod, name)
				if diff := cmp.Diff([]corev1.ResourceList{tc.requests, tc.limits}, []corev1.ResourceList{c.Resources.Requests, c.Resources.Limits}); diff != "" {
					t.Errorf("%s: requests and limits (-want +got):\n%s", name, diff)
				}
				if got := c.Args[slices.Index(c.Args, "--max-workers")+1]; got != tc.maxWorkers {
					t.Errorf("%s: --max-workers %s, want %s", name, got, tc.maxWorkers)
				}
				if got := strings.Contains(strings.Join(c.Args, " "), "--worker-memory 104857600"); got != (tc.limits.Memory().Value() > 0) {
					t.Errorf("%s: arguments %v with the limits %v; want one worker's memory where it is limited", name, c.Args, tc.limits)
				}
			}
		})
	}
}

func TestQOSClassIsKept(t *testing.T) {
	limits := quantities("cpu", "1", "memory", "1Gi")
	podLevel := func(r corev1.ResourceRequirements) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Resources = &r }
	}
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		in     Input
		before corev1.PodQOSClass
		after  corev1.PodQOSClass
	}{
		"BestEffort":              {podOf(), inputOf(), corev1.PodQOSBestEffort, corev1.PodQOSBestEffort},
		"BestEffort with workers": {podOf(), inputOf(workers(limits, nil)), corev1.PodQOSBestEffort, corev1.PodQOSBurstable},
		"Burstable":               {podOf(everyContainer(limits, nil)), inputOf(), corev1.PodQOSBurstable, corev1.PodQOSBurstable},
		"Guaranteed": {podOf(everyContainer(nil, limits)), inputOf(workers(nil, limits)),
			corev1.PodQOSGuaranteed, corev1.PodQOSGuaranteed},
		"Guaranteed, lower worker requests": {podOf(everyContainer(limits, limits)), inputOf(workers(quantities("cpu", "1m"), limits)),
			corev1.PodQOSGuaranteed, corev1.PodQOSGuaranteed},
		"Guaranteed, no worker limits": {podOf(everyContainer(limits, limits)), inputOf(),
			corev1.PodQOSGuaranteed, corev1.PodQOSBurstable},
		"pod-level Guaranteed": {podOf(podLevel(corev1.ResourceRequirements{Requests: limits, Limits: limits})),
			inputOf(workers(quantities("cpu", "1m"), limits)), corev1.PodQOSGuaranteed, corev1.PodQOSGuaranteed},
		"pod-level Guaranteed, no worker limits": {podOf(podLevel(corev1.ResourceRequirements{Limits: limits})),
			inputOf(), corev1.PodQOSGuaranteed, corev1.PodQOSGuaranteed},
		"pod-level Burstable": {podOf(podLevel(corev1.ResourceRequirements{Requests: limits})),
			inputOf(workers(nil, limits)), corev1.PodQOSBurstable, corev1.PodQOSBurstable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := qosClass(&tc.pod.Spec); got != tc.before {
				t.Errorf("before: %s, want %s", got, tc.before)
			}
			if got := qosClass(&mustInject(t, tc.pod, tc.in).Spec); got != tc.after {
				t.Errorf("after: %s, want %s", got, tc.after)
			}
		})
	}
}

func TestPodLevelResourcesGrowByTheSidecars(t *testing.T) {
	pod := podOf(func(p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{
			Requests: quantities("cpu", "1", "memory", "1Gi"),
			Limits:   quantities("cpu", "1", "memory", "1Gi"),
		}
	})
	out := mustInject(t, pod, inputOf(workers(nil, quantities("cpu", "1", "memory", "100Mi"))))
	// Twice a slot (6050m, 664Mi) and a Guaranteed pod's router (250m, 256Mi).
	for name, want := range map[corev1.ResourceName]string{"cpu": "13350m", "memory": "2608Mi"} {
		for kind, list := range map[string]corev1.ResourceList{"requests": out.Spec.Resources.Requests, "limits": out.Spec.Resources.Limits} {
			if got := list[name]; got.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("pod-level %s of %s: %s, want %s", kind, name, got.String(), want)
			}
		}
	}
}
