//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// looking is a worker module that tells where it runs and what it was given.
const looking = `
import os
from poolworker import command

@command
def look() -> dict:
    try:
        open("/srv/modules/mark", "w").close()
        writable = True
    except OSError:
        writable = False
    return {
        "folder": os.getcwd(), "file": __file__, "writable": str(writable),
        "key": os.environ.get("LLM_API_KEY", ""), "mode": os.environ.get("APP_MODE", ""),
    }
`

// secret creates a Secret with one key.
func (w *world) secret(name, key, value string) {
	w.Helper()
	w.must(cluster.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, StringData: map[string]string{key: value},
	}))
}

// configMap creates a ConfigMap with one key.
func (w *world) configMap(name, key, value string) {
	w.Helper()
	w.must(cluster.Create(w.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Data: map[string]string{key: value},
	}))
}

func fromSecret(name string) v1alpha1.EnvFromSource {
	return v1alpha1.EnvFromSource{SecretRef: &v1alpha1.EnvFromRef{Name: name}}
}

// fromVolume has the workers import looking from a volume of the pod.
func fromVolume(s *v1alpha1.WorkerPoolSpec) {
	s.Worker.Module, s.Worker.WorkingDir = "looking", "/srv/modules"
	s.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "modules", MountPath: "/srv/modules", ReadOnly: true}}
}

// withModules gives the pods the volume that fromVolume mounts.
func withModules(p *corev1.PodTemplateSpec) {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "modules", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "modules"}},
	}})
}

func (w *world) look(app *harness.App) map[string]string {
	w.Helper()
	response := w.call(app, "look", "{}")
	var saw map[string]string
	if err := json.Unmarshal(response.Body, &saw); err != nil || response.Status != 200 {
		w.Fatalf("look answered %d %s (%v)", response.Status, response.Body, err)
	}
	return saw
}

// outdated waits until one pod is counted as outdated, and checks that the message says why and the way out.
func (w *world) outdated(name, why string) {
	w.Helper()
	pool := w.await(name, "outdated", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Pods.Outdated == 1 && p.Status.ObservedGeneration == p.Generation
	})
	if said := harness.Describe(pool); !strings.Contains(said, why) || !strings.Contains(said, w.restartLine(name)) {
		w.Errorf("status says\n%s\nwant %q and %q", said, why, w.restartLine(name))
	}
}

// restarted runs what the message said, and returns the new pod.
func (w *world) restarted(name string) *harness.App {
	w.Helper()
	w.kubectl("rollout", "restart", "deployment", name)
	w.kubectl("rollout", "status", "deployment", name, "--timeout=90s")
	w.await(name, "up to date", func(p *v1alpha1.WorkerPool) bool {
		return p.Status.Pods.Outdated == 0 && p.Status.Pods.Matched == 1 && p.Status.Canary == nil && harness.Ready(p)
	})
	return cluster.App(&w.pods(name, 1)[0])
}

// A Secret's keys reach the workers and nobody else, and no log, status or object of the operator's shows one. Another
// Secret is another revision, which waits for pods that have it.
func TestP54_VariablesFromASecret(t *testing.T) {
	t.Parallel()
	const first, second = "sk-first-0123456789", "sk-second-0123456789"
	w := newWorld(t)
	w.secret("llm-keys", "LLM_API_KEY", first)
	w.secret("llm-keys-2", "LLM_API_KEY", second)
	w.configMap("settings", "MODE", "small")
	w.configMap("modules", "looking.py", looking)
	w.pool("main", v1alpha1.PoolV2, 1, fromVolume, func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.EnvFrom = []v1alpha1.EnvFromSource{
			fromSecret("llm-keys"),
			{Prefix: "APP_", ConfigMapRef: &v1alpha1.EnvFromRef{Name: "settings"}},
			{ConfigMapRef: &v1alpha1.EnvFromRef{Name: "missing", Optional: true}},
		}
	})
	pods := w.start("main", 1, withModules)
	pool := w.awaitReady("main")
	app := cluster.App(&pods[0])
	if saw := w.look(app); saw["key"] != first || saw["mode"] != "small" {
		t.Errorf("the worker saw %v", saw)
	}
	if got, want := pool.Status.Stable.EnvFrom, "secret/llm-keys, APP_=configmap/settings, configmap/missing?"; got != want {
		t.Errorf("status.stable.envFrom %q, want %q", got, want)
	}

	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.EnvFrom[0] = fromSecret("llm-keys-2") })
	w.outdated("main", "another worker.envFrom")
	if saw := w.look(app); saw["key"] != first {
		t.Errorf("before the restart the worker saw %v", saw)
	}
	w.unchanged("main", pods)
	w.hides(first, second)

	if saw := w.look(w.restarted("main")); saw["key"] != second {
		t.Errorf("after the restart the worker saw %v", saw)
	}
	w.hides(first, second)
}

// hides fails when one of the secrets is in an object of the namespace, but for the Secrets themselves, or in a log.
func (w *world) hides(secrets ...string) {
	w.Helper()
	for _, args := range [][]string{
		{"get", "workerpools,pods,controllerrevisions,events,configmaps", "-o", "yaml"},
		{"logs", "-l", v1alpha1.PoolLabel, "--all-containers", "--tail=-1"},
	} {
		text := w.kubectl(args...)
		if text == "" {
			w.Errorf("kubectl %s says nothing", strings.Join(args, " "))
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				w.Errorf("kubectl %s shows the secret:\n%s", strings.Join(args, " "), text)
			}
		}
	}
}

// Workers run in the folder that the spec names, here one of a volume, which they can't write to. A pod without the volume
// is refused, and one with other mounts is outdated.
func TestWorkersInAVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.configMap("modules", "looking.py", looking)
	w.pool("main", v1alpha1.PoolV2, 1, fromVolume)
	d := w.deployment("main", 1)
	err := cluster.Create(w.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "without", Namespace: w.namespace, Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec,
	})
	if err == nil || !strings.Contains(err.Error(), `mounts volume "modules" at /srv/modules, which the pod doesn't have`) {
		t.Errorf("create a pod without the volume: %v, want a refusal that names it", err)
	}

	pods := w.start("main", 1, withModules)
	stable := w.awaitReady("main").Status.Stable.Revision
	want := map[string]string{"folder": "/srv/modules", "file": "/srv/modules/looking.py", "writable": "False", "key": "", "mode": ""}
	app := cluster.App(&pods[0])
	if saw := w.look(app); show(saw) != show(want) {
		t.Errorf("the worker saw %v, want %v", saw, want)
	}

	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.VolumeMounts = append(s.Worker.VolumeMounts, v1alpha1.VolumeMount{Name: "modules", MountPath: "/srv/again"})
	})
	w.outdated("main", "other worker.volumeMounts")
	w.look(app) // it serves on
	w.unchanged("main", pods)
	w.look(w.restarted("main"))
	if now := w.get("main").Status.Stable.Revision; now != stable {
		t.Errorf("other mounts made revision %s of %s; they are no part of it", now, stable)
	}
}
