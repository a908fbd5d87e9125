package controllers

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
	"github.com/dspex/workerpool-operator/internal/status"
)

// TestWhatASlotsImageIsGoodFor: an upgrade of the operator, and of its worker image with it, makes no pod outdated.
func TestWhatASlotsImageIsGoodFor(t *testing.T) {
	pool := &v1alpha1.WorkerPool{Spec: v1alpha1.WorkerPoolSpec{Worker: v1alpha1.Worker{Image: "shop/worker:2"}}}
	p := &pass{pool: pool, texts: revision.Texts{"x": {Worker: revision.Worker{Image: "shop/worker:1"}}}}
	r := &WorkerPoolReconciler{WorkerImage: "operator/worker:9"}
	for name, tc := range map[string]struct {
		annotation string
		want       map[string][]string
	}{
		"the spec's":                         {`{"a":"shop/worker:2"}`, map[string][]string{"a": {"shop/worker:2"}}},
		"an earlier revision's":              {`{"a":"shop/worker:1"}`, map[string][]string{"a": {"shop/worker:1"}}},
		"the operator's own":                 {`{"b":"operator/worker:9"}`, map[string][]string{"b": {"operator/worker:9", ""}}},
		"the operator's, of another release": {`{"b":"operator/worker:8"}`, map[string][]string{"b": {"operator/worker:8", ""}}},
		"not said":                           {"", nil},
		"not readable":                       {"{", nil},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.ImagesAnnotation: tc.annotation}}}
			if diff := cmp.Diff(tc.want, r.imagesOf(pod, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhatASlotHasVariablesFrom: a pod from before there was such a field has none.
func TestWhatASlotHasVariablesFrom(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        map[string]bool // by slot: it suits a revision with secret/llm-keys; absent: one without any
	}{
		"not said":     {nil, nil},
		"both slots":   {map[string]string{v1alpha1.EnvFromAnnotation: `{"a":"secret/llm-keys","b":"secret/llm-keys"}`}, map[string]bool{"a": true, "b": true}},
		"one slot":     {map[string]string{v1alpha1.EnvFromAnnotation: `{"b":"secret/llm-keys"}`}, map[string]bool{"b": true}},
		"not readable": {map[string]string{v1alpha1.EnvFromAnnotation: `{`}, map[string]bool{"a": false, "b": false}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := rollout.Pod{EnvFrom: envFromOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}})}
			for _, slot := range []string{"a", "b"} {
				with, said := tc.want[slot]
				got := [2]bool{
					pod.HasEnvFrom(&v1alpha1.SlotRevision{Slot: slot, EnvFrom: "secret/llm-keys"}),
					pod.HasEnvFrom(&v1alpha1.SlotRevision{Slot: slot}),
				}
				if want := [2]bool{with, !said}; got != want {
					t.Errorf("slot %s suits a revision with the Secret and one without: %v, want %v", slot, got, want)
				}
			}
		})
	}
}

// TestWhichVolumesAPodHas: they are compared with the spec's, as they are in no revision.
func TestWhichVolumesAPodHas(t *testing.T) {
	wants := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "main", UID: "pool"}}
	wants.Spec.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "models", MountPath: "/models"}}
	without := wants.DeepCopy()
	without.Spec.Worker.VolumeMounts = nil
	for name, tc := range map[string]struct {
		pool        *v1alpha1.WorkerPool
		annotations map[string]string
		other       bool
	}{
		"none wanted, none there": {without, nil, false},
		"wanted and there":        {wants, map[string]string{v1alpha1.MountsAnnotation: `[{"name":"models","mountPath":"/models"}]`}, false},
		"not there":               {wants, nil, true},
		"there, not wanted":       {without, map[string]string{v1alpha1.MountsAnnotation: `[{"name":"models","mountPath":"/models"}]`}, true},
		"elsewhere":               {wants, map[string]string{v1alpha1.MountsAnnotation: `[{"name":"models","mountPath":"/m"}]`}, true},
		"a pod without sidecars":  {wants, map[string]string{v1alpha1.InjectedAnnotation: ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := memberPod("u", "pool")
			maps.Copy(pod.Annotations, tc.annotations)
			fleet := control.NewFleet(time.Now, control.NewMetrics(prometheus.NewRegistry()), func(types.NamespacedName) {})
			r := &WorkerPoolReconciler{Client: fakeClient(t, pod), Fleet: fleet}
			p := &pass{key: client.ObjectKeyFromObject(tc.pool), pool: tc.pool, memory: &memory{}}
			if err := r.observePods(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if len(p.pods) != 1 || p.pods[0].OtherMounts != tc.other {
				t.Errorf("%+v; want one pod with other mounts %v", p.pods, tc.other)
			}
		})
	}
}

