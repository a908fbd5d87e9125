package status_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/internal/status"
)

func TestWorkloads(t *testing.T) {
	owned := func(kind, name, hash string) *metav1.ObjectMeta {
		return &metav1.ObjectMeta{
			Name: "pod-1", Labels: map[string]string{"pod-template-hash": hash, "controller-revision-hash": "7c9f"}, CreationTimestamp: metav1.NewTime(t0),
			OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: name, Controller: new(true)}},
		}
	}
	for name, tc := range map[string]struct {
		pod  *metav1.ObjectMeta
		want status.Workload
	}{
		"Deployment":      {owned("ReplicaSet", "web-app-5d9f", "5d9f"), status.Workload{Kind: "deployment", Name: "web-app", Rolling: true, Template: "5d9f", Made: t0}},
		"bare ReplicaSet": {owned("ReplicaSet", "web", ""), status.Workload{Kind: "pod", Name: "pod-1"}},
		"StatefulSet":     {owned("StatefulSet", "db", ""), status.Workload{Kind: "statefulset", Name: "db", Rolling: true, Template: "7c9f", Made: t0}},
		"DaemonSet":       {owned("DaemonSet", "agent", ""), status.Workload{Kind: "daemonset", Name: "agent", Rolling: true, Template: "7c9f", Made: t0}},
		"Job":             {owned("Job", "batch", ""), status.Workload{Kind: "pod", Name: "pod-1"}},
		"no owner at all": {&metav1.ObjectMeta{Name: "pod-1"}, status.Workload{Kind: "pod", Name: "pod-1"}},
	} {
		if got := status.WorkloadOf(tc.pod); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}
