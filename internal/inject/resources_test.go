package inject

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
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
			quantities("cpu", "650m", "ephemeral-storage", "262Mi"), quantities("cpu", "6050m", "memory", "664Mi"), "6",
		},
		"three resources, of an application with a limit for storage": {
			podOf(everyContainer(nil, quantities("ephemeral-storage", "1Gi"))),
			inputOf(workers(quantities("cpu", "100m", "ephemeral-storage", "1Mi"), quantities("cpu", "1", "memory", "100Mi", "ephemeral-storage", "10Mi"))),
			quantities("cpu", "650m", "ephemeral-storage", "262Mi"), quantities("cpu", "6050m", "memory", "664Mi", "ephemeral-storage", "316Mi"), "6",
		},
		"parts of a byte": {
			podOf(), inputOf(workers(nil, quantities("memory", "104857600001m"))),
			nil, quantities("memory", "696254465"), "6",
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
				if diff := diffResources(tc.requests, tc.limits, c.Resources); diff != "" {
					t.Errorf("%s: requests and limits (-want +got):\n%s", name, diff)
				}
				if got := c.Args[slices.Index(c.Args, "--max-workers")+1]; got != tc.maxWorkers {
					t.Errorf("%s: --max-workers %s, want %s", name, got, tc.maxWorkers)
				}
				if got := strings.Contains(strings.Join(c.Args, " "), "--worker-memory 10485760"); got != (tc.limits.Memory().Value() > 0) {
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

func diffResources(requests, limits corev1.ResourceList, got corev1.ResourceRequirements) string {
	text := func(lists ...corev1.ResourceList) (out []map[corev1.ResourceName]string) {
		for _, list := range lists {
			m := map[corev1.ResourceName]string{}
			for name, q := range list {
				m[name] = q.String()
			}
			out = append(out, m)
		}
		return out
	}
	return cmp.Diff(text(requests, limits), text(got.Requests, got.Limits))
}

// A namespace's policy (a ResourceQuota for requests or limits) wants of every container what it wants of the
// application's: whatever these have, the router and the install container have, and the slots have with complete
// worker.resources.
func TestSidecarsHaveWhatAPolicyWants(t *testing.T) {
	complete := workers(quantities("cpu", "10m", "memory", "32Mi"), quantities("cpu", "200m", "memory", "128Mi", "ephemeral-storage", "64Mi"))
	for name, list := range map[string]corev1.ResourceList{
		"cpu": quantities("cpu", "200m"), "memory": quantities("memory", "128Mi"), "storage": quantities("ephemeral-storage", "1Gi"),
		"cpu and memory": quantities("cpu", "200m", "memory", "128Mi"), "all": quantities("cpu", "200m", "memory", "128Mi", "ephemeral-storage", "1Gi"),
	} {
		for kind, change := range map[string]func(*corev1.Pod){
			"limits": everyContainer(nil, list), "requests": everyContainer(list, nil),
			"both, burstable": everyContainer(quantities("cpu", "10m", "memory", "8Mi"), list),
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				pod := podOf(change)
				if kind == "limits" { // as the API server has it before any webhook
					everyContainer(list, list)(pod)
				}
				class := qosClass(&pod.Spec)
				out := mustInject(t, pod, inputOf(complete))
				if got := qosClass(&out.Spec); got != class && class != corev1.PodQOSBestEffort {
					t.Errorf("QoS class %s became %s", class, got)
				}
				for _, own := range ownContainers {
					has, app := container(t, out, own).Resources, container(t, pod, "web").Resources
					for name := range app.Limits {
						if !positive(has.Limits, name) {
							t.Errorf("%s has no limits.%s", own, name)
						}
					}
					for name := range app.Requests {
						if !positive(has.Requests, name) && !positive(has.Limits, name) {
							t.Errorf("%s has no requests.%s", own, name)
						}
					}
					for name, request := range has.Requests {
						if limit, ok := has.Limits[name]; ok && request.Cmp(limit) > 0 {
							t.Errorf("%s requests more %s than its limit", own, name)
						}
					}
				}
			})
		}
	}
}

