package controllers

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/analysis"
	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/inject"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// joinGrace is how long a pod may be without a stream before it counts as unreachable: after its start, after a stream
// ended, and after a change of leader.
const joinGrace = 15 * time.Second

// pass is one walk through the phases: what was observed, what was decided, what is to be done.
type pass struct {
	key types.NamespacedName
	now time.Time
	led time.Time // since when this process leads

	pool      *v1alpha1.WorkerPool
	memory    *memory
	pods      []status.Pod
	leaving   int                // pods that are being deleted
	uncreated []status.Uncreated // workloads without a pod that want some
	unlisted  string             // why these aren't known; empty: they are
	uids      []types.UID
	reporting map[types.UID]bool // pods that have counted under what the routers were told last
	figures   map[string]status.Figures
	rollbacks []rollout.Unrecorded // that this leader decided, or that routers were told of; recorded ones too
	revisions []appsv1.ControllerRevision
	texts     revision.Texts

	// findings are the analysis' at the look that is due; nil: none is.
	findings *analysis.Result
	decision rollout.Decision
	snapshot *controlpb.Snapshot
	// problem is why the decision can't be put into practice; it goes into the status.
	problem string

	before v1alpha1.WorkerPoolStatus // the status before this pass wrote it
	wrote  bool
	done   bool
	again  time.Duration
}

// find reads the pool: past the cache at a leader's first visit, as another leader may have written just now.
func (r *WorkerPoolReconciler) find(ctx context.Context, p *pass) error {
	err := r.read(ctx, p, r.Client)
	if err == nil && p.memory.told == nil {
		err = r.readLive(ctx, p)
	}
	if apierrors.IsNotFound(err) {
		r.Fleet.Forget(p.key)
		r.memories.forget(p.key)
		p.done = true
		return nil
	}
	if err != nil {
		return err
	}
	r.Fleet.Track(p.key, p.pool.UID)
	r.settle(ctx, p)
	if err := p.upToDate(); err != nil {
		return err
	}
	p.done = p.pool.DeletionTimestamp != nil
	p.before = *p.pool.Status.DeepCopy()
	return nil
}

// readLive reads the pool past the cache, and doesn't wait for ever for a server that doesn't answer.
func (r *WorkerPoolReconciler) readLive(ctx context.Context, p *pass) error {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	return r.read(ctx, p, r.Live)
}

// read takes the pool from there, and what is remembered of it. It starts with an empty object: what is decoded into an
// earlier pool of the same name would keep of that whatever the new one hasn't.
func (r *WorkerPoolReconciler) read(ctx context.Context, p *pass, from client.Reader) error {
	p.pool = &v1alpha1.WorkerPool{}
	if err := from.Get(ctx, p.key, p.pool); err != nil {
		return err
	}
	p.memory = r.memories.of(p.key, p.pool.UID, p.led)
	return nil
}

// upToDate takes the pool as this process wrote it last where the cache is behind that: the server may not say for a while what
// it has stored.
func (p *pass) upToDate() error {
	written := p.memory.record.written
	if written == nil {
		return nil
	}
	order, err := resourceversion.CompareResourceVersion(p.pool.ResourceVersion, written.ResourceVersion)
	if err == nil && order < 0 {
		p.pool = written.DeepCopy()
	}
	return err
}

// observePods puts together what the cluster and the fleet know of the pool's pods.
func (r *WorkerPoolReconciler) observePods(ctx context.Context, p *pass) error {
	var list corev1.PodList
	if err := r.Client.List(ctx, &list, client.InNamespace(p.key.Namespace), client.MatchingLabels{v1alpha1.PoolLabel: p.key.Name}); err != nil {
		return err
	}
	view := r.Fleet.View(p.key)
	p.reporting = map[types.UID]bool{}
	for i := range list.Items {
		pod := &list.Items[i]
		p.uids = append(p.uids, pod.UID)
		p.reporting[pod.UID] = view.Pods[pod.UID].Reporting
		if pod.DeletionTimestamp != nil {
			p.leaving++
		}
		if counts(pod) {
			facts := p.podFacts(pod, view.Pods[pod.UID])
			facts.Images, facts.EnvFrom = r.imagesOf(pod, p), envFromOf(pod)
			facts.OtherMounts = facts.Injected && pod.Annotations[v1alpha1.MountsAnnotation] != inject.Mounts(p.pool)
			p.pods = append(p.pods, facts)
		}
	}
	r.Fleet.Retain(p.key, p.uids)
	p.figures = figures(view)
	p.rollbacks = p.rollbacksOf(view)
	return nil
}

