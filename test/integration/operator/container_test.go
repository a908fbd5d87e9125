//go:build integration

package operator

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// A pod that was made before the change and doesn't run yet would join with the canary in force.
func TestAPodThatDoesNotRunYetWaitsToo(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	running := newScript()
	suits := map[string]string{v1alpha1.EnvFromAnnotation: `{"b":"secret/llm-keys"}`}
	w.connect(w.pod("running", pool, func(p *corev1.Pod) { maps.Copy(p.Annotations, suits) }), running)
	w.awaitReady("main", "Promoted")
	coming := w.pod("coming", pool, nil)
	coming.Status.Phase = corev1.PodPending
	w.must(server.Client.Status().Update(testContext(t), coming))
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}
	})
	w.awaitReady("main", "PodsOutdated")
	if in := running.inForce(); in.GetCanary() != "" {
		t.Errorf("the canary is in force: %v", in)
	}
	w.must(server.Client.Delete(testContext(t), coming, client.GracePeriodSeconds(0)))
	w.awaitReady("main", "Promoted")
}

// What the kubelet gives to a container can't change while it lives: the canary's slot waits for new pods.
func TestOtherVariablesAndVolumesWaitForNewPods(t *testing.T) {
	startOperator(t)
	for name, tc := range map[string]struct {
		change      func(*v1alpha1.WorkerPoolSpec)
		annotations map[string]string // of a pod that is injected after the change
		why         string
		envFrom     string // the stable's, then
	}{
		"envFrom": {
			func(s *v1alpha1.WorkerPoolSpec) {
				s.Worker.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}
			},
			map[string]string{v1alpha1.EnvFromAnnotation: `{"b":"secret/llm-keys"}`},
			"another worker.envFrom", "secret/llm-keys",
		},
		"volumeMounts, with a revision that needs them": {
			func(s *v1alpha1.WorkerPoolSpec) {
				s.Worker.Module = "demo.models"
				s.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "models", MountPath: "/models"}}
			},
			map[string]string{v1alpha1.MountsAnnotation: `[{"name":"models","mountPath":"/models"}]`},
			"other worker.volumeMounts", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			pool := w.pool("main", nil)
			old := newScript()
			disconnect := w.connect(w.pod("old", pool, nil), old)
			w.awaitReady("main", "Promoted")
			w.change("main", tc.change)
			outdated := w.awaitReady("main", "PodsOutdated")
			message := condition(outdated, v1alpha1.ConditionStalled).Message
			if outdated.Status.Pods.Outdated != 1 || !strings.Contains(message, tc.why) || !strings.Contains(message, "kubectl delete -n "+w.namespace+" pod/old") {
				t.Errorf("outdated %d, message: %s", outdated.Status.Pods.Outdated, message)
			}
			if in := old.inForce(); in.GetCanary() != "" || in.GetSlots()[1].GetRevision() != nil {
				t.Errorf("the old pod was told to run the new revision: %v", in)
			}

			disconnect()
			w.must(server.Client.Delete(testContext(t), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "old"}}, client.GracePeriodSeconds(0)))
			w.connect(w.pod("new", pool, func(p *corev1.Pod) { maps.Copy(p.Annotations, tc.annotations) }), newScript())
			if got := w.awaitReady("main", "Promoted"); got.Status.Stable.Slot != "b" || got.Status.Stable.EnvFrom != tc.envFrom {
				t.Errorf("stable %+v", got.Status.Stable)
			}
		})
	}
}
