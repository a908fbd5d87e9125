//go:build integration

package operator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func TestO14_FirstInstallGoesStraightToItsVersion(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	w.awaitReady("main", "NoPods")
	scripts := w.served(pool, 2)
	got := w.awaitReady("main", "Promoted")

	if s := got.Status.Stable; s == nil || s.Version != v1alpha1.PoolV2 || s.Slot != "a" || got.Status.Canary != nil {
		t.Errorf("stable %v, canary %v; want v2 in slot a alone", s, got.Status.Canary)
	}
	for _, s := range scripts {
		if in := s.inForce(); in.GetStable() != "a" || in.GetCanary() != "" || in.GetSlots()[0].GetSize() != 4 || in.GetSlots()[1].GetRevision() != nil {
			t.Errorf("in force: %v", in)
		}
	}
	summaries := []string{got.Status.Weight.Summary, got.Status.Pods.Summary, got.Status.Workers.Summary}
	if diff := cmp.Diff([]string{"100", "2/2", "8/8"}, summaries); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
}

func TestO1_O2_EveryConditionAtTheFirstVisit(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	w.pool("main", nil)
	pool := w.awaitReady("main", "NoPods")
	for _, name := range []string{
		v1alpha1.ConditionReady, v1alpha1.ConditionAvailable, v1alpha1.ConditionInjected,
		v1alpha1.ConditionConfigSynced, v1alpha1.ConditionPromoted, v1alpha1.ConditionMetricsAvailable,
		v1alpha1.ConditionErrorsHealthy, v1alpha1.ConditionResourcesHealthy, v1alpha1.ConditionPaused, v1alpha1.ConditionRolledBack, v1alpha1.ConditionAccepted,
	} {
		if c := condition(pool, name); c.Status == "" || c.ObservedGeneration != pool.Generation {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if pool.Status.ObservedGeneration != pool.Generation {
		t.Errorf("observedGeneration %d, want %d", pool.Status.ObservedGeneration, pool.Generation)
	}
}

func TestO8_TheSpecIsNeverOurs(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("10") }), 1)
	w.awaitReady("main", "CanaryPinned")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = nil })
	pool := w.awaitReady("main", "Promoted")
	ours := 0
	for _, f := range pool.ManagedFields {
		if f.Manager != v1alpha1.ManagedBy {
			continue
		}
		ours++
		if f.Subresource != "status" || strings.Contains(f.FieldsV1.GetRawString(), `"f:spec"`) {
			t.Errorf("the operator owns, on %q: %s", f.Subresource, f.FieldsV1.GetRawString())
		}
	}
	if ours == 0 {
		t.Error("the operator owns nothing at all: its field manager has another name")
	}
}

// O15, O17, O66, O67, O78: a first apply of v2 with a weight, raised, promoted.
func TestO66_O67_O78_FromFirstApplyToPromotion(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("10") })
	slow, quick := newScript(), newScript()
	slow.starting = true
	w.connect(w.pod("slow", pool, nil), slow)
	w.connect(w.pod("quick", pool, nil), quick)

	waiting := w.awaitReady("main", "WaitingForWorkers")
	if got := []string{string(waiting.Status.Stable.Version), string(waiting.Status.Canary.Version), waiting.Status.Weight.Summary}; !slices.Equal(got, []string{"v1", "v2", "0→10"}) {
		t.Errorf("while the canary's workers start: %v", got)
	}
	time.Sleep(300 * time.Millisecond) // time in which weight could move that mustn't
	if got := quick.weights(); slices.Max(got) != 0 {
		t.Errorf("TestO17: weights %v in force while a pod's canary isn't ready", got)
	}

	slow.set(func(s *script) { s.starting = false })
	pinned := w.awaitReady("main", "CanaryPinned")
	if pinned.Status.Weight.Applied != "10" || pinned.Status.Weight.Summary != "10" {
		t.Errorf("weight %+v", pinned.Status.Weight)
	}
	for _, s := range []*script{slow, quick} {
		s.serve(1000, 10*time.Millisecond)
	}
	time.Sleep(1500 * time.Millisecond) // figures come with the routers' reports, one a second

	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Canary = weight("100") })
	promoted := w.awaitReady("main", "Promoted")
	if s := promoted.Status.Stable; s.Version != v1alpha1.PoolV2 || s.Slot != "b" || s.Revision != pinned.Status.Canary.Revision {
		t.Errorf("stable %+v, want the canary %+v", s, pinned.Status.Canary)
	}
	if got := quick.weights(); !slices.Equal(got, []uint32{0, 1000, 10000, 0}) {
		t.Errorf("weights in force, in order: %v; want 0, 10 %%, 100 %%, then none", got)
	}
	if in := quick.inForce(); in.GetStable() != "b" || in.GetSlots()[0].GetRevision() != nil {
		t.Errorf("after the promotion in force: %v; want slot a idle", in)
	}
	served := slices.IndexFunc(promoted.Status.Versions, func(v v1alpha1.VersionStatus) bool { return v.Version == "v1" })
	if served < 0 {
		t.Fatalf("no figures of v1 in %+v", promoted.Status.Versions)
	}
	stable := promoted.Status.Versions[served]
	if stable.Requests != 1800 || stable.P50.Round(time.Millisecond) != 10*time.Millisecond {
		t.Errorf("figures of v1: %+v, want 1800 requests of 10 ms", stable)
	}
}