func TestWhichPodsCount(t *testing.T) {
	now := metav1.Now()
	for name, tc := range map[string]struct {
		pod  corev1.Pod
		want bool
	}{
		"running":     {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}, true},
		"pending":     {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending}}, true},
		"succeeded":   {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, false},
		"failed":      {corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, false},
		"terminating": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, false},
	} {
		if got := counts(&tc.pod); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAPodHasTimeToJoin(t *testing.T) {
	led := time.Unix(1_800_000_000, 0)
	pod := func(started time.Duration) *corev1.Pod {
		p := memberPod("u", "pool")
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: led.Add(started)}}
		return p
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		view control.PodView
		now  time.Duration
		want bool
	}{
		"after a change of leader":         {pod(-time.Hour), control.PodView{}, 14 * time.Second, true},
		"long after it":                    {pod(-time.Hour), control.PodView{}, 15 * time.Second, false},
		"after its own start":              {pod(time.Hour), control.PodView{}, time.Hour + 14*time.Second, true},
		"long after that":                  {pod(time.Hour), control.PodView{}, time.Hour + 15*time.Second, false},
		"after its stream ended":           {pod(0), control.PodView{Since: led.Add(time.Hour)}, time.Hour + 14*time.Second, true},
		"connected: it needs no such time": {pod(0), control.PodView{Connected: true}, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pass{pool: &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{UID: "pool"}}, led: led, now: led.Add(tc.now)}
			if got := p.podFacts(tc.pod, tc.view).Joining; got != tc.want {
				t.Errorf("joining %v, want %v", got, tc.want)
			}
		})
	}
}

// TestO5_APodThatOnlyChangesItsStreamIsSettled: for as long as it has to come back, and only if nothing is new for it.
func TestO5_APodThatOnlyChangesItsStreamIsSettled(t *testing.T) {
	led := time.Unix(1_800_000_000, 0)
	ended := led.Add(time.Hour)
	for name, tc := range map[string]struct {
		view control.PodView
		now  time.Time
		want bool
	}{
		"moments ago":          {control.PodView{Settled: true, Since: ended}, ended.Add(14 * time.Second), true},
		"long ago":             {control.PodView{Settled: true, Since: ended}, ended.Add(15 * time.Second), false},
		"it hasn't the newest": {control.PodView{Since: ended}, ended, false},
		"connected":            {control.PodView{Connected: true, Acknowledged: true, Since: ended}, ended, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := memberPod("u", "pool")
			pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: led}}
			p := &pass{pool: &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{UID: "pool"}}, led: led, now: tc.now}
			if got := p.podFacts(pod, tc.view); got.Settled != tc.want || got.Acknowledged != tc.view.Acknowledged {
				t.Errorf("settled %v, acknowledged %v; want %v, %v", got.Settled, got.Acknowledged, tc.want, tc.view.Acknowledged)
			}
		})
	}
}

// Where the cache is behind the leader's own last write, that is what is acted upon: a server that hangs says nothing of it.
func TestOwnWritesAreReadBeforeTheNextDecision(t *testing.T) {
	at := func(version string) *v1alpha1.WorkerPool {
		return &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	for _, tc := range []struct{ cached, written, want string }{
		{"99", "", "99"}, {"100", "100", "100"}, {"101", "100", "101"}, {"99", "100", "100"},
	} {
		p := &pass{pool: at(tc.cached), memory: &memory{}}
		if tc.written != "" {
			p.memory.record.written = at(tc.written)
		}
		if err := p.upToDate(); err != nil || p.pool.ResourceVersion != tc.want {
			t.Errorf("cached %s after writing %q: %s, %v; want %s", tc.cached, tc.written, p.pool.ResourceVersion, err, tc.want)
		}
	}
}

// What one leader, or one pool of that name, knew is nothing to the next.
func TestMemories(t *testing.T) {
	var m memories
	key, led := types.NamespacedName{Name: "main"}, time.Unix(1, 0)
	first := m.of(key, "uid", led)
	if m.of(key, "uid", led) != first {
		t.Error("forgotten between passes")
	}
	for name, other := range map[string]*memory{
		"another UID":        m.of(key, "other", led),
		"another leadership": m.of(key, "other", led.Add(1)),
	} {
		if other == first {
			t.Errorf("%s: remembered", name)
		}
	}
}

// A pool was deleted and made anew within one pass, and the cache still has the earlier one: nothing of it, neither what
// is remembered nor its routers nor its status, is the new one's.
func TestAPoolMadeAnewHasNothingOfItsNamesake(t *testing.T) {
	poolOf := func(uid types.UID, is v1alpha1.WorkerPoolStatus) *v1alpha1.WorkerPool {
		return &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "main", UID: uid}, Status: is}
	}
	old := poolOf("old", v1alpha1.WorkerPoolStatus{Stable: &v1alpha1.SlotRevision{Revision: "0123456789"}})
	anew := poolOf("new", v1alpha1.WorkerPoolStatus{})
	fleet := control.NewFleet(time.Now, control.NewMetrics(prometheus.NewRegistry()), func(types.NamespacedName) {})
	key := client.ObjectKeyFromObject(old)
	fleet.Track(key, "old")
	fleet.Publish(key, &controlpb.Snapshot{Stable: "a"})
	r := &WorkerPoolReconciler{Client: fakeClient(t, old), Live: fakeClient(t, anew), Fleet: fleet}
	p := &pass{key: key, led: time.Unix(1, 0)}
	if err := r.find(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p.pool.UID != "new" || p.memory.uid != "new" || p.before.Stable != nil {
		t.Errorf("pool %s, memory of %s, status %+v", p.pool.UID, p.memory.uid, p.before.Stable)
	}
	if fleet.Published(key, &controlpb.Snapshot{Stable: "a"}) {
		t.Error("the fleet still has what the earlier pool's routers were told")
	}
}

