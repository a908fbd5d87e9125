package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// slotEnvFrom is where a slot's container has variables from. The kubelet reads them, and the workers inherit them from
// the supervisor; neither router nor operator ever sees one.
func slotEnvFrom(name string, in Input) []corev1.EnvFromSource {
	var sources []corev1.EnvFromSource
	for _, s := range slotWorker(name, in).EnvFrom {
		source := corev1.EnvFromSource{Prefix: s.Prefix}
		if ref := s.ConfigMapRef; ref != nil {
			source.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: objectNamed(ref), Optional: optional(ref)}
		}
		if ref := s.SecretRef; ref != nil {
			source.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: objectNamed(ref), Optional: optional(ref)}
		}
		sources = append(sources, source)
	}
	return sources
}

func objectNamed(ref *v1alpha1.EnvFromRef) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: ref.Name}
}

func optional(ref *v1alpha1.EnvFromRef) *bool {
	if !ref.Optional {
		return nil
	}
	return new(true)
}

// slotSources are, by slot, what EnvFromAnnotation records; a slot without any is left out.
func slotSources(in Input) map[string]string {
	sources := map[string]string{}
	for name := range SlotContainers {
		if text := slotWorker(name, in).Sources(); text != "" {
			sources[name] = text
		}
	}
	return sources
}

// workerMounts are the volumes of the pod that both slots see.
func workerMounts(pool *v1alpha1.WorkerPool) []corev1.VolumeMount {
	var mounts []corev1.VolumeMount
	for _, m := range pool.Spec.Worker.VolumeMounts {
		mounts = append(mounts, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath, SubPath: m.SubPath, ReadOnly: m.ReadOnly})
	}
	return mounts
}

// Mounts is what MountsAnnotation records of a pod that is injected for the pool as it is now; empty: no mounts. Their
// order means nothing.
func Mounts(pool *v1alpha1.WorkerPool) string {
	mounts := slices.Clone(pool.Spec.Worker.VolumeMounts)
	if len(mounts) == 0 {
		return ""
	}
	slices.SortFunc(mounts, func(a, b v1alpha1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	return compact(mounts)
}

// refuseMissingVolumes names the volume that the pool's workers want and the pod hasn't.
func refuseMissingVolumes(spec *corev1.PodSpec, pool *v1alpha1.WorkerPool) error {
	there := make([]string, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		there = append(there, v.Name)
	}
	for _, m := range pool.Spec.Worker.VolumeMounts {
		if slices.Contains(there, m.Name) {
			continue
		}
		has := "none"
		if len(there) > 0 {
			has = strings.Join(there, ", ")
		}
		return fmt.Errorf("spec.worker.volumeMounts of WorkerPool %q mounts volume %q at %s, which the pod doesn't have (there is: %s); add it to the pod template's volumes, or correct the WorkerPool",
			pool.Name, m.Name, m.MountPath, has)
	}
	return nil
}
