package inject

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/revision"
)

var update = flag.Bool("update", false, "write the golden files")

// podOf is the application's pod that the tests start from.
func podOf(change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace = "shop-1", "shop"
	pod.Labels = map[string]string{v1alpha1.PoolLabel: "summarizer"}
	pod.Spec = corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "migrate", Image: "shop:1"}},
		Containers:     []corev1.Container{{Name: "web", Image: "shop:1"}},
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func inputOf(change ...func(*Input)) Input {
	pool := &v1alpha1.WorkerPool{}
	pool.Name, pool.Namespace, pool.UID = "summarizer", "shop", "uid-1"
	pool.Spec = v1alpha1.WorkerPoolSpec{
		PoolVersion: v1alpha1.PoolV2, Size: 4, Overflow: 2,
		Worker: v1alpha1.Worker{Module: "summarizer.commands"},
	}
	in := Input{
		Pool: pool,
		Bootstrap: &controlpb.Snapshot{
			Stable: "a",
			Slots: []*controlpb.Slot{
				{Name: "a", Size: 4, Overflow: 2, Revision: &controlpb.Revision{Hash: "0123456789", Version: "v2", Module: "summarizer.commands"}},
				{Name: "b"},
			},
			Limits: &controlpb.Limits{QueueLimit: 1000, CheckoutMs: 5000, OperationMs: 30000, DrainMs: 30000},
		},
		Settings: Settings{
			OperatorImage:  "operator:dev",
			WorkerImage:    "worker:dev",
			ControlAddress: "workerpool-control.workerpool-system.svc:9444",
		},
	}
	for _, f := range change {
		f(&in)
	}
	return in
}

func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func workers(requests, limits corev1.ResourceList) func(*Input) {
	return func(in *Input) {
		in.Pool.Spec.Worker.Resources = &v1alpha1.WorkerResources{Requests: requests, Limits: limits}
	}
}

func volumesNamed(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, name := range names {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
				Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
			})
		}
	}
}

// everyContainer gets the same resources.
func everyContainer(requests, limits corev1.ResourceList) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				list[i].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
			}
		}
	}
}

type goldenCase struct {
	pod *corev1.Pod
	in  Input
}

var goldenCases = map[string]goldenCase{
	"smallest": {podOf(), inputOf()},
	"guaranteed": {
		podOf(everyContainer(nil, quantities("cpu", "1", "memory", "1Gi"))),
		inputOf(workers(quantities("cpu", "100m"), quantities("cpu", "500m", "memory", "128Mi", "ephemeral-storage", "10Mi"))),
	},
	"burstable-canary-own-images": {
		podOf(everyContainer(quantities("cpu", "100m"), nil), func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), FSGroup: new(int64(2000))}
			pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			pod.Annotations = map[string]string{autoscalerAnnotation: "scratch, workerpool-app"}
			pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}),
		inputOf(workers(quantities("memory", "100Mi"), quantities("memory", "200Mi")), func(in *Input) {
			in.Bootstrap.Canary = "b"
			in.Workers = map[string]revision.Worker{"a": {Image: "team/worker:1"}, "b": {Image: "team/worker:2"}}
			in.Bootstrap.Slots[0].Revision.Image = "team/worker:1"
			in.Bootstrap.Slots[1].Revision = &controlpb.Revision{Hash: "9876543210", Version: "v2", Module: "summarizer.commands", Image: "team/worker:2"}
		}),
	},
	"canary-from-other-secrets": {
		podOf(volumesNamed("models", "scratch")),
		inputOf(func(in *Input) {
			in.Bootstrap.Canary = "b"
			in.Bootstrap.Slots[1].Revision = &controlpb.Revision{Hash: "9876543210", Version: "v2", Module: "summarizer.commands"}
			in.Workers = map[string]revision.Worker{
				"a": {EnvFrom: []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}},
				"b": {EnvFrom: []v1alpha1.EnvFromSource{
					{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys-2"}},
					{Prefix: "APP_", ConfigMapRef: &v1alpha1.EnvFromRef{Name: "settings", Optional: true}},
				}},
			}
			in.Pool.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{
				{Name: "models", MountPath: "/models", SubPath: "small", ReadOnly: true},
				{Name: "scratch", MountPath: "/data"},
			}
		}),
	},
	"host-network": {podOf(func(pod *corev1.Pod) { pod.Spec.HostNetwork = true }), inputOf()},
	"pod-level-resources": {
		podOf(func(pod *corev1.Pod) {
			pod.Spec.Resources = &corev1.ResourceRequirements{
				Requests: quantities("cpu", "1", "memory", "1Gi"),
				Limits:   quantities("memory", "2Gi"),
			}
		}),
		inputOf(workers(nil, quantities("cpu", "250m", "memory", "100Mi"))),
	},
}

