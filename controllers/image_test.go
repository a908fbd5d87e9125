package controllers

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"
)

func TestSidecarsComeFromTheImageThatTheOperatorRuns(t *testing.T) {
	containers := func(pairs ...string) (list []corev1.Container) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, corev1.Container{Name: pairs[i], Image: pairs[i+1]})
		}
		return list
	}
	const digest = "mirror.example.com/operator:2@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for name, tc := range map[string]struct {
		containers []corev1.Container
		want, err  string
	}{
		"as it is deployed":       {containers("manager", "registry.example.com/operator:2"), "registry.example.com/operator:2", ""},
		"by digest":               {containers("manager", digest), digest, ""},
		"beside others":           {containers("istio-proxy", "proxy:1", "manager", "operator:2"), "operator:2", ""},
		"the only one, renamed":   {containers("operator", "operator:2"), "operator:2", ""},
		"renamed, beside another": {containers("operator", "operator:2", "proxy", "proxy:1"), "", "there is: operator, proxy); name it so, or set --operator-image"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "workerpool-system", Name: "operator-1"},
				Spec:       corev1.PodSpec{Containers: tc.containers},
				// What the runtime calls it can be no name that other nodes can pull.
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "manager", Image: "sha256:1", ImageID: "sha256:1"}}},
			}
			got, err := OwnImage(t.Context(), fake.NewClientBuilder().WithObjects(pod).Build(), client.ObjectKeyFromObject(pod))
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tc.want, tc.err)
			}
		})
	}
	if _, err := OwnImage(t.Context(), nil, client.ObjectKey{Namespace: "workerpool-system"}); err == nil || !strings.Contains(err.Error(), "--operator-image") {
		t.Errorf("outside of a pod: %v, want the way out", err)
	}
}

// kustomize's images: renames what is in the field image, and nothing else.
func TestTheDeploymentNamesTheOperatorsImageOnce(t *testing.T) {
	text, err := os.ReadFile("../config/manager/manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deployment := &appsv1.Deployment{}
	first, _, _ := bytes.Cut(text, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(first, deployment); err != nil {
		t.Fatal(err)
	}
	image, err := managerImage(&corev1.Pod{Spec: deployment.Spec.Template.Spec})
	if err != nil || bytes.Count(text, []byte(image)) != 1 {
		t.Errorf("%q stands %d times in the manifest, want once; %v", image, bytes.Count(text, []byte(image)), err)
	}
	env := deployment.Spec.Template.Spec.Containers[0].Env
	for _, name := range []string{"POD_NAME", "POD_NAMESPACE"} {
		if !slices.ContainsFunc(env, func(e corev1.EnvVar) bool { return e.Name == name && e.ValueFrom != nil }) {
			t.Errorf("the manager isn't told its %s", name)
		}
	}
}
