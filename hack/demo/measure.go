package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/test/e2e/harness"
)

// load is what every pod's application does but while its share is measured.
var load = harness.Load{Callers: callers, Command: "sleep", Args: map[string]any{"ms": 10}}

// begin starts endless traffic in every pod. What ran before ends first, with no request cut off.
func (d *demo) begin(ctx context.Context) error {
	return d.each(func(_ int, app *harness.App) error { return app.Begin(ctx, load) })
}

// throughput is the mean over the pods of their requests per second, from running traffic: in each the median of
// several seconds, so that a moment in which the machine did something else doesn't count.
func (d *demo) throughput(ctx context.Context) (perPod float64, err error) {
	var rates [replicas]float64
	err = d.each(func(i int, app *harness.App) (err error) {
		rates[i], err = medianRate(ctx, app)
		return err
	})
	for _, rate := range rates {
		perPod += rate / replicas
	}
	return perPod, err
}

func medianRate(ctx context.Context, app *harness.App) (float64, error) {
	from, err := app.Current(ctx)
	if err != nil {
		return 0, err
	}
	var rates [seconds]float64
	for i := range rates {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		to, err := app.Current(ctx)
		if err != nil {
			return 0, err
		}
		rates[i] = float64(to.Requests-from.Requests) / (to.Seconds - from.Seconds)
		from = to
	}
	slices.Sort(rates[:])
	return rates[seconds/2], nil
}

// share makes a window of exactly so many requests in each pod and reads how many v2 served.
func (d *demo) share(ctx context.Context) error {
	limited := load
	limited.Count = window
	d.measured.shares = make([]share, len(d.apps))
	return d.each(func(i int, app *harness.App) error {
		got, err := app.Run(ctx, limited)
		d.measured.shares[i] = share{pod: app.Pod, v2: got.Versions["v2"].Requests, of: got.Requests}
		return err
	})
}

// count ends the traffic and adds up what every request so far came to.
func (d *demo) count(ctx context.Context) error {
	var mu sync.Mutex
	return d.each(func(_ int, app *harness.App) error {
		if _, err := app.End(ctx); err != nil {
			return err
		}
		total, err := app.Total(ctx)
		mu.Lock()
		defer mu.Unlock()
		d.measured.requests += total.Requests
		d.measured.lost += total.Lost
		return err
	})
}

// memory reads the resident memory of the operator's and the sidecars' processes: the largest of each kind.
func (d *demo) memory(ctx context.Context, pods []corev1.Pod) error {
	var operators corev1.PodList
	if err := d.cluster.List(ctx, &operators, client.InNamespace(harness.OperatorNamespace)); err != nil {
		return err
	}
	for _, pod := range append(operators.Items, pods...) {
		processes, err := harness.Processes(&pod)
		if errors.Is(err, harness.ErrNotThisMachine) {
			return nil // and the summary says so
		}
		if err != nil {
			return err
		}
		for _, p := range processes {
			m := &d.measured
			switch {
			case p.Runs("manager"):
				m.operator = max(m.operator, p.RSS)
			case p.Runs("poold", "router"):
				m.router = max(m.router, p.RSS)
			case p.Runs("poold", "pool"):
				m.slot = max(m.slot, p.RSS)
			case p.IsWorker():
				m.worker = max(m.worker, p.RSS)
			}
		}
	}
	return nil
}

// each does the same in every pod at once.
func (d *demo) each(do func(i int, app *harness.App) error) error {
	problems := make([]error, len(d.apps))
	var all sync.WaitGroup
	for i, app := range d.apps {
		all.Go(func() { problems[i] = do(i, app) })
	}
	all.Wait()
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("traffic: %w", err)
	}
	return nil
}