func TestTheCacheKeepsLittleOfAPod(t *testing.T) {
	pod := memberPod("u", "pool")
	pod.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "long"
	made := map[string]string{v1alpha1.ImagesAnnotation: "i", v1alpha1.EnvFromAnnotation: "e", v1alpha1.MountsAnnotation: "m"}
	maps.Copy(pod.Annotations, made)
	pod.Spec.Containers = []corev1.Container{{Name: "app"}}
	killed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", FinishedAt: metav1.Unix(1_800_000_000, 0)}}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: "Ready"}},
		InitContainerStatuses: []corev1.ContainerStatus{
			{Name: "own", LastTerminationState: killed}, {Name: "pool-a", Image: "shop"}, {Name: "pool-b", Image: "shop", RestartCount: 3, LastTerminationState: killed},
		},
	}
	got, err := stripPod(pod)
	want := memberPod("u", "pool")
	maps.Copy(want.Annotations, made)
	want.Status.Phase = corev1.PodRunning
	want.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "pool-b", RestartCount: 3, LastTerminationState: killed}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestP76_KilledContainers: of a slot whose container was killed with all that was in it, the pod's status tells.
func TestP76_KilledContainers(t *testing.T) {
	at := metav1.Unix(1_800_000_000, 0)
	ended := func(name, reason string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, RestartCount: 2, LastTerminationState: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Reason: reason, FinishedAt: at},
		}}
	}
	for name, tc := range map[string]struct {
		statuses []corev1.ContainerStatus
		want     map[string]status.Kill
	}{
		"never ended":  {[]corev1.ContainerStatus{{Name: "pool-a"}}, map[string]status.Kill{}},
		"out of it":    {[]corev1.ContainerStatus{ended("pool-b", "OOMKilled")}, map[string]status.Kill{"b": {At: at.Time, Restarts: 2}}},
		"an error":     {[]corev1.ContainerStatus{ended("pool-b", "Error")}, map[string]status.Kill{}},
		"no slot's":    {[]corev1.ContainerStatus{ended("pool-router", "OOMKilled")}, map[string]status.Kill{}},
		"both of them": {[]corev1.ContainerStatus{ended("pool-a", "OOMKilled"), ended("pool-b", "OOMKilled")}, map[string]status.Kill{"a": {At: at.Time, Restarts: 2}, "b": {At: at.Time, Restarts: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := killsOf(&corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: tc.statuses}})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestASettlingLeaderIsSilent(t *testing.T) {
	led := time.Unix(1_800_000_000, 0)
	heard := status.Pod{Live: true}
	heard.Connected, heard.Acknowledged = true, true
	away := status.Pod{Live: true}
	for name, tc := range map[string]struct {
		change func(*pass)
		want   bool
	}{
		"a pod is on its way":          {func(*pass) {}, true},
		"all are heard, but no report": {func(p *pass) { p.pods = []status.Pod{heard} }, true},
		"no pods":                      {func(p *pass) { p.pods = nil }, false},
		"there was time enough":        {func(p *pass) { p.now = led.Add(joinGrace) }, false},
		"the spec changed":             {func(p *pass) { p.pool.Generation = 2 }, false},
		"a problem":                    {func(p *pass) { p.problem = "x" }, false},
		"it had settled before":        {func(p *pass) { p.memory.record.settled = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pass{
				pool: &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Generation: 1}}, memory: &memory{},
				led: led, now: led.Add(time.Second), pods: []status.Pod{heard, away},
				before: v1alpha1.WorkerPoolStatus{ObservedGeneration: 1},
			}
			tc.change(p)
			if got := p.settling(&p.before); got != tc.want {
				t.Errorf("silent %v, want %v", got, tc.want)
			}
		})
	}
	if a, b := (v1alpha1.WorkerPoolStatus{Canary: &v1alpha1.SlotRevision{}}), (v1alpha1.WorkerPoolStatus{}); sameRoles(&a, &b) || !sameRoles(&a, &a) {
		t.Error(fmt.Sprint("roles are compared wrongly: ", sameRoles(&a, &b), sameRoles(&a, &a)))
	}
}
