package main

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// fault is what a bad v2 came to.
type fault struct {
	reason string // of the rollback
	// inPod is the time from the first bad reply to v2's last one, in the pod where it took longest.
	inPod time.Duration
	// inFleet is the time from the fleet's first bad reply until the pool said that every pod is at weight 0.
	inFleet                    time.Duration
	v2, v2Failed, v1, v1Failed uint64 // requests; v1's are all that v2 didn't answer
	afterwards, of             uint64 // requests that v2 answered once it was rolled back
}

func (d *demo) back(ctx context.Context) error {
	if err := d.apply(ctx, "5-back-to-v1.yaml"); err != nil {
		return err
	}
	err := d.await(ctx, "on v1 again", func(p *v1alpha1.WorkerPool) bool {
		return harness.Ready(p) && p.Status.Stable.Version == v1alpha1.PoolV1
	})
	if err != nil {
		return err
	}
	return d.count(ctx) // from here on a bad v2 fails requests, as it should
}

func (d *demo) failing(ctx context.Context) (err error) {
	d.measured.failing, err = d.fault(ctx, "6-failing-v2.yaml")
	return err
}

func (d *demo) crashing(ctx context.Context) (err error) {
	d.measured.crashing, err = d.fault(ctx, "7-crashing-v2.yaml")
	return err
}

// fault applies a bad v2 under traffic, waits until it has been rolled back, and shows what the pool says about it.
func (d *demo) fault(ctx context.Context, manifest string) (fault, error) {
	before, err := d.cluster.AwaitPool(ctx, d.namespace, pool, "there", func(*v1alpha1.WorkerPool) bool { return true })
	if err != nil {
		return fault{}, err
	}
	if err := d.begin(ctx); err != nil {
		return fault{}, err
	}
	if err := d.apply(ctx, manifest); err != nil {
		return fault{}, err
	}
	after, err := d.cluster.AwaitPool(ctx, d.namespace, pool, "rolled back in every pod", func(p *v1alpha1.WorkerPool) bool {
		return newlyRolledBack(before, p) && p.Status.Weight.Applied == "0"
	})
	at := time.Now()
	if err != nil {
		return fault{}, err
	}
	f, err := d.outcome(ctx, at)
	if err != nil {
		return fault{}, err
	}
	f.reason = after.Status.LastRollback.Reason
	if err := d.screen.pools(ctx, d.cluster); err != nil {
		return fault{}, err
	}
	if err := d.afterwards(ctx, &f); err != nil {
		return fault{}, err
	}
	return f, d.screen.evidence(ctx, d.cluster)
}

// newlyRolledBack reports whether the current spec's revision was rolled back, and not the one before it.
func newlyRolledBack(before, now *v1alpha1.WorkerPool) bool {
	last := now.Status.LastRollback
	if last == nil || before.Status.LastRollback != nil && before.Status.LastRollback.Revision == last.Revision {
		return false
	}
	return harness.ConditionIs(now, v1alpha1.ConditionRolledBack, metav1.ConditionTrue, "")
}

// outcome ends the traffic and adds up what it came to by version. The rollback was seen at a time of this clock.
func (d *demo) outcome(ctx context.Context, at time.Time) (fault, error) {
	var f fault
	var mu sync.Mutex
	err := d.each(func(_ int, app *harness.App) error {
		figures, err := app.End(ctx)
		received := time.Now()
		mu.Lock()
		defer mu.Unlock()
		f.add(figures, received, at)
		return err
	})
	return f, err
}

// add adds a pod's figures, received at a time of the same clock as that at which the rollback was seen. The pod's clock
// may be another: of its times only differences are used.
func (f *fault) add(figures harness.Figures, received, rolledBack time.Time) {
	v2 := figures.Versions["v2"]
	f.v2 += v2.Requests
	f.v2Failed += v2.Errors
	for version, v := range figures.Versions {
		if version != "v2" {
			f.v1 += v.Requests
			f.v1Failed += v.Errors
		}
	}
	if v2.Errors == 0 {
		return
	}
	f.inPod = max(f.inPod, v2.LastReply.Sub(v2.FirstError))
	firstError := received.Add(-figures.Now.Sub(v2.FirstError))
	f.inFleet = max(f.inFleet, rolledBack.Sub(firstError))
}

// afterwards makes a window of requests in each pod: none of them may go to what was rolled back.
func (d *demo) afterwards(ctx context.Context, f *fault) error {
	limited := load
	limited.Count = afterRollback
	var mu sync.Mutex
	return d.each(func(_ int, app *harness.App) error {
		got, err := app.Run(ctx, limited)
		mu.Lock()
		defer mu.Unlock()
		f.of += got.Requests
		for version, v := range got.Versions {
			if version != "v1" {
				f.afterwards += v.Requests
			}
		}
		return err
	})
}
