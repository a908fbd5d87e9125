//go:build integration

package injection

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/controllers"
	"github.com/dspex/workerpool-operator/internal/inject"
)

// podFor is a pod that opts in, unless pool is empty.
func podFor(namespace, pool string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "app-", Labels: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "shop:1"}}},
	}
	if pool != "" {
		pod.Labels[v1alpha1.PoolLabel] = pool
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func createPool(t *testing.T, namespace, name string, change ...func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPool {
	t.Helper()
	pool := &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.WorkerPoolSpec{
			PoolVersion: v1alpha1.PoolV2, Size: 4, Worker: v1alpha1.Worker{Module: "summarizer.commands"},
		},
	}
	for _, f := range change {
		f(&pool.Spec)
	}
	if err := server.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

func create(t *testing.T, pod *corev1.Pod, options ...client.CreateOption) *corev1.Pod {
	t.Helper()
	if err := server.Client.Create(t.Context(), pod, options...); err != nil {
		t.Fatal(err)
	}
	return pod
}

func sidecars(pod *corev1.Pod) []corev1.Container {
	ours := []string{inject.InstallContainer, inject.SlotAContainer, inject.SlotBContainer, inject.RouterContainer}
	return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
		return !slices.Contains(ours, c.Name)
	})
}

// TestO72_MissingPool: the pod is refused with the pools that exist, and accepted in the moment in which its pool does.
func TestO72_MissingPool(t *testing.T) {
	namespace := server.Namespace(t, nil)
	createPool(t, namespace, "summarizer")
	err := server.Client.Create(t.Context(), podFor(namespace, "sumarizer"))
	if err == nil {
		t.Fatal("a pod whose label names no pool was accepted")
	}
	want := fmt.Sprintf(`denied the request: pod label pool.dspex.dev/pool names WorkerPool "sumarizer", which doesn't exist in namespace %q (there is: summarizer). Create it, or correct the label.`, namespace)
	if !strings.HasSuffix(err.Error(), want) {
		t.Errorf("message\n%v\nlacks\n%s", err, want)
	}
	createPool(t, namespace, "sumarizer")
	if n := len(sidecars(create(t, podFor(namespace, "sumarizer")))); n != 4 {
		t.Errorf("%d sidecars right after the pool was created, want 4", n)
	}
}

func TestO58_PoolOfAnotherNamespace(t *testing.T) {
	createPool(t, server.Namespace(t, nil), "far")
	err := server.Client.Create(t.Context(), podFor(server.Namespace(t, nil), "far"))
	if err == nil || !strings.Contains(err.Error(), "there is: none") {
		t.Errorf("got %v, want a refusal: a label names a pool of its own namespace only", err)
	}
}

// TestO49_WebhookDown: whoever didn't opt in doesn't notice; whoever did isn't started without the sidecars.
func TestO49_WebhookDown(t *testing.T) {
	namespace := server.Namespace(t, nil)
	createPool(t, namespace, "summarizer")
	nobody, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	if err := pointWebhook(t.Context(), nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := first.serveWebhook(context.Background()); err != nil {
			t.Error(err)
		}
	})
	// The API server learns of the configuration by a watch.
	err = await(t.Context(), func(ctx context.Context) error {
		if server.Client.Create(ctx, podFor(namespace, "summarizer"), client.DryRunAll) == nil {
			return fmt.Errorf("a pod that opted in was accepted")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if plain := create(t, podFor(namespace, "")); len(plain.Spec.InitContainers) != 0 {
		t.Error("a pod that didn't opt in was changed")
	}
}

func TestO49_UnlabelledPodsStayAsTheyAre(t *testing.T) {
	plain := create(t, podFor(server.Namespace(t, nil), ""))
	if len(plain.Spec.InitContainers) != 0 || len(plain.Spec.Containers[0].Env) != 0 {
		t.Errorf("a pod that didn't opt in was changed: %+v", plain.Spec)
	}
}

// TestO53_PodSecurityRestricted: the namespace enforces "restricted", and the API server would give every container the
// service account's token.
func TestO53_PodSecurityRestricted(t *testing.T) {
	namespace := server.Namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	createPool(t, namespace, "summarizer")
	pod := create(t, podFor(namespace, "summarizer", func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(1000)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
	}))
	if len(sidecars(pod)) != 4 {
		t.Fatalf("%d sidecars, want 4", len(sidecars(pod)))
	}
	const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokens := map[string]bool{} // volumes that hold a token of the API server
	for _, v := range pod.Spec.Volumes {
		tokens[v.Name] = strings.HasPrefix(v.Name, "kube-api-access-")
	}
	for _, c := range sidecars(pod) {
		for _, m := range c.VolumeMounts {
			if tokens[m.Name] {
				t.Errorf("%s has the service account's own token", c.Name)
			}
		}
	}
	app := pod.Spec.Containers[0]
	if !slices.ContainsFunc(app.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath && tokens[m.Name] }) {
		t.Error("the application lost its token, or the API server gave none and this test shows nothing")
	}
}