// counts tells whether a pod is still part of its workload.
func counts(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func (p *pass) podFacts(pod *corev1.Pod, view control.PodView) status.Pod {
	facts := status.Pod{
		Pod: rollout.Pod{
			Name: pod.Name, Connected: view.Connected, Acknowledged: view.Acknowledged, Slots: map[string]rollout.Slot{},
			Unreported: !view.Reporting, Stale: view.Stale(p.now), Tripped: tripOf(view.Trip),
		},
		UID:      pod.UID,
		Workload: status.WorkloadOf(pod),
		Injected: pod.Annotations[v1alpha1.InjectedAnnotation] == string(p.pool.UID),
		Refusal:  view.Refusal,
		Workers:  map[string]status.Workers{},
		Busy:     view.Busy,
		Heard:    view.Reported,
		Silent:   view.Silent(p.now),
		Waits:    waitsOf(pod),
	}
	facts.Live = facts.Injected && pod.Status.Phase == corev1.PodRunning
	facts.Kills = killsOf(pod)
	facts.Joining = facts.Live && !view.Connected && p.now.Before(p.graceEnds(pod, view))
	facts.Settled = facts.Joining && view.Settled
	for name, slot := range view.Slots {
		facts.Slots[name] = rollout.Slot{
			Revision: slot.Revision, Serving: slot.Serving, Up: slot.Up, BootFailing: slot.Boot != control.BootFailure{},
		}
		facts.Workers[name] = status.Workers{
			Desired: slot.Desired, Max: slot.MaxWorkers, Capped: slot.Capped,
			BootMessage: slot.Boot.Message, BootTraceback: slot.Boot.Traceback, Unhealthy: slot.Unhealthy,
			Serving: slot.Serving, Startup: status.Startup(slot.Startup),
			Hangs: slot.Hangs, ForkRefused: slot.ForkRefused,
		}
	}
	return facts
}

// killsOf are, by slot, the last kills of its containers for lack of memory. The kubelet has it from the container runtime:
// where the kernel kills all processes of a container, nobody in it is left to tell.
func killsOf(pod *corev1.Pod) map[string]status.Kill {
	kills := map[string]status.Kill{}
	for name, container := range inject.SlotContainers {
		for _, c := range pod.Status.InitContainerStatuses {
			if last := c.LastTerminationState.Terminated; c.Name == container && last != nil && last.Reason == outOfMemory {
				kills[name] = status.Kill{At: last.FinishedAt.Time, Restarts: c.RestartCount}
			}
		}
	}
	return kills
}

// waitsOf are, by name, what sidecars of a pod wait for that don't run.
func waitsOf(pod *corev1.Pod) map[string]status.Wait {
	waits := map[string]status.Wait{}
	for _, c := range pod.Status.InitContainerStatuses {
		if w := c.State.Waiting; w != nil && sidecar(c.Name) {
			waits[c.Name] = status.Wait{Reason: w.Reason, Message: w.Message, Image: c.Image}
		}
	}
	return waits
}

// outOfMemory is the reason that kubelets give.
const outOfMemory = "OOMKilled"

func tripOf(t *control.TripView) *rollout.Trip {
	if t == nil {
		return nil
	}
	return &rollout.Trip{
		Revision: t.Revision, Reason: t.Reason, Message: t.Message, ByHand: t.ByHand, ReportOnly: t.ReportOnly, Outdated: t.Outdated,
	}
}

// graceEnds is when a pod without a stream counts as unreachable.
func (p *pass) graceEnds(pod *corev1.Pod, view control.PodView) time.Time {
	latest := p.led
	if pod.Status.StartTime != nil && pod.Status.StartTime.After(latest) {
		latest = pod.Status.StartTime.Time
	}
	if view.Since.After(latest) {
		latest = view.Since
	}
	return latest.Add(joinGrace)
}

func figures(view control.PoolView) map[string]status.Figures {
	out := make(map[string]status.Figures, len(view.Figures))
	for hash, f := range view.Figures {
		out[hash] = status.Figures(f)
	}
	return out
}

// observeRevisions reads the texts of the pool's revisions.
func (r *WorkerPoolReconciler) observeRevisions(ctx context.Context, p *pass) error {
	var list appsv1.ControllerRevisionList
	if err := r.Client.List(ctx, &list, client.InNamespace(p.key.Namespace), client.MatchingLabels{v1alpha1.PoolLabel: p.key.Name}); err != nil {
		return err
	}
	p.revisions = list.Items
	texts, err := revision.Read(p.pool, p.revisions)
	if err != nil {
		p.problem = err.Error()
	}
	p.texts = texts
	return nil
}

// imagesOf tells what each slot's container of a pod is good for. The pod says which images its slots have; one that no
// revision of the pool names is the operator's own, of this release or of an earlier one. What can't be read is taken
// as good for everything.
func (r *WorkerPoolReconciler) imagesOf(pod *corev1.Pod, p *pass) map[string][]string {
	var images map[string]string
	if json.Unmarshal([]byte(pod.Annotations[v1alpha1.ImagesAnnotation]), &images) != nil {
		return nil
	}
	named := []string{p.pool.Spec.Worker.Image}
	for _, t := range p.texts {
		named = append(named, t.Worker.Image)
	}
	out := make(map[string][]string, len(images))
	for slot, image := range images {
		out[slot] = []string{image}
		if image == r.WorkerImage || !slices.Contains(named, image) {
			out[slot] = append(out[slot], "")
		}
	}
	return out
}

// envFromOf tells what each slot of a pod has variables from. A pod that doesn't say has none; what can't be read is taken
// as good for nothing, as a restart of the pod puts it right.
func envFromOf(pod *corev1.Pod) map[string]string {
	text, says := pod.Annotations[v1alpha1.EnvFromAnnotation]
	if !says {
		return nil
	}
	var sources map[string]string
	if json.Unmarshal([]byte(text), &sources) != nil {
		return map[string]string{rollout.SlotA: unreadable, rollout.SlotB: unreadable}
	}
	return sources
}

// unreadable equals no revision's sources.
const unreadable = "?"
