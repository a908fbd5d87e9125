package status_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/status"
)

// What a pod's containers were made with tells why it is outdated; the way out is the same.
func TestWhatOutdatedPodsLack(t *testing.T) {
	envFrom := func(p *status.Pod) { p.EnvFrom = map[string]string{"a": "secret/old-keys"} }
	image := func(p *status.Pod) { p.Images = map[string][]string{"a": {"shop/worker:2"}} }
	mounts := func(p *status.Pod) { p.OtherMounts = true }
	for what, changes := range map[string][]func(*status.Pod){
		"an older image":            {image},
		"another worker.envFrom":    {envFrom},
		"other worker.volumeMounts": {mounts},
		"an older image or another worker.envFrom or other worker.volumeMounts": {image, envFrom, mounts},
	} {
		t.Run(what, func(t *testing.T) {
			outdated := edit(pod("one", v1), func(p *status.Pod) {
				for _, change := range changes {
					change(p)
				}
			})
			got := status.Of(status.Input{Pool: pool(), Decision: promoted(), Pods: []status.Pod{outdated, pod("two", v1)}, Now: t0})
			stalled := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionStalled)
			want := "1 of 2 pods have a slot with " + what + " (one); run: kubectl rollout restart -n shop deployment/web"
			if stalled == nil || stalled.Reason != "PodsOutdated" || stalled.Message != want || got.Pods.Outdated != 1 {
				t.Errorf("%d outdated, Stalled %+v; want %q", got.Pods.Outdated, stalled, want)
			}
			if ready := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, want) {
				t.Errorf("Ready says %q", ready.Message)
			}
		})
	}
}