// TestO53_TheOperatorItself: its own namespace enforces "restricted" too.
func TestO53_TheOperatorItself(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "workerpool-operator"}}
	for _, object := range []client.Object{namespace, deployment} {
		if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
	}
	if got := namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("namespace %s enforces %q, want restricted", operatorNamespace, got)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, GenerateName: "operator-", Labels: deployment.Spec.Template.Labels},
		Spec:       deployment.Spec.Template.Spec,
	}
	if err := server.Client.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Error(err)
	}
}

// TestQOSClassIsWhatTheAPIServerSays holds injection's idea of the classes against the API server's.
func TestQOSClassIsWhatTheAPIServerSays(t *testing.T) {
	namespace := server.Namespace(t, nil)
	limits := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}
	createPool(t, namespace, "plain")
	createPool(t, namespace, "limited", func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Resources = &v1alpha1.WorkerResources{Requests: corev1.ResourceList{"cpu": resource.MustParse("10m")}, Limits: limits}
	})
	container := func(r corev1.ResourceRequirements) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Resources = r }
	}
	podLevel := func(r corev1.ResourceRequirements) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Resources = &r }
	}
	for name, tc := range map[string]struct {
		resources func(*corev1.Pod)
		pool      string
		want      corev1.PodQOSClass
	}{
		"BestEffort":                    {container(corev1.ResourceRequirements{}), "plain", corev1.PodQOSBestEffort},
		"Burstable":                     {container(corev1.ResourceRequirements{Requests: limits}), "plain", corev1.PodQOSBurstable},
		"Guaranteed":                    {container(corev1.ResourceRequirements{Limits: limits}), "limited", corev1.PodQOSGuaranteed},
		"Guaranteed, workers unlimited": {container(corev1.ResourceRequirements{Limits: limits}), "plain", corev1.PodQOSBurstable},
		"pod-level Guaranteed":          {podLevel(corev1.ResourceRequirements{Limits: limits, Requests: limits}), "limited", corev1.PodQOSGuaranteed},
		"pod-level Guaranteed, workers unlimited": {podLevel(corev1.ResourceRequirements{Limits: limits, Requests: limits}), "plain",
			corev1.PodQOSGuaranteed},
		"pod-level Burstable": {podLevel(corev1.ResourceRequirements{Requests: limits}), "limited", corev1.PodQOSBurstable},
	} {
		t.Run(name, func(t *testing.T) {
			pod := create(t, podFor(namespace, tc.pool, tc.resources), client.DryRunAll)
			if pod.Status.QOSClass != tc.want {
				t.Errorf("QoS class %s, want %s", pod.Status.QOSClass, tc.want)
			}
		})
	}
}

// What config/rbac lets the operator do is enough to find its own image, under whatever name it was deployed.
func TestTheOperatorReadsItsOwnImage(t *testing.T) {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "workerpool-operator"}}
	if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(deployment), deployment); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, GenerateName: "operator-", Labels: map[string]string{"made-by": "test"}},
		Spec:       deployment.Spec.Template.Spec,
	}
	pod.Spec.Containers[0].Image = "mirror.example.com/operator:2"
	create(t, pod)
	asOperator, err := client.New(operatorConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if image, err := controllers.OwnImage(t.Context(), asOperator, client.ObjectKeyFromObject(pod)); err != nil || image != "mirror.example.com/operator:2" {
		t.Errorf("got %q, %v", image, err)
	}
}

func awaitStatus(t *testing.T, pool *v1alpha1.WorkerPool, reached func(*v1alpha1.WorkerPoolStatus) bool) {
	t.Helper()
	err := await(t.Context(), func(ctx context.Context) error {
		if err := server.Client.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		if !reached(&pool.Status) {
			return fmt.Errorf("status %+v", pool.Status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusalReachesTheUser(t *testing.T) {
	namespace := server.Namespace(t, nil)
	createPool(t, namespace, "summarizer")
	err := server.Client.Create(t.Context(), podFor(namespace, "summarizer", func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WORKERPOOL_SOCKET", Value: "/tmp/x"}}
	}))
	if err == nil || !strings.Contains(err.Error(), `container "web" sets WORKERPOOL_SOCKET itself`) {
		t.Errorf("got %v, want a refusal that names the container and the variable", err)
	}
}
