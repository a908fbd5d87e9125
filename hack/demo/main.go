// Command demo shows the whole path on a real cluster: a WorkerPool is applied, an application calls Python through
// it, exactly a tenth of its requests go to V2, then all of them; then V1 again, and two bad V2 that go back by
// themselves. No container restarts on the way, and nothing that the application stored is lost.
//
//	go run ./hack/demo
//
// With CLUSTER=existing it runs in the current kubeconfig's cluster (docs/install.md). Each step is an ordinary `kubectl
// apply` of a manifest in config/samples/demo and can be repeated by hand. It may be run again on the same cluster. The
// exit status is 1 when a promise of the summary didn't hold.
//
// main.go is the story, fault.go its end; measure.go and records.go read the figures, summary.go holds them against the
// promises, screen.go and evidence.go print.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

const (
	pool     = "demo"
	replicas = 2
	callers  = 8 // per pod
	window   = 1000
	// afterRollback is how many requests of each pod are looked at once a bad v2 is gone.
	afterRollback = 200
	// seconds in which a version's throughput is measured; odd, for a median.
	seconds = 7
	// patience with any one step.
	patience = 3 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		fmt.Println(cleanUp())
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	d := newDemo()
	for _, step := range []struct {
		title, shows string
		do           func(context.Context) error
	}{
		{"a cluster, the images, the operator", d.where, d.deploy},
		{"an application with two pods, a WorkerPool on v1 with 4 workers", "one label on the pods brings the pool into them", d.install},
		{fmt.Sprintf("traffic from %d callers in each pod, a command of 10 ms", callers), "v1 serves one request at a time, however many workers it has", d.traffic},
		{"poolVersion v2 with weight 10", "exactly a tenth of the requests goes to v2; the rest stays", d.canary},
		{"weight 100", "v2 is promoted, while every caller keeps calling, and serves in parallel", d.promote},
		{"size 6", "two workers more in each pod, and no container restarts for it", d.resize},
		{"poolVersion v1 again", "a rollback by hand: it moves at once", d.back},
		{"v2 in steps of 5, 25, 50, but three of ten of its requests fail", "found worse than v1 by its own requests, it goes back by itself", d.failing},
		{"another v2, whose workers crash at every request", "the pods take it off their traffic without asking; the fleet follows", d.crashing},
		{"the traffic ends", "what was promised, beside what was measured", d.end},
	} {
		d.screen.step(step.title, step.shows)
		limited, cancel := context.WithTimeout(ctx, patience)
		if d.cluster == nil { // a first start compiles Kubernetes
			limited, cancel = context.WithCancel(ctx)
		}
		err := step.do(limited)
		cancel()
		if err != nil {
			return err
		}
	}
	return d.screen.summary(d.measured.promises())
}

// demo is what the steps hand on to each other.
type demo struct {
	namespace string // of the application; emptied at the beginning
	where     string // it runs
	screen    *screen
	cluster   *harness.Cluster
	apps      []*harness.App
	before    harness.Containers // once the application is ready
	stored    []stored           // by the applications
	measured  figures
}

func newDemo() *demo {
	d := &demo{namespace: "demo", where: "a real Kubernetes on this machine, with no container engine and no registry"}
	if os.Getenv("CLUSTER") == "existing" {
		d.namespace, d.where = "workerpool-demo", "the current kubeconfig's, as it is"
	}
	d.screen = newScreen(os.Stdout, d.namespace)
	return d
}

func (d *demo) deploy(ctx context.Context) (err error) {
	if d.cluster, err = harness.Up(ctx, os.Stdout); err != nil {
		return err
	}
	manifests, err := d.cluster.Manifests()
	if err != nil {
		return err
	}
	d.screen.command("kubectl", "apply", "--server-side", "-k", manifests)
	return d.cluster.DeployOperator(ctx, os.Stdout)
}

