package inject

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func TestPodRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(*corev1.Pod)
		in   func(*Input)
		want []string // all of them are in the message
	}{
		"own container's name": {
			pod:  func(p *corev1.Pod) { p.Spec.Containers[0].Name = "pool-a" },
			want: []string{`"pool-a"`, "rename it"},
		},
		"own volume's name": {
			pod:  func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "workerpool-bin"}} },
			want: []string{`"workerpool-bin"`, "rename it"},
		},
		"own variable": {
			pod:  func(p *corev1.Pod) { p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WORKERPOOL_SOCKET"}} },
			want: []string{`"web"`, "WORKERPOOL_SOCKET", "remove it"},
		},
		"own path, in an init container": {
			pod: func(p *corev1.Pod) {
				p.Spec.InitContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/run/workerpool/app/"}}
			},
			want: []string{`"migrate"`, "/run/workerpool", "mount it elsewhere"},
		},
		"parent of own path": {
			pod: func(p *corev1.Pod) {
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/run/workerpool"}}
			},
			want: []string{`"web"`, "mount it elsewhere"},
		},
		"own path, by the usual link": {
			pod:  mounting("/var/run/workerpool/app", false),
			want: []string{`"web"`, "/var/run/workerpool/app", "mount it elsewhere"},
		},
		"own path, written oddly": {
			pod:  mounting("//run/./x/../workerpool//", false),
			want: []string{`"web"`, "//run/./x/../workerpool//", "mount it elsewhere"},
		},
		"own path, relative": {
			pod:  mounting("run/workerpool", false),
			want: []string{`"web"`, "mount it elsewhere"},
		},
		"the router's own volume": {
			pod: func(p *corev1.Pod) {
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "workerpool-identity", MountPath: "/steal"}}
			},
			want: []string{`"web"`, `"workerpool-identity"`, "mount another one"},
		},
		"a device in the way": {
			pod: func(p *corev1.Pod) {
				p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "disk", DevicePath: "/run"}}
			},
			want: []string{`"web"`, `"disk"`, "devicePath"},
		},
		"no containers": {
			pod:  func(p *corev1.Pod) { p.Spec.Containers = nil },
			want: []string{"no containers"},
		},
		"static pod": {
			pod:  func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} },
			want: []string{"static pod", "remove the pool's label"},
		},
		"Windows by os": {
			pod:  func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} },
			want: []string{"Windows", "remove the pool's label"},
		},
		"Windows by node selector": {
			pod:  func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"} },
			want: []string{"Windows"},
		},
		"a volume that workers want, of no pod that has any": {
			in: func(in *Input) {
				in.Pool.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "models", MountPath: "/models"}}
			},
			want: []string{"spec.worker.volumeMounts", `"summarizer"`, `"models" at /models`, "there is: none", "pod template's volumes"},
		},
		"a volume that workers want, by another name": {
			pod: volumesNamed("model", "scratch"),
			in: func(in *Input) {
				in.Pool.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "scratch", MountPath: "/s"}, {Name: "models", MountPath: "/models"}}
			},
			want: []string{`"models"`, "there is: model, scratch"},
		},
		"bootstrap too large": {
			in: func(in *Input) {
				in.Bootstrap.Slots[0].Revision.Env = []*controlpb.EnvVar{{Name: "X", Value: strings.Repeat("x", bootstrapLimit)}}
			},
			want: []string{`"summarizer"`, "spec.worker.env"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, in := podOf(), inputOf()
			if tc.pod != nil {
				tc.pod(pod)
			}
			if tc.in != nil {
				tc.in(&in)
			}
			_, _, err := Pod(pod, in)
			if err == nil {
				t.Fatal("the pod was accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message %q lacks %q", err, want)
				}
			}
		})
	}
}

// mounting has the application's first container mount an emptyDir.
func mounting(at string, readOnly bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		volumesNamed("x")(p)
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: at, ReadOnly: readOnly}}
	}
}

// Where a volume that can't be written to covers a folder above the socket's, the runtime can't make the latter, and the
// container doesn't start (RunContainerError).
func TestReadOnlyMountsAboveTheSocketAreRefused(t *testing.T) {
	of := func(source corev1.VolumeSource) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			mounting("/run", false)(p)
			p.Spec.Volumes[0].VolumeSource = source
		}
	}
	for name, change := range map[string]func(*corev1.Pod){
		"/run":               mounting("/run", true),
		"/var/run":           mounting("/var/run", true),
		"/":                  mounting("/", true),
		"a slash at the end": mounting("/run/", true),
		"two slashes":        mounting("/var//run//", true),
		"dots":               mounting("/srv/../run/.", true),
		"in an init container": func(p *corev1.Pod) {
			mounting("/run", true)(p)
			p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, p.Spec.InitContainers
		},
		"a ConfigMap":          of(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}),
		"a Secret":             of(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}),
		"projected":            of(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}),
		"the pod's own fields": of(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}),
		"an image":             of(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}),
		"a read-only claim":    of(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c", ReadOnly: true}}),
		"read-only by CSI":     of(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d", ReadOnly: new(true)}}),
	} {
		t.Run(name, func(t *testing.T) {
			pod := podOf(change)
			_, _, err := Pod(pod, inputOf())
			if err == nil {
				t.Fatal("the pod was accepted")
			}
			for _, want := range []string{`"web"`, `"x"`, "read-only at", appDir, "mount it elsewhere"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message %q lacks %q", err, want)
				}
			}
		})
	}
}

