package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// refuse says why a pod can't have a pool, nil if it can.
func refuse(pod *corev1.Pod) error {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return fmt.Errorf("the pod is a static pod, which its node runs as its file says; remove the pool's label, or run it as a DaemonSet")
	}
	for _, check := range []func(*corev1.PodSpec) error{
		refuseEmpty, refuseWindows, refuseOwnContainers, refuseOwnVolumes, refuseContainers,
	} {
		if err := check(&pod.Spec); err != nil {
			return err
		}
	}
	return nil
}

// refuseEmpty is here because admission comes before validation.
func refuseEmpty(spec *corev1.PodSpec) error {
	if len(spec.Containers) == 0 {
		return fmt.Errorf("the pod has no containers; give it at least one")
	}
	return nil
}

func refuseWindows(spec *corev1.PodSpec) error {
	if (spec.OS != nil && spec.OS.Name == corev1.Windows) || spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) {
		return fmt.Errorf("the pod is for Windows, and worker pools run on Linux only; remove the pool's label or the pod's os and nodeSelector")
	}
	return nil
}

func refuseOwnContainers(spec *corev1.PodSpec) error {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if slices.Contains(ownContainers, c.Name) {
			return fmt.Errorf("the pod has a container named %q, a name that the worker pool's own containers bear; rename it", c.Name)
		}
	}
	return nil
}

func refuseOwnVolumes(spec *corev1.PodSpec) error {
	for _, v := range spec.Volumes {
		if strings.HasPrefix(v.Name, volumePrefix) {
			return fmt.Errorf("the pod has a volume named %q, and names that begin with %s are the worker pool's own; rename it", v.Name, volumePrefix)
		}
	}
	return nil
}
