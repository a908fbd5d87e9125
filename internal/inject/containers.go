package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
)

// listenPort is where the router serves the application beside its socket, on 127.0.0.1.
const listenPort = 7413

// startupWait is how long the router waits for a first snapshot before it starts from what it has.
const startupWait = "3s"

// bootstrapLimit keeps the bootstrap below what Linux takes as one environment variable (128 KiB).
const bootstrapLimit = 120 << 10

// install copies poold and the Python side into the pod. It ends before the slots start.
func install(in Input, sizes resources) corev1.Container {
	return corev1.Container{
		Name:                     InstallContainer,
		Image:                    in.Settings.OperatorImage,
		Command:                  []string{"/poold"},
		Args:                     []string{"install", "--to", binDir},
		SecurityContext:          operatorUser(),
		Resources:                sizes.router,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: binVolume, MountPath: binDir},
			noToken(),
		},
	}
}

// slot runs the user's image with the supervisor that install brought. Its probe means "the supervisor listens",
// never "workers are up": nothing that Python does may make the pod NotReady.
func slot(name string, in Input, sizes resources, user slotUser) corev1.Container {
	poold := binDir + "/poold"
	return corev1.Container{
		Name:                     SlotContainers[name],
		Image:                    slotImage(name, in),
		Command:                  []string{poold},
		Args:                     slotArgs(name, sizes),
		EnvFrom:                  slotEnvFrom(name, in),
		RestartPolicy:            new(corev1.ContainerRestartPolicyAlways),
		SecurityContext:          user.context(),
		Resources:                sizes.slot,
		StartupProbe:             probe(poold, "pool", slotSocket),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: append([]corev1.VolumeMount{
			{Name: binVolume, MountPath: binDir, ReadOnly: true},
			{Name: slotsVolume, MountPath: slotDir, SubPath: name},
			{Name: tmpVolume + name, MountPath: tmpDir},
			noToken(),
		}, workerMounts(in.Pool)...),
	}
}

func slotArgs(name string, sizes resources) []string {
	args := []string{
		"pool", "--name", name,
		"--socket", slotSocket,
		"--python-dir", binDir + "/python",
		"--max-workers", strconv.Itoa(sizes.maxWorkers),
	}
	args = append(args, sizes.tmp.args()...)
	if sizes.workerMemory > 0 {
		args = append(args, "--worker-memory", strconv.FormatInt(sizes.workerMemory, 10))
	}
	return args
}

// router starts after both slots and stops before them.
func router(pod *corev1.Pod, in Input, sizes resources, bootstrap string) corev1.Container {
	return corev1.Container{
		Name:                     RouterContainer,
		Image:                    in.Settings.OperatorImage,
		Command:                  []string{"/poold"},
		Args:                     routerArgs(pod, in),
		Env:                      append([]corev1.EnvVar{{Name: BootstrapVariable, Value: bootstrap}}, memoryLimit(sizes.router)...),
		RestartPolicy:            new(corev1.ContainerRestartPolicyAlways),
		SecurityContext:          operatorUser(),
		Resources:                sizes.router,
		StartupProbe:             probe("/poold", "router", AppSocket),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: appVolume, MountPath: appDir},
			{Name: slotsVolume, MountPath: slotsDir},
			{Name: stateVolume, MountPath: stateDir},
			{Name: identityVolume, MountPath: identityDir, ReadOnly: true},
			noToken(),
		},
	}
}

// memoryLimit tells Go's collector of the container's limit, a tenth below it.
func memoryLimit(r corev1.ResourceRequirements) []corev1.EnvVar {
	limit, ok := r.Limits[corev1.ResourceMemory]
	if !ok {
		return nil
	}
	return []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)}}
}

func routerArgs(pod *corev1.Pod, in Input) []string {
	return []string{
		"router",
		"--socket", AppSocket,
		"--listen", listenAddress(&pod.Spec),
		"--slots-dir", slotsDir,
		"--state-dir", stateDir,
		"--control-address", in.Settings.ControlAddress,
		"--ca-file", identityDir + "/" + CAKey,
		"--token-file", identityDir + "/token",
		"--pool", in.Pool.Name,
		"--pool-uid", string(in.Pool.UID),
		"--startup-wait", startupWait,
	}
}

// listenAddress is empty where the loopback is not the pod's own, or where the application has the port itself.
func listenAddress(spec *corev1.PodSpec) string {
	if spec.HostNetwork || appListens(spec) {
		return ""
	}
	return "127.0.0.1:" + strconv.Itoa(listenPort)
}

// appListens tells whether a container of the application declares the router's port.
func appListens(spec *corev1.PodSpec) bool {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, p := range c.Ports {
			if p.ContainerPort == listenPort {
				return true
			}
		}
	}
	return false
}

// probe asks poold whether a part of it answers, for at most a minute; then the container is started again.
func probe(poold, part, socket string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{poold, "probe", part, "--socket", socket}}},
		PeriodSeconds:    1,
		TimeoutSeconds:   5,
		FailureThreshold: 60,
	}
}

// bootstrapText renders the snapshot. protojson varies its white space on purpose; compacting makes it stable.
func bootstrapText(in Input) (string, error) {
	raw, err := protojson.Marshal(in.Bootstrap)
	if err != nil {
		return "", fmt.Errorf("the bootstrap configuration of WorkerPool %q can't be written: %w", in.Pool.Name, err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return "", fmt.Errorf("the bootstrap configuration of WorkerPool %q can't be written: %w", in.Pool.Name, err)
	}
	if b.Len() > bootstrapLimit {
		return "", fmt.Errorf("the bootstrap configuration of WorkerPool %q has %d bytes, more than the %d that fit into a pod; shorten spec.worker.env", in.Pool.Name, b.Len(), bootstrapLimit)
	}
	return b.String(), nil
}
