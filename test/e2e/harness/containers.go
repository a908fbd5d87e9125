package harness

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Containers are the running containers of some pods, by "pod/container".
type Containers map[string]Container

// Container tells one start of a container from another.
type Container struct {
	ID       string
	Restarts int32
}

// ContainersOf returns the containers of pods that have started and are to go on: the sidecars and the application,
// not init containers that have done their work.
func ContainersOf(pods []corev1.Pod) Containers {
	all := Containers{}
	for _, pod := range pods {
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if done := s.State.Terminated; done != nil && done.ExitCode == 0 {
				continue
			}
			all[pod.Name+"/"+s.Name] = Container{ID: s.ContainerID, Restarts: s.RestartCount}
		}
	}
	return all
}

// Changed names the containers that aren't the same as before: restarted, replaced, gone or new.
func (before Containers) Changed(now Containers) []string {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		after, there := now[name]
		switch {
		case !there:
			changed = append(changed, name+" is gone")
		case after != before[name]:
			changed = append(changed, fmt.Sprintf("%s: %d restarts → %d, id %s → %s", name,
				before[name].Restarts, after.Restarts, short(before[name].ID), short(after.ID)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, there := before[name]; !there {
			changed = append(changed, name+" is new")
		}
	}
	return changed
}

// short keeps of "containerd://<64 digits>" what people compare.
func short(id string) string {
	if len(id) > 25 {
		return id[13:25]
	}
	return id
}
