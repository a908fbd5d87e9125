package inject

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// refuseContainers says which container of the application stands in the way of the socket or of its variable, nil if
// none does. Containers that have got both already are fine.
func refuseContainers(spec *corev1.PodSpec) error {
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if slices.Contains(ownContainers, c.Name) {
			continue
		}
		for _, check := range []func(*corev1.PodSpec, *corev1.Container) error{refuseVariable, refuseMounts, refuseDevices} {
			if err := check(spec, &c); err != nil {
				return err
			}
		}
	}
	return nil
}

func refuseVariable(_ *corev1.PodSpec, c *corev1.Container) error {
	for _, e := range c.Env {
		if e.Name == SocketVariable && (e.Value != AppSocket || !mountsSocket(c)) {
			return fmt.Errorf("container %q sets %s itself, which the worker pool sets to %s; remove it from the container's env", c.Name, SocketVariable, AppSocket)
		}
	}
	return nil
}

func mountsSocket(c *corev1.Container) bool { return slices.ContainsFunc(c.VolumeMounts, isSocket) }

// isSocket reports whether injection made the mount.
func isSocket(m corev1.VolumeMount) bool {
	return m.Name == appVolume && m.MountPath == appDir && m.ReadOnly
}

func refuseMounts(spec *corev1.PodSpec, c *corev1.Container) error {
	for _, m := range c.VolumeMounts {
		at := whereItIs(m.MountPath)
		switch {
		case isSocket(m) && hasSidecars(spec):
		case strings.HasPrefix(m.Name, volumePrefix):
			return fmt.Errorf("container %q mounts volume %q, and volumes whose names begin with %s are the worker pool's own; mount another one", c.Name, m.Name, volumePrefix)
		case isBelow(at, runDir):
			return fmt.Errorf("container %q mounts volume %q at %s, and %s is the worker pool's own; mount it elsewhere", c.Name, m.Name, m.MountPath, runDir)
		case isBelow(runDir, at) && isReadOnly(spec, &m):
			return fmt.Errorf("container %q mounts volume %q read-only at %s, and the worker pool's socket has to be mounted below that, at %s, where no folder can be made; mount it elsewhere, or as a volume that can be written to", c.Name, m.Name, m.MountPath, appDir)
		}
	}
	return nil
}

// refuseDevices: below a device there are no folders at all.
func refuseDevices(_ *corev1.PodSpec, c *corev1.Container) error {
	for _, d := range c.VolumeDevices {
		if at := whereItIs(d.DevicePath); isBelow(at, runDir) || isBelow(runDir, at) {
			return fmt.Errorf("container %q has the device of volume %q at %s, and the worker pool's socket is mounted at %s; choose another devicePath", c.Name, d.Name, d.DevicePath, appDir)
		}
	}
	return nil
}

// whereItIs is where a path of a manifest leads to, as far as that can be known without the image: in nearly every
// image /var/run is a link to /run.
func whereItIs(text string) string {
	const link, target = "/var/run", "/run"
	clean := path.Clean("/" + text)
	if rest, ok := strings.CutPrefix(clean, link); ok && (rest == "" || rest[0] == '/') {
		return target + rest
	}
	return clean
}

// isBelow reports whether a clean path is the folder or something in it.
func isBelow(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, strings.TrimSuffix(folder, "/")+"/")
}

// isReadOnly reports whether a container runtime can't make a folder in the mount: it was asked for so, or the volume
// has nothing else to offer.
func isReadOnly(spec *corev1.PodSpec, m *corev1.VolumeMount) bool {
	if m.ReadOnly {
		return true
	}
	for _, v := range spec.Volumes {
		if v.Name != m.Name {
			continue
		}
		s := v.VolumeSource
		always := s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil || s.Projected != nil || s.Image != nil
		return always || strings.Contains(compact(s), `"readOnly":true`) // each kind that can be either has that field
	}
	return false
}
