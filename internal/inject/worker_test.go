package inject

import (
	"slices"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
)

// An idle slot is made for the stable: most next revisions have their variables from the same objects.
func TestAnIdleSlotHasTheStablesVariables(t *testing.T) {
	pod := mustInject(t, podOf(), inputOf(func(in *Input) {
		in.Workers = map[string]revision.Worker{"a": {EnvFrom: []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}}}
	}))
	for _, name := range []string{SlotAContainer, SlotBContainer} {
		if from := container(t, pod, name).EnvFrom; len(from) != 1 || from[0].SecretRef.Name != "llm-keys" {
			t.Errorf("%s has its variables from %+v, want Secret llm-keys", name, from)
		}
	}
	if got, want := pod.Annotations[v1alpha1.EnvFromAnnotation], `{"a":"secret/llm-keys","b":"secret/llm-keys"}`; got != want {
		t.Errorf("annotation %s, want %s", got, want)
	}
}

// P54: what a Secret gives to the workers is nobody else's.
func TestP54_OnlySlotsReadTheWorkersSecrets(t *testing.T) {
	tc := goldenCases["canary-from-other-secrets"]
	pod := mustInject(t, tc.pod, tc.in)
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		slot := c.Name == SlotAContainer || c.Name == SlotBContainer
		if (len(c.EnvFrom) > 0) != slot {
			t.Errorf("%s has variables from %+v", c.Name, c.EnvFrom)
		}
	}
	for _, e := range container(t, pod, RouterContainer).Env {
		if strings.Contains(e.Value, "llm-keys") {
			t.Errorf("the router is told of the Secret: %s", e.Value)
		}
	}
}

// What is recorded of a pod's mounts is the same however the spec orders them.
func TestOrderOfMountsMeansNothing(t *testing.T) {
	pool := inputOf().Pool
	if got := Mounts(pool); got != "" {
		t.Errorf("without mounts: %s", got)
	}
	one, other := v1alpha1.VolumeMount{Name: "x", MountPath: "/x"}, v1alpha1.VolumeMount{Name: "a", MountPath: "/y", ReadOnly: true}
	pool.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{other, one}
	before := Mounts(pool)
	if pool.Spec.Worker.VolumeMounts[0] != other {
		t.Error("the spec was reordered")
	}
	pool.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{one, other}
	if after := Mounts(pool); before != after || before != `[{"name":"x","mountPath":"/x"},{"name":"a","mountPath":"/y","readOnly":true}]` {
		t.Errorf("%s, then %s", before, after)
	}
}