func TestPodGolden(t *testing.T) {
	for name, tc := range goldenCases {
		t.Run(name, func(t *testing.T) {
			before := tc.pod.DeepCopy()
			pod, warnings, err := Pod(tc.pod, tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, tc.pod); diff != "" {
				t.Errorf("the pod that was passed in changed:\n%s", diff)
			}
			got, err := yaml.Marshal(map[string]any{"pod": pod, "warnings": warnings})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v (go test ./internal/inject -update writes it)", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestInjectedPodStaysAsItIs(t *testing.T) {
	for name, tc := range goldenCases {
		t.Run(name, func(t *testing.T) {
			once := mustInject(t, tc.pod, tc.in)
			twice := mustInject(t, once, inputOf(func(in *Input) { in.Settings.OperatorImage = "operator:newer" }))
			if diff := cmp.Diff(once, twice); diff != "" {
				t.Errorf("a second injection changed the pod:\n%s", diff)
			}
		})
	}
}

func TestContainerAddedAfterInjectionGetsTheSocket(t *testing.T) {
	once := mustInject(t, podOf(), inputOf())
	once.Spec.Containers = append(once.Spec.Containers, corev1.Container{Name: "proxy"})
	twice := mustInject(t, once, inputOf())
	assertEquipped(t, container(t, twice, "proxy"))
	if n := len(twice.Spec.InitContainers); n != len(ownContainers)+1 {
		t.Errorf("%d init containers after the second injection, want the four sidecars once and the application's own", n)
	}
}

func TestO51_SidecarsStartBeforeTheApplicationsInitContainers(t *testing.T) {
	pod := mustInject(t, podOf(), inputOf())
	var order []string
	for _, c := range pod.Spec.InitContainers {
		order = append(order, c.Name)
	}
	want := []string{"workerpool-install", "pool-a", "pool-b", "pool-router", "migrate"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order of the init containers (-want +got):\n%s", diff)
	}
}

func TestO54_OnlyNativeSidecarsOutliveTheirStart(t *testing.T) {
	pod := mustInject(t, podOf(), inputOf())
	if len(pod.Spec.Containers) != 1 {
		t.Errorf("%d containers, want the application's own only: any other keeps a Job from completing", len(pod.Spec.Containers))
	}
	for _, name := range ownContainers {
		policy := container(t, pod, name).RestartPolicy
		sidecar := policy != nil && *policy == corev1.ContainerRestartPolicyAlways
		if want := name != InstallContainer; sidecar != want {
			t.Errorf("%s: native sidecar %v, want %v", name, sidecar, want)
		}
	}
}

func TestO73_NobodySeesAnothersFolders(t *testing.T) {
	pod := mustInject(t, podOf(), inputOf())
	type mount struct {
		volume, subPath string
		readOnly        bool
	}
	want := map[string][]mount{
		"migrate":        {{appVolume, "", true}},
		"web":            {{appVolume, "", true}},
		InstallContainer: {{binVolume, "", false}, {noTokenVolume, "", true}},
		SlotAContainer:   {{binVolume, "", true}, {slotsVolume, "a", false}, {tmpVolume + "a", "", false}, {noTokenVolume, "", true}},
		SlotBContainer:   {{binVolume, "", true}, {slotsVolume, "b", false}, {tmpVolume + "b", "", false}, {noTokenVolume, "", true}},
		RouterContainer: {{appVolume, "", false}, {slotsVolume, "", false}, {stateVolume, "", false},
			{identityVolume, "", true}, {noTokenVolume, "", true}},
	}
	got := map[string][]mount{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, m := range c.VolumeMounts {
			got[c.Name] = append(got[c.Name], mount{m.Name, m.SubPath, m.ReadOnly})
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mount{})); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestO73_SlotsRunAsTheApplication(t *testing.T) {
	user := func(uid, gid int64) *corev1.SecurityContext {
		return &corev1.SecurityContext{RunAsUser: &uid, RunAsGroup: &gid}
	}
	for name, tc := range map[string]struct {
		pod      *corev1.PodSecurityContext
		first    *corev1.SecurityContext
		uid, gid *int64
		warning  string
	}{
		"nothing said: the image's own": {nil, nil, nil, nil, ""},
		"the pod's":                     {&corev1.PodSecurityContext{RunAsUser: new(int64(7))}, nil, new(int64(7)), nil, ""},
		"the first container's":         {&corev1.PodSecurityContext{RunAsUser: new(int64(7))}, user(8, 9), new(int64(8)), new(int64(9)), ""},
		"never root":                    {&corev1.PodSecurityContext{RunAsUser: new(int64(0))}, nil, new(OperatorUID), new(OperatorUID), "runs as root"},
	} {
		t.Run(name, func(t *testing.T) {
			pod, warnings, err := Pod(podOf(func(pod *corev1.Pod) {
				pod.Spec.SecurityContext, pod.Spec.Containers[0].SecurityContext = tc.pod, tc.first
			}), inputOf())
			if err != nil {
				t.Fatal(err)
			}
			sc := container(t, pod, SlotAContainer).SecurityContext
			if diff := cmp.Diff([]*int64{tc.uid, tc.gid}, []*int64{sc.RunAsUser, sc.RunAsGroup}); diff != "" {
				t.Errorf("user and group of the slot (-want +got):\n%s", diff)
			}
			if router := container(t, pod, RouterContainer).SecurityContext; *router.RunAsUser != OperatorUID {
				t.Errorf("the router runs as %d, want %d", *router.RunAsUser, OperatorUID)
			}
			if got := strings.Join(warnings, "\n"); !strings.Contains(got, tc.warning) || (tc.warning == "") != (got == "") {
				t.Errorf("warnings %q, want %q in them", got, tc.warning)
			}
		})
	}
}

func TestO76_LocalVolumesDontHinderEviction(t *testing.T) {
	pod := mustInject(t, podOf(), inputOf())
	named := strings.Split(pod.Annotations[autoscalerAnnotation], ",")
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir != nil && !slices.Contains(named, v.Name) {
			t.Errorf("%s lacks the local volume %s", autoscalerAnnotation, v.Name)
		}
	}
}

func TestImagesAnnotationIsWhatTheContainersRun(t *testing.T) {
	for name, tc := range goldenCases {
		t.Run(name, func(t *testing.T) {
			pod := mustInject(t, tc.pod, tc.in)
			var images map[string]string
			if err := json.Unmarshal([]byte(pod.Annotations[v1alpha1.ImagesAnnotation]), &images); err != nil {
				t.Fatal(err)
			}
			for slot, c := range SlotContainers {
				if got := container(t, pod, c).Image; got != images[slot] || got == "" {
					t.Errorf("%s runs %q, its annotation says %q", c, got, images[slot])
				}
			}
		})
	}
}

func mustInject(t *testing.T, pod *corev1.Pod, in Input) *corev1.Pod {
	t.Helper()
	out, _, err := Pod(pod, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func container(t *testing.T, pod *corev1.Pod, name string) *corev1.Container {
	t.Helper()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	t.Fatalf("the pod has no container %s", name)
	return nil
}

func assertEquipped(t *testing.T, c *corev1.Container) {
	t.Helper()
	if !slices.Contains(c.Env, corev1.EnvVar{Name: SocketVariable, Value: AppSocket}) {
		t.Errorf("container %s lacks %s", c.Name, SocketVariable)
	}
	socket := corev1.VolumeMount{Name: appVolume, MountPath: appDir, ReadOnly: true}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return cmp.Equal(m, socket) }) {
		t.Errorf("container %s lacks the socket's mount", c.Name)
	}
}