// A container that another webhook adds after injection is looked at as all others were.
func TestContainersThatComeLaterAreRefusedLikewise(t *testing.T) {
	once := mustInject(t, podOf(), inputOf())
	for name, tc := range map[string]struct {
		mount corev1.VolumeMount
		want  string
	}{
		"in the way":       {corev1.VolumeMount{Name: "x", MountPath: "/run", ReadOnly: true}, "read-only at /run"},
		"the router's own": {corev1.VolumeMount{Name: identityVolume, MountPath: "/steal"}, identityVolume},
	} {
		t.Run(name, func(t *testing.T) {
			later := once.DeepCopy()
			later.Spec.Containers = append(later.Spec.Containers, corev1.Container{Name: "proxy", VolumeMounts: []corev1.VolumeMount{tc.mount}})
			if _, _, err := Pod(later, inputOf()); err == nil || !strings.Contains(err.Error(), `"proxy"`) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want a refusal that names the container, and %s", err, tc.want)
			}
		})
	}
}

func TestPathsThatOnlyLookLikeOursAreAccepted(t *testing.T) {
	pod := podOf(volumesNamed("y"), func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
			{Name: "x", MountPath: "/run/workerpools"}, {Name: "y", MountPath: "/run"}, {Name: "z", MountPath: "/runs", ReadOnly: true},
			{Name: "z", MountPath: "/run/secrets", ReadOnly: true}, {Name: "z", MountPath: "/var/runs", ReadOnly: true},
		}
		p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
		p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
	})
	mustInject(t, pod, inputOf())
}

func TestSidecarsOfAnotherPoolAreRefused(t *testing.T) {
	once := mustInject(t, podOf(), inputOf())
	_, _, err := Pod(once, inputOf(func(in *Input) { in.Pool.UID = "uid-2" }))
	if err == nil || !strings.Contains(err.Error(), "uid-1") || !strings.Contains(err.Error(), v1alpha1.InjectedAnnotation) {
		t.Errorf("a pod injected for another pool gave %v, want a refusal that names its UID and the annotation", err)
	}
}

func TestAnnotationWithoutSidecarsDoesNotOptOut(t *testing.T) {
	pod := podOf(func(p *corev1.Pod) { p.Annotations = map[string]string{v1alpha1.InjectedAnnotation: "uid-0"} })
	out := mustInject(t, pod, inputOf())
	if got := out.Annotations[v1alpha1.InjectedAnnotation]; got != "uid-1" || !hasSidecars(&out.Spec) {
		t.Errorf("annotation %q, sidecars %v; want a freshly injected pod", got, hasSidecars(&out.Spec))
	}
}

func TestWarnings(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  func(*corev1.Pod)
		in   func(*Input)
		want string // "": none
	}{
		"none": {},
		"grace period as long as the drain": {
			pod: func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(30)) },
		},
		"grace period shorter than the drain": {
			pod:  func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(29)) },
			want: "terminationGracePeriodSeconds is 29",
		},
		"host network with its DNS": {
			pod: func(p *corev1.Pod) {
				p.Spec.HostNetwork, p.Spec.DNSPolicy = true, corev1.DNSClusterFirstWithHostNet
			},
			want: "host's network",
		},
		"port taken": {
			pod:  func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 7413}} },
			want: "port 7413",
		},
		"no cluster DNS": {
			pod:  func(p *corev1.Pod) { p.Spec.DNSPolicy = corev1.DNSDefault },
			want: "dnsPolicy",
		},
		"Guaranteed, workers without limits": {
			pod:  everyContainer(nil, quantities("cpu", "1", "memory", "1Gi")),
			want: "becomes Burstable",
		},
		"limits, workers without": {
			pod:  everyContainer(quantities("cpu", "100m", "memory", "1Gi"), quantities("cpu", "1", "memory", "1Gi")),
			in:   workers(quantities("cpu", "100m"), nil),
			want: "limits for cpu and memory and the workers have none",
		},
		"cpu requests, workers without": {
			pod:  everyContainer(quantities("cpu", "1"), nil),
			want: "HorizontalPodAutoscaler",
		},
		"pod-level resources, workers without limits": {
			pod: func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Limits: quantities("memory", "1Gi")}
			},
			want: "spec.worker.resources",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, in := podOf(), inputOf()
			if tc.pod != nil {
				tc.pod(pod)
			}
			if tc.in != nil {
				tc.in(&in)
			}
			_, warnings, err := Pod(pod, in)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" && len(warnings) > 0 {
				t.Errorf("unexpected warnings: %q", warnings)
			}
			if tc.want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tc.want)) {
				t.Errorf("warnings %q, want one with %q", warnings, tc.want)
			}
		})
	}
}

func TestListenAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"ordinary":     {func(*corev1.Pod) {}, "127.0.0.1:7413"},
		"host network": {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, ""},
		"port taken": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 7413}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := listenAddress(&podOf(tc.change).Spec); got != tc.want {
				t.Errorf("listenAddress = %q, want %q", got, tc.want)
			}
		})
	}
}