func TestO18_SizeMovesNoRole(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.served(w.pool("main", nil), 1)
	before := w.awaitReady("main", "Promoted")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 6 })
	w.await("size 6", func() error {
		if got := w.awaitReady("main", "Promoted").Status.Workers.Summary; got != "6/6" {
			return fmt.Errorf("workers %s", got)
		}
		return nil
	})
	after := w.get("main")
	if diff := cmp.Diff(before.Status.Stable, after.Status.Stable); diff != "" {
		t.Errorf("stable changed:\n%s", diff)
	}
	if got := len(scripts[0].weights()); got != 2 {
		t.Errorf("%d snapshots in force, want 2: one per change", got)
	}
}

func TestO34_WorkersThatDoNotStart(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	scripts := w.served(pool, 2)
	before := w.awaitReady("main", "Promoted")
	scripts[1].set(func(s *script) { s.broken["demo.broken"] = "File \"broken.py\", line 1\nRuntimeError: no settings" })
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.broken" })

	stalled := w.awaitReady("main", "WorkerBootFailed")
	for name, want := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionStalled: metav1.ConditionTrue,
		v1alpha1.ConditionAvailable: metav1.ConditionTrue, v1alpha1.ConditionReconciling: "",
	} {
		if got := condition(stalled, name).Status; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if m := condition(stalled, v1alpha1.ConditionStalled).Message; !strings.Contains(m, "RuntimeError: no settings") || !strings.Contains(m, "main-1") {
		t.Errorf("message without traceback or pod: %s", m)
	}
	if diff := cmp.Diff(before.Status.Stable, stalled.Status.Stable); diff != "" {
		t.Errorf("the stable changed:\n%s", diff)
	}
	for _, s := range scripts {
		if got := s.weights(); slices.Max(got) != 0 {
			t.Errorf("weights %v, want never more than 0", got)
		}
	}

	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.fixed" })
	fixed := w.awaitReady("main", "Promoted")
	if condition(fixed, v1alpha1.ConditionStalled).Status != "" {
		t.Error("still stalled after the fix")
	}
}

func TestO21_BackToTheStableWhileTheCanaryServes(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.served(w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 }), 1)
	before := w.awaitReady("main", "Promoted")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion, s.Canary = v1alpha1.PoolV2, weight("25") })
	w.awaitReady("main", "CanaryPinned")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 })
	after := w.awaitReady("main", "Promoted")
	if diff := cmp.Diff(before.Status.Stable, after.Status.Stable); diff != "" || after.Status.Canary != nil {
		t.Errorf("stable (-before +after):\n%scanary %v", diff, after.Status.Canary)
	}
	if got := scripts[0].weights(); !slices.Equal(got, []uint32{0, 0, 2500, 0, 0}) {
		t.Errorf("weights in force: %v; want the canary off the traffic before its slot idles", got)
	}
	last := scripts[0].inForce()
	if last.GetSlots()[1].GetRevision() != nil {
		t.Errorf("slot b isn't idle: %v", last)
	}
}

func TestO5_AnIdlePoolIsNotWritten(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	w.served(w.pool("main", nil), 2)
	before := w.awaitReady("main", "Promoted")
	time.Sleep(3 * time.Second) // in which each router reports three times
	if after := w.get("main"); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("written while idle:\n%s", cmp.Diff(before.Status, after.Status))
	}
}

func TestO50_PodsWithoutSidecarsAreNamed(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	w.served(pool, 1)
	w.awaitReady("main", "Promoted")
	old := w.plainPod("web-5d9f-x", pool)
	got := w.awaitReady("main", "PodsNotInjected")
	c := condition(got, v1alpha1.ConditionInjected)
	for _, want := range []string{"1 of 2 pods", old.Name, "kubectl rollout restart -n " + w.namespace + " deployment/web"} {
		if !strings.Contains(c.Message, want) {
			t.Errorf("message lacks %q: %s", want, c.Message)
		}
	}
	if got.Status.Pods.Matched != 2 || got.Status.Pods.Injected != 1 {
		t.Errorf("pods %+v", got.Status.Pods)
	}
}

func TestO74_ACappedSizeIsReported(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.served(w.pool("main", nil), 1)
	w.awaitReady("main", "Promoted")
	scripts[0].set(func(s *script) { s.room = 5 })
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Size = 8 })
	got := w.awaitReady("main", "ResourcesInsufficient")
	c := condition(got, v1alpha1.ConditionConfigSynced)
	if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "room for 5 workers per slot, not 8") {
		t.Errorf("ConfigSynced %+v", c)
	}
	if got.Status.Workers.Summary != "5/5" {
		t.Errorf("workers %s, want 5/5", got.Status.Workers.Summary)
	}
}

