package controllers

import (
	"context"
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/snapshot"
)

// hung is a server that answers no write of a status until it wakes.
type hung struct {
	asked chan string   // the pools whose status is to be written
	wakes chan struct{} // closed: it answers
}

func newHung(r *WorkerPoolReconciler) *hung {
	h := &hung{asked: make(chan string, 10), wakes: make(chan struct{})}
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			h.asked <- o.GetName()
			select {
			case <-h.wakes:
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	return h
}

func bare(name string) *v1alpha1.WorkerPool {
	return &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), Generation: 1},
		Spec:       v1alpha1.WorkerPoolSpec{PoolVersion: v1alpha1.PoolV1, Size: 1, Worker: v1alpha1.Worker{Module: "shop"}},
	}
}

// A server that hangs keeps neither the pool's own passes nor other pools' from being made, and routers from hearing what
// isn't recorded. What was asked of it is gone on with once it answers.
func TestO26_AServerThatHangsHoldsUpNoPass(t *testing.T) {
	one, two := bare("one"), bare("two")
	r, _, recorder := leading(t, nil, one, two)
	woken := make(chan types.NamespacedName, 10)
	r.Wake = func(pool types.NamespacedName) { woken <- pool }
	r.patience = time.Millisecond
	h := newHung(r)
	for range 2 { // the second pass finds the first one's books open
		for _, pool := range []*v1alpha1.WorkerPool{one, two} {
			if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pool)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if a, b := <-h.asked, <-h.asked; a == b || len(h.asked) > 0 {
		t.Errorf("the server was asked for %s, %s and %d more", a, b, len(h.asked))
	}
	if told := r.memories.of(client.ObjectKeyFromObject(one), one.UID, time.Unix(1_800_000_000, 0)).told; told != nil {
		t.Errorf("routers were told %+v before that was recorded", told)
	}
	close(h.wakes)
	for range 2 {
		pool := <-woken
		r.patience = time.Minute
		if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: pool}); err != nil {
			t.Fatal(err)
		}
		if r.memories.byPool[pool].told == nil {
			t.Errorf("the routers of %s were told nothing", pool)
		}
	}
	for range 2 {
		if event := <-recorder.Events; event[:len("Normal StableSet")] != "Normal StableSet" {
			t.Errorf("event %q", event)
		}
	}
}

// A server that wakes and refuses is asked ever more slowly: passes don't follow upon each other as fast as it can answer.
func TestO26_AServerThatRefusesIsNotAskedAtOnceAgain(t *testing.T) {
	r, _, _ := leading(t, nil, bare("one"))
	woken := make(chan types.NamespacedName, 10)
	r.Wake = func(pool types.NamespacedName) { woken <- pool }
	r.patience = time.Millisecond
	wakes := make(chan struct{})
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
			<-wakes
			return apierrors.NewInternalError(errors.New("etcd has no leader"))
		},
	})
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(bare("one"))}
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	close(wakes)
	<-woken
	r.patience = time.Minute
	if _, err := r.Reconcile(t.Context(), request); err == nil {
		t.Error("the pass whose books are refused has no error, and is made again as soon as they are")
	}
}