// A HorizontalPodAutoscaler on cpu utilization, and a quota for requests, want a request of each container that runs for
// as long as the pod does.
func TestSlotsRequestALittleWhereTheApplicationRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		in   Input
		want corev1.ResourceList
	}{
		"nothing":                           {podOf(), inputOf(), nil},
		"cpu and memory":                    {podOf(everyContainer(quantities("cpu", "1", "memory", "1Gi"), nil)), inputOf(), quantities("cpu", "50m", "memory", "64Mi")},
		"cpu alone":                         {podOf(everyContainer(quantities("cpu", "1"), nil)), inputOf(), quantities("cpu", "50m")},
		"all but an init container":         {podOf(func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = quantities("cpu", "1") }), inputOf(), quantities("cpu", "50m")},
		"one container of two":              {podOf(everyContainer(quantities("cpu", "1"), nil), func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log"}) }), inputOf(), nil},
		"the workers' own":                  {podOf(everyContainer(quantities("cpu", "1"), nil)), inputOf(workers(quantities("cpu", "100m"), nil)), quantities("cpu", "650m")},
		"the workers' limit is its request": {podOf(everyContainer(quantities("cpu", "1"), nil)), inputOf(workers(nil, quantities("cpu", "1"))), nil},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustInject(t, tc.pod, tc.in)
			if diff := diffResources(tc.want, container(t, out, SlotAContainer).Resources.Limits, container(t, out, SlotAContainer).Resources); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// spec.router.resources is the way out where a LimitRange's min, max or ratio doesn't suit the defaults.
func TestRouterResourcesCanBeSet(t *testing.T) {
	limits := quantities("cpu", "1", "memory", "1Gi")
	set := func(requests, limits corev1.ResourceList) Input {
		return inputOf(workers(limits, limits), func(in *Input) {
			in.Pool.Spec.Router = &v1alpha1.Router{Resources: &v1alpha1.RouterResources{Requests: requests, Limits: limits}}
		})
	}
	for name, tc := range map[string]struct {
		pod              *corev1.Pod
		in               Input
		requests, limits corev1.ResourceList
	}{
		"a higher request": {podOf(everyContainer(quantities("cpu", "1"), nil)), set(quantities("cpu", "200m"), nil),
			quantities("cpu", "200m", "memory", "64Mi"), quantities("memory", "256Mi")},
		"a request above the default limit": {podOf(everyContainer(quantities("cpu", "1"), nil)), set(quantities("memory", "1Gi"), nil),
			quantities("cpu", "50m", "memory", "1Gi"), quantities("memory", "1Gi")},
		"a limit below the default request": {podOf(everyContainer(quantities("cpu", "1"), nil)), set(nil, quantities("cpu", "20m")),
			quantities("cpu", "20m", "memory", "64Mi"), quantities("cpu", "20m", "memory", "256Mi")},
		"Guaranteed, a limit":   {podOf(everyContainer(limits, limits)), set(nil, quantities("cpu", "2")), quantities("cpu", "2", "memory", "256Mi"), quantities("cpu", "2", "memory", "256Mi")},
		"Guaranteed, a request": {podOf(everyContainer(limits, limits)), set(quantities("cpu", "100m"), nil), quantities("cpu", "100m", "memory", "256Mi"), quantities("cpu", "100m", "memory", "256Mi")},
		"BestEffort":            {podOf(), set(quantities("cpu", "10m"), nil), quantities("cpu", "10m", "memory", "64Mi"), quantities("memory", "256Mi")},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustInject(t, tc.pod, tc.in)
			for _, name := range []string{InstallContainer, RouterContainer} {
				if diff := diffResources(tc.requests, tc.limits, container(t, out, name).Resources); diff != "" {
					t.Errorf("%s: requests and limits (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// What workers write to /tmp is their supervisor's to bound. The kubelet evicts the whole pod, so its limits are above
// that, and a limit of the application isn't used up by the sidecars, nor the other way round.
func TestTmpIsBoundedBelowWhatEvictsThePod(t *testing.T) {
	app := everyContainer(nil, quantities("ephemeral-storage", "1Gi"))
	storage := workers(nil, quantities("memory", "100Mi", "ephemeral-storage", "100Mi"))
	said := func(size string, medium v1alpha1.TmpMedium) func(*Input) {
		return func(in *Input) {
			in.Pool.Spec.Worker.Tmp = &v1alpha1.Tmp{SizeLimit: new(resource.MustParse(size)), Medium: medium}
		}
	}
	for name, tc := range map[string]struct {
		pod                              *corev1.Pod
		in                               Input
		supervisor, volume, slot, memory string // "": none
	}{
		"default":                        {podOf(), inputOf(), "1073741824", "3Gi", "", ""},
		"said":                           {podOf(), inputOf(said("64Mi", "")), "67108864", "1152Mi", "", ""},
		"on disk":                        {podOf(), inputOf(said("64Mi", v1alpha1.TmpDisk)), "67108864", "1152Mi", "", ""},
		"the workers' storage is less":   {podOf(), inputOf(storage), "629145600", "2224Mi", "", "664Mi"},
		"the workers' storage is more":   {podOf(), inputOf(storage, said("16Mi", "")), "16777216", "1056Mi", "", "664Mi"},
		"the application is bounded":     {podOf(app), inputOf(), "1073741824", "3Gi", "1280Mi", ""},
		"both are":                       {podOf(app), inputOf(storage), "629145600", "2224Mi", "856Mi", "664Mi"},
		"in memory":                      {podOf(app), inputOf(storage, said("64Mi", v1alpha1.TmpMemory)), "67108864", "64Mi", "856Mi", "728Mi"},
		"in memory, storage is no one's": {podOf(app), inputOf(said("64Mi", v1alpha1.TmpMemory)), "67108864", "64Mi", "256Mi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := mustInject(t, tc.pod, tc.in)
			slot := container(t, out, SlotAContainer)
			if got := slot.Args[slices.Index(slot.Args, "--tmp-limit")+1]; got != tc.supervisor {
				t.Errorf("the supervisor's limit is %s, want %s", got, tc.supervisor)
			}
			for _, v := range out.Spec.Volumes {
				if inMemory := v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory; strings.HasPrefix(v.Name, tmpVolume) &&
					(v.EmptyDir.SizeLimit.String() != tc.volume || inMemory != strings.HasPrefix(name, "in memory")) {
					t.Errorf("volume %s: %s in memory %v, want %s", v.Name, v.EmptyDir.SizeLimit, inMemory, tc.volume)
				}
			}
			for resource, want := range map[corev1.ResourceName]string{corev1.ResourceEphemeralStorage: tc.slot, corev1.ResourceMemory: tc.memory} {
				got := ""
				if q, ok := slot.Resources.Limits[resource]; ok {
					got = q.String()
				}
				if got != want {
					t.Errorf("the slot's limits.%s is %q, want %q", resource, got, want)
				}
			}
		})
	}
}