func TestRevisionsAreStoredAndPruned(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	scripts := w.served(w.pool("main", nil), 1)
	w.awaitReady("main", "Promoted")
	for i := range 12 {
		w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = fmt.Sprintf("demo.m%d", i) })
		w.awaitReady("main", "Promoted")
	}
	var list appsv1.ControllerRevisionList
	w.await("pruning", func() error {
		w.must(server.Client.List(testContext(t), &list, client.InNamespace(w.namespace)))
		if len(list.Items) > 10 {
			return fmt.Errorf("%d revisions", len(list.Items))
		}
		return nil
	})
	stable := w.get("main").Status.Stable.Revision
	if !slices.ContainsFunc(list.Items, func(r appsv1.ControllerRevision) bool { return r.Name == "main-"+stable }) {
		t.Error("the stable's revision is gone")
	}
	if got := scripts[0].inForce().GetSlots(); got[0].GetRevision().GetModule() != "demo.m11" && got[1].GetRevision().GetModule() != "demo.m11" {
		t.Errorf("in force: %v", got)
	}
}

// A first install that never served is replaced as it is corrected, whatever the weight: there is nothing to canary
// against.
func TestAFirstInstallIsCorrected(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module, s.Canary = "demo.typo", weight("10") })
	s := newScript()
	s.broken["demo.typo"] = "ModuleNotFoundError: No module named 'demo.typo'"
	w.connect(w.pod("main-0", pool, nil), s)
	w.awaitReady("main", "WorkerBootFailed")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "demo.commands" })
	pinned := w.awaitReady("main", "CanaryPinned")
	if st := pinned.Status; st.Stable.Version != v1alpha1.PoolV1 || st.Canary.Version != v1alpha1.PoolV2 || !st.Stable.Proven {
		t.Errorf("stable %+v, canary %+v; want v1 and v2 of the corrected module", st.Stable, st.Canary)
	}
	for _, slot := range s.inForce().GetSlots() {
		if got := slot.GetRevision().GetModule(); got != "demo.commands" {
			t.Errorf("slot %s runs %s", slot.GetName(), got)
		}
	}
}

// A changed image isn't run in a container that was made with another one: the canary's slot waits for new pods.
func TestANewImageWaitsForNewPods(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	old := newScript()
	disconnect := w.connect(w.pod("old", pool, nil), old)
	w.awaitReady("main", "Promoted")
	w.change("main", func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Image = "shop/worker:2" })
	outdated := w.awaitReady("main", "PodsOutdated")
	if m := condition(outdated, v1alpha1.ConditionStalled).Message; outdated.Status.Pods.Outdated != 1 || !strings.Contains(m, "kubectl delete -n "+w.namespace+" pod/old") {
		t.Errorf("outdated %d, message: %s", outdated.Status.Pods.Outdated, m)
	}
	if in := old.inForce(); in.GetCanary() != "" || in.GetSlots()[1].GetRevision() != nil {
		t.Errorf("the old pod was told to run the new image's revision: %v", in)
	}

	disconnect()
	w.must(server.Client.Delete(testContext(t), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "old"}}, client.GracePeriodSeconds(0)))
	w.connect(w.pod("new", pool, func(p *corev1.Pod) {
		p.Annotations[v1alpha1.ImagesAnnotation] = fmt.Sprintf(`{"a":%q,"b":"shop/worker:2"}`, workerImage)
	}), newScript())
	if got := w.awaitReady("main", "Promoted"); got.Status.Stable.Image != "shop/worker:2" {
		t.Errorf("stable %+v", got.Status.Stable)
	}
}

func TestTheBundleComesBack(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	w.pool("main", nil)
	before := w.bundle("main")
	w.must(server.Client.Delete(testContext(t), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "main-workerpool-ca"}}))
	if diff := cmp.Diff(string(before), string(w.bundle("main"))); diff != "" {
		t.Errorf("another bundle:\n%s", diff)
	}
}

// Deleting a pool ends its streams and leaves its pods alone.
func TestO12_ADeletedPool(t *testing.T) {
	startOperator(t)
	w := newWorld(t)
	pool := w.pool("main", nil)
	w.served(pool, 1)
	if got := w.awaitReady("main", "Promoted"); len(got.Finalizers) != 0 {
		t.Errorf("finalizers %v", got.Finalizers)
	}
	var pod corev1.Pod
	w.must(server.Client.Get(testContext(t), client.ObjectKey{Namespace: w.namespace, Name: "main-0"}, &pod))
	channel, token := w.dial("main"), w.token(&pod, "pool.dspex.dev")
	w.must(server.Client.Delete(testContext(t), pool))
	w.await("refusal", func() error {
		_, err := hello(testContext(t), channel, token, &controlpb.Hello{Pool: "main", PoolUid: string(pool.UID), Instance: "other"})
		if status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("the stream of a deleted pool: %w", err)
		}
		return nil
	})
	w.must(server.Client.Get(testContext(t), client.ObjectKeyFromObject(&pod), &pod))
}
