package status

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Workload is what makes a pod, as kubectl names it, and whether it can be restarted as a whole.
type Workload struct {
	Kind, Name string
	Rolling    bool
}

// WorkloadOf reads it from a pod's owner. A Deployment's pods belong to a ReplicaSet whose name is the Deployment's
// with the hash of the template, which the pod has as a label.
func WorkloadOf(pod metav1.Object) Workload {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return Workload{Kind: "pod", Name: pod.GetName()}
	}
	hash := pod.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey]
	switch name, trimmed := strings.CutSuffix(owner.Name, "-"+hash); {
	case owner.Kind == "ReplicaSet" && hash != "" && trimmed:
		return Workload{Kind: "deployment", Name: name, Rolling: true}
	case owner.Kind == "StatefulSet", owner.Kind == "DaemonSet":
		return Workload{Kind: strings.ToLower(owner.Kind), Name: owner.Name, Rolling: true}
	}
	return Workload{Kind: "pod", Name: pod.GetName()}
}

// remedy is the line that gives pods new sidecars: a rolling restart of their workloads, or, for those that nothing
// restarts, deleting them.
func remedy(namespace string, pods []*Pod) string {
	var restart, remove []string
	for _, p := range pods {
		name := p.Workload.Kind + "/" + p.Workload.Name
		if p.Workload.Rolling {
			restart = append(restart, name)
		} else {
			remove = append(remove, name)
		}
	}
	var lines []string
	if names := distinct(restart); names != "" {
		lines = append(lines, fmt.Sprintf("kubectl rollout restart -n %s %s", namespace, names))
	}
	if names := distinct(remove); names != "" {
		lines = append(lines, fmt.Sprintf("kubectl delete -n %s %s", namespace, names))
	}
	return strings.Join(lines, " && ")
}

// maxNamed is how many pods or workloads a message names.
const maxNamed = 5

func distinct(names []string) string {
	slices.Sort(names)
	names = slices.Compact(names)
	return strings.Join(names[:min(len(names), maxNamed)], " ")
}

// named lists pods in a message: the first few, and how many more.
func named(pods []*Pod) string {
	names := make([]string, 0, len(pods))
	for _, p := range pods {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}
