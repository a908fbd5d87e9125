//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// A version whose every request crashes its worker: each pod takes it off its own traffic, the fleet follows, and the
// stable version never fails a request.
func TestO27_O82_CrashLoopIsTripped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apps, pods := w.canary(4)
	interruptions := w.watchReadiness(&pods[0])
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) {
		stepwise(10*time.Minute, 25)(s)
		env("CRASH_RATE", "1")(s)
	})
	pool := w.rolledBack("main", "PodsTripped")
	w.offTraffic(apps)
	for _, pod := range pods {
		if !strings.Contains(strings.Join(pool.Status.LastRollback.Evidence, "\n"), pod.Name) {
			t.Errorf("evidence %q doesn't name pod %s", pool.Status.LastRollback.Evidence, pod.Name)
		}
	}
	figures := w.end(apps)
	if v1 := figures.Versions["v1"]; v1.Errors != 0 || v1.Requests == 0 {
		t.Errorf("v1 failed %d of %d", v1.Errors, v1.Requests)
	}
	if figures.Lost == 0 || figures.Lost > 40 {
		t.Errorf("lost %d of %d (%v), want the few until the pods tripped", figures.Lost, figures.Requests, figures.Errors)
	}
	if seen := interruptions(); len(seen) > 0 {
		t.Errorf("the pod wasn't ready throughout: %v", seen)
	}
	w.unchanged("main", pods)
}

// With every operator gone, a person takes the canary off a pod's traffic by hand. It holds when the operator is back, and
// through a restart of the router, until a retry token.
func TestO48_O80_TripByHand(t *testing.T) {
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(50))
	w.scaleOperator(0)
	t.Cleanup(func() { w.scaleOperator(2) })
	output := w.kubectl("exec", pods[0].Name, "-c", "pool-router", "--", poold(&pods[0]), "ctl", "trip", "--reason", "wrong answers")
	if !strings.Contains(output, "50") || !strings.Contains(output, v1alpha1.RetryAnnotation) {
		t.Errorf("ctl trip prints %q, want the weight that it had and the way back", output)
	}
	onlyStable := func(when string) {
		t.Helper()
		got := w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 300})
		if v2 := got.Versions["v2"].Requests; v2 != 0 || got.Lost > 0 {
			t.Errorf("%s v2 served %d of %d, lost %d; want none", when, v2, got.Requests, got.Lost)
		}
	}
	onlyStable("after the trip")
	w.restarts(app, &pods[0], "pool-router")
	onlyStable("after the router's restart")
	w.scaleOperator(2)
	w.eventually("the router found the operator", func() (bool, string) {
		status := w.router(app)
		return status.OperatorConnected, show(status)
	})
	w.await("main", "held by the trip", func(p *v1alpha1.WorkerPool) bool {
		return harness.ConditionIs(p, v1alpha1.ConditionReady, metav1.ConditionFalse, "PodsTripped") && p.Status.LastRollback == nil
	})
	onlyStable("with the operator back")
	w.kubectl("annotate", "workerpool", "main", v1alpha1.RetryAnnotation+"=again")
	w.awaitReady("main")
	w.eventually("half of the requests on v2 again", func() (bool, string) {
		got := w.run(app, harness.Load{Callers: 4, Command: "echo", Count: 100})
		return got.Versions["v2"].Requests >= 49 && got.Versions["v2"].Requests <= 51, show(got)
	})
}

// poold is where the router's container has its binary.
func poold(pod *corev1.Pod) string {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == "pool-router" {
			return c.Command[0]
		}
	}
	return "poold"
}

// While a slot is away, what it was serving gets an error that says so, and new requests wait for it or go to the other
// slot; nothing else fails.
func TestO28_P73_SlotKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2, weight(50), patientCheckout)
	for _, container := range []string{"pool-a", "pool-b"} {
		w.must(app.Begin(w.ctx, sleeping(4)))
		w.must(killFirst(&pods[0], container))
		w.eventually(container+" again", func() (bool, string) {
			var now corev1.Pod
			w.must(cluster.Get(w.ctx, client.ObjectKeyFromObject(&pods[0]), &now))
			status := w.router(app)
			return harness.PodReady(&now) && status.Slot("a").Serving() == 2 && status.Slot("b").Serving() == 2, show(status)
		})
		figures, err := app.End(w.ctx)
		w.must(err)
		if figures.Lost > 4 || figures.Requests == 0 || figures.Errors["no_response"] > 0 {
			t.Errorf("%s: lost %d of %d (%v), want at most the 4 in flight, each with an answer", container, figures.Lost, figures.Requests, figures.Errors)
		}
		t.Logf("measured: %s killed: %d of %d requests failed: %v", container, figures.Lost, figures.Requests, figures.Errors)
	}
}

// While the router is down, connections are refused; how long is printed. It is back with everything that it kept.
func TestP70_RouterKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app, pods := w.serving("main", v1alpha1.PoolV2, 2)
	w.keeps(app, 20)
	w.must(app.Begin(w.ctx, sleeping(4)))
	w.must(killFirst(&pods[0], "pool-router"))
	begun := time.Now()
	down := time.Duration(0)
	w.eventually("the router again", func() (bool, string) {
		response, err := app.Ask(w.ctx, "GET", "/v1/status", strings.NewReader(""), nil)
		if err == nil && response.Status == 200 {
			down = time.Since(begun)
			return true, ""
		}
		return false, fmt.Sprintf("%v %s", err, response.Body)
	})
	t.Logf("measured: the router was killed and away for %s", down.Round(10*time.Millisecond))
	w.awaitReady("main")
	figures, err := app.End(w.ctx)
	w.must(err)
	for problem := range figures.Errors {
		if problem != "no_response" && problem != "unnamed" {
			t.Errorf("%d requests failed by %s, want refused connections alone", figures.Errors[problem], problem)
		}
	}
	w.kept(app, 20)
}