// TestO29_ALookThatIsLeftWasMade: while nothing can be stored, as the books of an earlier pass are open or the server refuses, no
// look's part of the level is spent twice.
func TestO29_ALookThatIsLeftWasMade(t *testing.T) {
	r := &WorkerPoolReconciler{}
	for name, leave := range map[string]func(*pass){
		"open books": func(p *pass) {
			p.memory.books = &books{}
			if stored, b := r.keep(t.Context(), p); stored || b != nil {
				t.Fatalf("stored %t, %v", stored, b)
			}
		},
		"a server that refuses": func(p *pass) {
			p.decision.Again = time.Second
			if _, err := r.unstored(t.Context(), &books{pass: p, err: errors.New("refused")}, time.Second); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for verdict, made := range map[analysis.Verdict]bool{analysis.Pass: true, analysis.Insufficient: true, analysis.Fail: false} {
			p := &pass{memory: &memory{}, findings: &analysis.Result{Verdict: verdict, Progress: analysis.Progress{Looked: 7, Tested: 7}}}
			leave(p)
			if looked := p.memory.comparison.progress.Looked == 7; looked != made {
				t.Errorf("%s: a look that found %v: made %t, want %t", name, verdict, looked, made)
			}
		}
	}
}

// canaryAt30 is a leader's pass over a pool whose canary has 30 %, in the status and in the routers.
func canaryAt30(t *testing.T) (*WorkerPoolReconciler, *pass) {
	t.Helper()
	pool := bare("one")
	pool.Spec.PoolVersion, pool.Spec.Canary = v1alpha1.PoolV2, &v1alpha1.Canary{Weight: new(intstr.FromInt32(30))}
	text := revision.Of(&pool.Spec)
	stable, canary := rollout.Place(text.On(v1alpha1.PoolV1), "a"), rollout.Place(text, "b")
	stable.Proven = true
	pool.Status.Stable, pool.Status.Canary, pool.Status.Weight.Applied = &stable, &canary, "30"
	r, _, _ := leading(t, nil, pool)
	p := &pass{key: client.ObjectKeyFromObject(pool), now: time.Unix(1_800_000_000, 0), pool: pool, memory: &memory{}}
	p.before = pool.Status
	assignment := rollout.Assignment{Stable: stable, Canary: &canary}
	p.texts = assignment.Texts(&pool.Spec)
	s, err := snapshot.Build(snapshot.Input{Spec: &pool.Spec, Assignment: assignment, Texts: p.texts, Weight: 3000})
	if err != nil {
		t.Fatal(err)
	}
	r.Fleet.Publish(p.key, s)
	p.memory.told = &rollout.Told{Assignment: assignment, Weight: 3000}
	p.snapshot = s
	return r, p
}

// TestO26_RoutersAreToldToTakeTrafficOffFirst: before anything is asked of the API server they have the lower weight and why, and
// nothing else; until it is recorded, each pass decides the same again.
func TestO26_RoutersAreToldToTakeTrafficOffFirst(t *testing.T) {
	r, p := canaryAt30(t)
	back := v1alpha1.RollbackStatus{
		Revision: p.pool.Status.Canary.Revision, From: "v2", To: "v1", ToRevision: p.pool.Status.Stable.Revision,
		Weight: "30", Reason: "ErrorRateExceeded", Evidence: []string{"all of it failed"}, Time: metav1.NewTime(p.now),
	}
	p.decision = rollout.Decision{Assignment: p.memory.told.Assignment, Action: rollout.Rollback, Rollback: &back}
	p.pool.Spec.Size = 9 // which routers hear of once it is recorded
	if err := r.lower(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	want := p.snapshot
	want.CanaryWeight, want.RolledBack = 0, snapshot.RolledBack(&back)
	if !r.Fleet.Published(p.key, want) {
		t.Error("the routers weren't told to take the canary off, with its evidence and nothing else")
	}
	for range 2 {
		next := &pass{key: p.key, now: p.now.Add(time.Second), pool: p.pool, memory: p.memory, texts: p.texts, before: p.before}
		next.rollbacks = next.rollbacksOf(r.Fleet.View(p.key))
		if err := r.decide(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		d := next.decision
		if d.Weight != 0 || d.Blocked != back.Revision || d.Rollback == nil || !d.Rollback.Time.Equal(&back.Time) {
			t.Fatalf("the next pass gives it %s, blocks %q, records %+v", d.Weight, d.Blocked, d.Rollback)
		}
	}
	p.pool.Status.LastRollback, p.pool.Status.BlockedRevision = &back, back.Revision
	p.memory.unrecorded.Time = back.Time
	if u := rollout.Newest(p.rollbacksOf(r.Fleet.View(p.key)), &back, "", p.now); u != nil {
		t.Errorf("what is recorded is taken for unrecorded: %+v", u)
	}
}

// TestO36_ARollbackWhoseAnswerNeverCame is told and counted all the same, once.
func TestO36_ARollbackWhoseAnswerNeverCame(t *testing.T) {
	p := rolledBack("Aborted")
	p.wrote = false
	p.decision.Rollback.Time = metav1.NewTime(p.now)
	p.memory.unrecorded = &rollout.Unrecorded{RollbackStatus: *p.decision.Rollback}
	if back := p.recorded(); back != nil {
		t.Errorf("told before it is recorded: %+v", back)
	}
	p.before.LastRollback, p.decision.Rollback = p.decision.Rollback, nil
	if back := p.recorded(); back == nil || back.Reason != "Aborted" {
		t.Errorf("once it is recorded: %+v", back)
	}
}