// install begins with an empty namespace, so that a second run sees what a first one saw.
func (d *demo) install(ctx context.Context) error {
	if err := d.cluster.EmptyNamespace(ctx, d.namespace, nil); err != nil {
		return err
	}
	if err := d.apply(ctx, "1-v1.yaml", "app.yaml"); err != nil {
		return err
	}
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	d.apps, d.before = d.cluster.Apps(pods), harness.ContainersOf(pods)
	return d.await(ctx, "ready on v1", func(p *v1alpha1.WorkerPool) bool {
		return harness.Ready(p) && p.Status.Stable.Version == v1alpha1.PoolV1 && p.Status.Pods.Acknowledged == replicas
	})
}

func (d *demo) traffic(ctx context.Context) (err error) {
	if err := d.begin(ctx); err != nil {
		return err
	}
	if d.measured.v1, err = d.throughput(ctx); err != nil {
		return err
	}
	d.screen.say("%.0f requests/s in each pod", d.measured.v1)
	if err := d.store(ctx); err != nil {
		return err
	}
	d.screen.say("the application keeps %d sessions and %d programs in each pod", perPod, perPod)
	return d.screen.pools(ctx, d.cluster)
}

func (d *demo) canary(ctx context.Context) error {
	begun := time.Now()
	if err := d.apply(ctx, "2-weight-10.yaml"); err != nil {
		return err
	}
	err := d.await(ctx, "at weight 10", func(p *v1alpha1.WorkerPool) bool {
		return harness.Ready(p) && p.Status.Weight.Applied == "10"
	})
	if err != nil {
		return err
	}
	d.measured.toTenth = time.Since(begun)
	d.screen.say("in force in every pod after %.1f s; now %d requests in each", d.measured.toTenth.Seconds(), window)
	if err := d.share(ctx); err != nil {
		return err
	}
	return d.begin(ctx)
}

func (d *demo) promote(ctx context.Context) (err error) {
	begun := time.Now()
	if err := d.apply(ctx, "3-weight-100.yaml"); err != nil {
		return err
	}
	err = d.await(ctx, "promoted", func(p *v1alpha1.WorkerPool) bool {
		promoted := meta.IsStatusConditionPresentAndEqual(p.Status.Conditions, v1alpha1.ConditionPromoted, metav1.ConditionTrue)
		return harness.Ready(p) && promoted && p.Status.Stable.Version == v1alpha1.PoolV2
	})
	if err != nil {
		return err
	}
	d.measured.toAll = time.Since(begun)
	if d.measured.v2, err = d.throughput(ctx); err != nil {
		return err
	}
	d.screen.say("%.0f requests/s in each pod", d.measured.v2)
	return nil
}

func (d *demo) resize(ctx context.Context) error {
	if err := d.apply(ctx, "4-size-6.yaml"); err != nil {
		return err
	}
	return d.await(ctx, "at size 6", func(p *v1alpha1.WorkerPool) bool {
		return harness.Ready(p) && p.Status.Workers.Desired == 6*replicas && p.Status.Workers.Ready >= 6*replicas
	})
}

func (d *demo) end(ctx context.Context) error {
	if err := d.recall(ctx); err != nil {
		return err
	}
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	d.measured.containers = len(d.before)
	d.measured.changed = d.before.Changed(harness.ContainersOf(pods))
	return d.memory(ctx, pods)
}

// apply runs the kubectl command that it shows.
func (d *demo) apply(ctx context.Context, files ...string) error {
	args := []string{"-n", d.namespace, "apply"}
	for _, file := range files {
		path, err := d.cluster.Sample("config/samples/demo/" + file)
		if err != nil {
			return err
		}
		args = append(args, "-f", path)
	}
	d.screen.command("kubectl", args...)
	_, err := d.cluster.Kubectl(ctx, args...)
	return err
}

// await waits for the pool and shows it.
func (d *demo) await(ctx context.Context, what string, done func(*v1alpha1.WorkerPool) bool) error {
	if _, err := d.cluster.AwaitPool(ctx, d.namespace, pool, what, done); err != nil {
		return err
	}
	return d.screen.pools(ctx, d.cluster)
}

func (d *demo) pods(ctx context.Context) ([]corev1.Pod, error) {
	return d.cluster.AwaitPods(ctx, replicas, client.InNamespace(d.namespace), client.MatchingLabels{v1alpha1.PoolLabel: pool})
}
