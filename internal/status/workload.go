package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Workload is what makes a pod, as kubectl names it, and whether it can be restarted as a whole.
type Workload struct {
	Kind, Name string
	Rolling    bool
	// Template names the version of the pod template that a pod is of; empty: its workload has but one. Made is when the pod was.
	Template string
	Made     time.Time
}

// WorkloadOf reads it from a pod's owner. A Deployment's pods belong to a ReplicaSet whose name is the Deployment's
// with the hash of the template, which the pod has as a label.
func WorkloadOf(pod metav1.Object) Workload {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return Workload{Kind: "pod", Name: pod.GetName()}
	}
	hash, made := pod.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey], pod.GetCreationTimestamp().Time
	switch name, trimmed := strings.CutSuffix(owner.Name, "-"+hash); {
	case owner.Kind == "ReplicaSet" && hash != "" && trimmed:
		return Workload{Kind: "deployment", Name: name, Rolling: true, Template: hash, Made: made}
	case owner.Kind == "StatefulSet", owner.Kind == "DaemonSet":
		template := pod.GetLabels()[appsv1.ControllerRevisionHashLabelKey]
		return Workload{Kind: strings.ToLower(owner.Kind), Name: owner.Name, Rolling: true, Template: template, Made: made}
	}
	return Workload{Kind: "pod", Name: pod.GetName()}
}

// MakerOf is the workload that an object which makes pods is of, or is itself: a Deployment's ReplicaSet has its name and the
// template's hash.
func MakerOf(kind string, object metav1.Object) Workload {
	hash := object.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey]
	if name, trimmed := strings.CutSuffix(object.GetName(), "-"+hash); kind == "ReplicaSet" && hash != "" && trimmed {
		return Workload{Kind: "deployment", Name: name, Rolling: true}
	}
	return Workload{Kind: strings.ToLower(kind), Name: object.GetName()}
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
