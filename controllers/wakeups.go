package controllers

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Wakeups carries word of what changed outside Kubernetes to the reconciler's queue. It exists before the queue does;
// until then, word is dropped: the first pass over every pool comes with the queue.
type Wakeups struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request] // guarded by mu; nil before start
}

// Wake asks for a pass over a pool, soon: changes within a short time are one pass. It doesn't block.
func (w *Wakeups) Wake(pool types.NamespacedName) {
	w.mu.Lock()
	queue := w.queue
	w.mu.Unlock()
	if queue != nil {
		queue.AddAfter(reconcile.Request{NamespacedName: pool}, coalesce)
	}
}

// wakeAll asks for a pass over every pool, for what concerns them all.
func (w *Wakeups) wakeAll(ctx context.Context, pools client.Reader) {
	var all v1alpha1.WorkerPoolList
	if err := pools.List(ctx, &all); err != nil {
		log.FromContext(ctx).Error(err, "Listing the pools; they are passed over when something of theirs changes")
		return
	}
	for i := range all.Items {
		w.Wake(client.ObjectKeyFromObject(&all.Items[i]))
	}
}

// start is the source of events that the controller starts.
func (w *Wakeups) start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = queue
	return nil
}
