package harness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"
)

func TestChoiceOfCluster(t *testing.T) {
	for choice, want := range map[string]string{"": "", "local": "", "existing": "", "kind": `CLUSTER is "kind"`} {
		t.Setenv("CLUSTER", choice)
		if err := checkChoice(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CLUSTER=%s: %v, want %q", choice, err, want)
		}
	}
}

func TestRecentEnough(t *testing.T) {
	for version, want := range map[[2]string]bool{
		{"1", "33"}: true, {"1", "34+"}: true, {"1", "37"}: true, {"1", "32"}: false, {"1", "28+"}: false, {"2", "0"}: false, {"1", "x"}: false,
	} {
		if err := recentEnough(version[0], version[1]); (err == nil) != want {
			t.Errorf("%v: %v, want taken: %v", version, err, want)
		}
	}
}

func TestImagesFromEnv(t *testing.T) {
	for name, image := range map[string]string{"OPERATOR_IMAGE": "", "WORKER_IMAGE": "r/worker:1", "SAMPLES_IMAGE": "", "CLUSTER": ""} {
		t.Setenv(name, image)
	}
	if got := ImagesFromEnv(); got != assembled {
		t.Errorf("local: %+v, want what hack/images assembles", got)
	}
	t.Setenv("CLUSTER", "existing")
	if got := ImagesFromEnv(); got.Worker != "r/worker:1" || got.Operator != assembled.Operator || got.Samples != assembled.Samples {
		t.Errorf("existing: %+v, want the worker's from the environment", got)
	}
}

func TestExistingWithoutContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kubeconfig := range map[string]string{"no current context": path, "no file": path + ".missing"} {
		t.Setenv("KUBECONFIG", kubeconfig)
		if _, err := connectExisting(); err == nil || !strings.Contains(err.Error(), "no current context; choose one with") {
			t.Errorf("%s: %v, want a refusal that helps", name, err)
		}
	}
}

func TestNotThisMachine(t *testing.T) {
	t.Setenv("CLUSTER", "existing")
	if _, err := Processes(&corev1.Pod{}); !errors.Is(err, ErrNotThisMachine) {
		t.Errorf("Processes: %v", err)
	}
	if _, err := (&Cluster{existing: true}).InNode(t.Context(), "true"); !errors.Is(err, ErrNotThisMachine) {
		t.Errorf("InNode: %v", err)
	}
}

func TestOverlay(t *testing.T) {
	c := &Cluster{checkout: t.TempDir(), Images: assembled}
	if folder, err := c.Manifests(); err != nil || folder != "config/default" {
		t.Errorf("assembled images: %s, %v; want config/default as it is", folder, err)
	}
	c.Images.Operator, c.Images.Worker = "r:5000/op@sha256:1", "r/worker:1"
	folder, err := c.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(c.Path(folder, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct {
		Resources []string
		Patches   []struct{ Patch string }
	}
	var deployment appsv1.Deployment
	if err := yaml.Unmarshal(content, &kustomization); err != nil || len(kustomization.Patches) != 1 {
		t.Fatalf("%v\n%s", err, content)
	}
	if err := yaml.Unmarshal([]byte(kustomization.Patches[0].Patch), &deployment); err != nil {
		t.Fatal(err)
	}
	manager := deployment.Spec.Template.Spec.Containers[0]
	if manager.Image != c.Images.Operator || manager.Env[0].Value != c.Images.Worker {
		t.Errorf("the overlay has %+v, want %+v", manager, c.Images)
	}
}

// What somebody else made in an existing cluster is neither emptied nor replaced.
func TestExistingKeepsWhatIsNotOurs(t *testing.T) {
	theirs := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}},
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: OperatorName, Namespace: OperatorNamespace}},
	}
	c := &Cluster{existing: true, context: "prod", WithWatch: fake.NewClientBuilder().WithObjects(theirs...).Build()}
	if err := c.EmptyNamespace(t.Context(), "theirs", nil); err == nil || !strings.Contains(err.Error(), "namespace theirs that demo and tests didn't make") {
		t.Errorf("their namespace: %v, want a refusal", err)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Name: "theirs"}, &corev1.Namespace{}); err != nil {
		t.Errorf("their namespace afterwards: %v", err)
	}
	if err := c.checkOperator(t.Context()); err == nil || !strings.Contains(err.Error(), "make undeploy") {
		t.Errorf("their operator: %v, want a refusal", err)
	}
	for range 2 { // the second time it is ours, and made anew
		if err := c.EmptyNamespace(context.WithoutCancel(t.Context()), "ours", nil); err != nil {
			t.Errorf("our namespace: %v", err)
		}
	}
}

func TestPulled(t *testing.T) {
	pod := imageProbe("n", Images{Operator: "r/op:1", Worker: "r/w:1", Samples: "r/s:1"})
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "no such host"}}
	}
	ended := func(reason string, at metav1.Time) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, StartedAt: at}}
	}
	for name, tc := range map[string]struct {
		state corev1.ContainerState
		done  bool
		says  string
	}{
		"running":              {running, true, ""},
		"ended after a start":  {ended("Error", metav1.Now()), true, ""},
		"being created":        {waiting("ContainerCreating"), false, ""},
		"first attempt failed": {waiting("ErrImagePull"), false, ""},
		"not to be had":        {waiting("ImagePullBackOff"), false, "can't get image r/w:1 (ImagePullBackOff: no such host); push it"},
		"no image's name":      {waiting("InvalidImageName"), false, "set WORKER_IMAGE"},
		"another platform":     {ended("StartError", metav1.Now()), false, "doesn't start"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := pod.DeepCopy()
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{
				{Name: "operator", ImageID: "sha256:1", State: running}, {Name: "worker", ImageID: "sha256:2", State: tc.state},
			}
			seen, err := pulled(pod)
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if err == nil && (seen["worker"] == "sha256:2") != tc.done {
				t.Errorf("seen %v, want the worker's: %v", seen, tc.done)
			}
		})
	}
}
