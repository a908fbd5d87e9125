//go:build e2e

package e2e

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// The application, the slots and the router as three different users, in a namespace that enforces Pod Security
// "restricted". None can replace another's socket or program, or read the router's token.
func TestO53_O73_ThreeUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsTheNode()
	w.pool("main", v1alpha1.PoolV2, 2)
	pods := w.start("main", 1, func(p *corev1.PodTemplateSpec) {
		// The slots take the first container's user, so that the caller here is a second container.
		caller := p.Spec.Containers[0]
		neighbour := *caller.DeepCopy()
		neighbour.Name, neighbour.Ports, neighbour.ReadinessProbe = "neighbour", nil, nil
		neighbour.Command = []string{"/sample-app", "-listen", ":8081"}
		neighbour.SecurityContext.RunAsUser = new(int64(20001))
		caller.SecurityContext = caller.SecurityContext.DeepCopy()
		caller.SecurityContext.RunAsUser = new(int64(30001))
		p.Spec.Containers = []corev1.Container{neighbour, caller}
	})
	w.awaitReady("main")
	app := cluster.App(&pods[0])
	lostNone(t, w.run(app, harness.Load{Callers: 4, Command: "who", Count: 100}))

	users := map[string]int{}
	processes, err := harness.Processes(&pods[0])
	w.must(err)
	for _, p := range processes {
		users[p.Container] = p.UID
	}
	if users["app"] != 30001 || users["pool-a"] != 20001 || users["pool-b"] != 20001 || users["pool-router"] != 65532 {
		t.Errorf("containers run as %v, want app 30001, slots 20001, router 65532", users)
	}

	for name, tc := range map[string]struct{ container, python string }{
		"app replaces the router's socket":   {"app", `os.rename("/run/workerpool/app/pool.sock", "/run/workerpool/app/old")`},
		"app removes the router's socket":    {"app", `os.unlink("/run/workerpool/app/pool.sock")`},
		"slot replaces the program":          {"pool-a", `open("/opt/workerpool/poold", "wb")`},
		"slot writes its root":               {"pool-a", `open("/app/x", "wb")`},
		"slot sees the application's socket": {"pool-a", `os.stat("/run/workerpool/app/pool.sock")`},
		"slot sees the other slot's socket":  {"pool-a", `os.stat("/run/workerpool/slots/b")`},
		"slot reads the router's token":      {"pool-b", `open("/run/workerpool/identity/token")`},
		"slot reads the service account's":   {"pool-b", `open("/var/run/secrets/kubernetes.io/serviceaccount/token")`},
		"app reads the router's token":       {"app", `open("/run/workerpool/identity/token")`},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := cluster.Kubectl(w.ctx, "-n", w.namespace, "exec", pods[0].Name, "-c", tc.container, "--", "python3", "-c", "import os; "+tc.python)
			if err == nil || !strings.Contains(output, "Error:") {
				t.Errorf("in %s, %s: %v\n%s\nwant Python to be refused", tc.container, tc.python, err, output)
			}
		})
	}
	lostNone(t, w.run(app, harness.Load{Callers: 4, Command: "who", Count: 100}))
}

// The operator's own namespace enforces the same, and its account may read no secret and enter no pod.
func TestO53_O56_OperatorsRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var namespace corev1.Namespace
	w.must(cluster.Get(w.ctx, client.ObjectKey{Name: harness.OperatorNamespace}, &namespace))
	if level := namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Errorf("namespace %s enforces Pod Security %q, want restricted", namespace.Name, level)
	}
	var pods corev1.PodList
	w.must(cluster.List(w.ctx, &pods, client.InNamespace(harness.OperatorNamespace)))
	if len(pods.Items) == 0 {
		t.Fatal("no operator pod")
	}
	account := "system:serviceaccount:" + harness.OperatorNamespace + ":" + pods.Items[0].Spec.ServiceAccountName
	for action, want := range map[string]string{
		"list workerpools.pool.dspex.dev":  "yes", // else this test would ask about nobody
		"get secrets":                      "no",
		"list secrets":                     "no",
		"create pods --subresource=exec":   "no",
		"create pods":                      "no",
		"patch workerpools.pool.dspex.dev": "no",
	} {
		args := append([]string{"auth", "can-i", "--all-namespaces", "--as=" + account}, strings.Fields(action)...)
		output, _ := cluster.Kubectl(w.ctx, args...) // fails when the answer is no
		if got := lastWord(output); got != want {
			t.Errorf("may %s %s? %s, want %s\n%s", account, action, got, want, output)
		}
	}
}

func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// A Job ends when its own container has: the sidecars don't keep it.
func TestO54_JobCompletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool("main", v1alpha1.PoolV2, 2, patientCheckout)
	template := w.deployment("main", 1, func(p *corev1.PodTemplateSpec) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Containers[0].Command = []string{"/sample-app", "-callers", "4", "-command", "echo", "-args", "{}", "-count", "200"}
	}).Spec.Template
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "main", Namespace: w.namespace},
		Spec:       batchv1.JobSpec{Template: template, BackoffLimit: new(int32(0))},
	}
	w.must(cluster.Create(w.ctx, job))
	w.kubectl("wait", "--for=condition=Complete", "job/main", "--timeout=90s")
	if logs := w.kubectl("logs", "job/main", "-c", "app"); !strings.Contains(logs, "end: 200 requests, 0 lost") {
		t.Errorf("the job's container says\n%s\nwant 200 requests, 0 lost", logs)
	}
}
