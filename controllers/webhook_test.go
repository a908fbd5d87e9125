package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/inject"
	"github.com/dspex/workerpool-operator/internal/revision"
	"github.com/dspex/workerpool-operator/internal/rollout"
)

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	return scheme
}

func poolNamed(name string) *v1alpha1.WorkerPool {
	return &v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1"},
		Spec: v1alpha1.WorkerPoolSpec{
			PoolVersion: v1alpha1.PoolV2, Size: 4, Worker: v1alpha1.Worker{Module: "summarizer.commands"},
		},
	}
}

// injectorOver reads from a cache and a server that may differ.
func injectorOver(t *testing.T, cached, live []client.Object) *Injector {
	t.Helper()
	scheme := testScheme(t)
	return &Injector{
		Cached:   fake.NewClientBuilder().WithScheme(scheme).WithObjects(cached...).Build(),
		Live:     fake.NewClientBuilder().WithScheme(scheme).WithObjects(live...).Build(),
		Settings: inject.Settings{OperatorImage: "operator:1", WorkerImage: "worker:1", ControlAddress: "control:9444"},
		decoder:  admission.NewDecoder(scheme),
	}
}

func admissionOf(t *testing.T, labels map[string]string) admission.Request {
	t.Helper()
	raw, err := json.Marshal(&corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: labels}, // the namespace is in the request alone, as with generated pods
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "shop",
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object:   runtime.RawExtension{Raw: raw},
	}}
}

func TestO72_RefusalNamesThePools(t *testing.T) {
	var many []client.Object
	for i := range 12 {
		many = append(many, poolNamed(fmt.Sprintf("pool-%02d", i)))
	}
	for name, tc := range map[string]struct {
		there []client.Object
		want  string
	}{
		"none": {nil, `names WorkerPool "sumarizer", which doesn't exist in namespace "shop" (there is: none)`},
		"some": {[]client.Object{poolNamed("b"), poolNamed("a")}, "(there is: a, b)"},
		"many": {many, "pool-08, pool-09 and 2 more)"},
	} {
		t.Run(name, func(t *testing.T) {
			response := injectorOver(t, nil, tc.there).Handle(t.Context(), admissionOf(t, map[string]string{v1alpha1.PoolLabel: "sumarizer"}))
			if response.Allowed || response.Result.Code != http.StatusForbidden || !strings.Contains(response.Result.Message, tc.want) {
				t.Errorf("allowed %v, %v; want a refusal with %q", response.Allowed, response.Result, tc.want)
			}
		})
	}
}

// What no object can be named is a refusal, too, before any server is asked for it.
func TestO72_LabelsThatNameNothing(t *testing.T) {
	for _, label := range []string{"", " ", ".", "..", "a/b", "50%", "Summarizer", "a_b", "-a", strings.Repeat("x", 300)} {
		injector := injectorOver(t, nil, []client.Object{poolNamed("summarizer")})
		response := injector.Handle(t.Context(), admissionOf(t, map[string]string{v1alpha1.PoolLabel: label}))
		want := fmt.Sprintf(`pod label pool.dspex.dev/pool is %q, which is no WorkerPool's name; name one of namespace "shop" (there is: summarizer), or remove the label.`, label)
		if response.Allowed || response.Result.Code != http.StatusForbidden || response.Result.Message != want {
			t.Errorf("label %q: allowed %v, %v", label, response.Allowed, response.Result)
		}
	}
}

func TestO72_PoolThatTheCacheHasNotSeenYet(t *testing.T) {
	response := injectorOver(t, nil, []client.Object{poolNamed("summarizer")}).
		Handle(t.Context(), admissionOf(t, map[string]string{v1alpha1.PoolLabel: "summarizer"}))
	if !response.Allowed || len(response.Patches) == 0 {
		t.Errorf("allowed %v, %d patches, %v; want an injected pod", response.Allowed, len(response.Patches), response.Result)
	}
}

func TestHandleLeavesOthersAlone(t *testing.T) {
	for name, change := range map[string]func(*admission.Request){
		"no label":         func(*admission.Request) {},
		"an update":        func(r *admission.Request) { r.Operation = admissionv1.Update },
		"something else":   func(r *admission.Request) { r.Resource.Resource = "services" },
		"a binding":        func(r *admission.Request) { r.SubResource = "binding" },
		"no label, delete": func(r *admission.Request) { r.Operation = admissionv1.Delete },
	} {
		t.Run(name, func(t *testing.T) {
			labels := map[string]string{v1alpha1.PoolLabel: "missing"}
			if strings.HasPrefix(name, "no label") {
				labels = nil
			}
			request := admissionOf(t, labels)
			change(&request)
			response := injectorOver(t, nil, nil).Handle(t.Context(), request)
			if !response.Allowed || len(response.Patches) != 0 {
				t.Errorf("allowed %v with %d patches, want it untouched", response.Allowed, len(response.Patches))
			}
		})
	}
}

// TestHandleTellsItsOwnFailuresFromRefusals: a failure is an internal error, which the API server reports as such.
func TestHandleTellsItsOwnFailuresFromRefusals(t *testing.T) {
	broken := errors.New("connection lost")
	injector := injectorOver(t, nil, nil)
	injector.Live = fake.NewClientBuilder().WithScheme(testScheme(t)).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return broken
		},
	}).Build()
	response := injector.Handle(t.Context(), admissionOf(t, map[string]string{v1alpha1.PoolLabel: "summarizer"}))
	if response.Allowed || response.Result.Code != http.StatusInternalServerError || !strings.Contains(response.Result.Message, broken.Error()) {
		t.Errorf("allowed %v, %v; want an internal error that says why", response.Allowed, response.Result)
	}
}

// TestBootstrapKnowsWhatServes: the spec has moved on, and a new pod starts with the stable revision's own text and
// with no more of the canary than all pods have acknowledged.
func TestBootstrapKnowsWhatServes(t *testing.T) {
	pool := poolNamed("summarizer")
	old := revision.Of(&pool.Spec).On(v1alpha1.PoolV1)
	old.Worker.Module = "summarizer.old"
	pool.Spec.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(50))}
	pool.Spec.Worker.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}
	canary := rollout.Place(revision.Of(&pool.Spec), rollout.SlotA)
	pool.Status = v1alpha1.WorkerPoolStatus{
		Stable: new(rollout.Place(old, rollout.SlotB)),
		Canary: &canary,
		Weight: v1alpha1.WeightStatus{Desired: "50", Applied: "0.25"},
	}
	stored := revision.Object(pool, old, 1)

	for name, tc := range map[string]struct{ cached, live []client.Object }{
		"from the cache":                   {[]client.Object{pool, stored}, nil},
		"the cache lacks the revision yet": {[]client.Object{pool}, []client.Object{pool, stored}},
	} {
		t.Run(name, func(t *testing.T) {
			got, workers, err := injectorOver(t, tc.cached, tc.live).bootstrap(t.Context(), pool)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := workers["a"].Sources(), workers["b"].Sources(); a != "secret/llm-keys" || b != "" {
				t.Errorf("workers have variables from %q in slot a and %q in slot b, want secret/llm-keys and nothing", a, b)
			}
			modules := map[string]string{}
			for _, s := range got.GetSlots() {
				modules[s.GetName()] = s.GetRevision().GetVersion() + " " + s.GetRevision().GetModule()
			}
			if got.GetStable() != "b" || got.GetCanary() != "a" || modules["b"] != "v1 summarizer.old" || modules["a"] != "v2 summarizer.commands" {
				t.Errorf("stable %s, canary %s, slots %v", got.GetStable(), got.GetCanary(), modules)
			}
			if got.GetCanaryWeight() != 25 || got.GetEpoch() != 0 || got.GetSequence() != 0 {
				t.Errorf("weight %d, epoch %d, sequence %d; want 25 hundredths and no epoch", got.GetCanaryWeight(), got.GetEpoch(), got.GetSequence())
			}
		})
	}
}

// A pod that is made between a change of the spec and the leader's next visit is made for what comes, unless it won't.
func TestAnIdleSlotIsMadeForWhatComesNext(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WorkerPool)
		want   string
	}{
		"another revision": {func(*v1alpha1.WorkerPool) {}, "team/worker:2 secret/llm-keys"},
		"unchanged":        {func(p *v1alpha1.WorkerPool) { p.Spec.Worker.Image, p.Spec.Worker.EnvFrom = "team/worker:1", nil }, "team/worker:1 "},
		"paused":           {func(p *v1alpha1.WorkerPool) { p.Spec.Paused = true }, "team/worker:1 "},
		"held":             {func(p *v1alpha1.WorkerPool) { p.Status.Hold = &v1alpha1.HoldStatus{By: v1alpha1.HeldByToken} }, "team/worker:1 "},
		"blocked":          {func(p *v1alpha1.WorkerPool) { p.Status.BlockedRevision = revision.Of(&p.Spec).Hash() }, "team/worker:1 "},
	} {
		t.Run(name, func(t *testing.T) {
			pool := poolNamed("summarizer")
			pool.Spec.Worker.Image = "team/worker:1"
			stable := revision.Of(&pool.Spec)
			pool.Status.Stable = new(rollout.Place(stable, rollout.SlotB))
			pool.Spec.Worker.Image = "team/worker:2"
			pool.Spec.Worker.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}}}
			tc.change(pool)
			_, workers, err := injectorOver(t, []client.Object{revision.Object(pool, stable, 1)}, nil).bootstrap(t.Context(), pool)
			if err != nil {
				t.Fatal(err)
			}
			made := workers["b"]
			if w, differs := workers["a"]; differs {
				made = w
			}
			if got := made.Image + " " + made.Sources(); got != tc.want {
				t.Errorf("slot a is made for %q, want %q", got, tc.want)
			}
			if b := workers["b"]; b.Image != "team/worker:1" || b.Sources() != "" {
				t.Errorf("slot b is made for %+v, want the stable", b)
			}
		})
	}
}

// TestO17_NewPodsStartWithNoMoreThanTheSpecAllows: whoever takes weight away means the pods to come, too, whether or not
// all others have acknowledged it.
func TestO17_NewPodsStartWithNoMoreThanTheSpecAllows(t *testing.T) {
	for name, tc := range map[string]struct {
		spec   func(*v1alpha1.WorkerPoolSpec)
		stable v1alpha1.PoolVersion
		want   uint32
	}{
		"unchanged":                         {func(*v1alpha1.WorkerPoolSpec) {}, v1alpha1.PoolV1, 5000},
		"taken away":                        {func(s *v1alpha1.WorkerPoolSpec) { s.Canary.Weight = new(intstr.FromInt32(0)) }, v1alpha1.PoolV1, 0},
		"lowered":                           {func(s *v1alpha1.WorkerPoolSpec) { s.Canary.Weight = new(intstr.FromString("0.5")) }, v1alpha1.PoolV1, 50},
		"raised, not acknowledged":          {func(s *v1alpha1.WorkerPoolSpec) { s.Canary = nil }, v1alpha1.PoolV1, 5000},
		"reverted":                          {func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 }, v1alpha1.PoolV1, 0},
		"another revision":                  {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "summarizer.next" }, v1alpha1.PoolV1, 0},
		"a v2 after another isn't exempted": {func(s *v1alpha1.WorkerPoolSpec) { s.Canary.Weight = new(intstr.FromInt32(1)) }, v1alpha1.PoolV2, 100},
	} {
		t.Run(name, func(t *testing.T) {
			pool := poolNamed("summarizer")
			pool.Spec.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(50))}
			old, present := revision.Of(&pool.Spec).On(tc.stable), revision.Of(&pool.Spec)
			old.Worker.Module = "summarizer.old"
			pool.Status = v1alpha1.WorkerPoolStatus{
				Stable: new(rollout.Place(old, rollout.SlotB)), Canary: new(rollout.Place(present, rollout.SlotA)),
				Weight: v1alpha1.WeightStatus{Applied: "50"},
			}
			tc.spec(&pool.Spec)
			got, _, err := injectorOver(t, []client.Object{revision.Object(pool, old, 1), revision.Object(pool, present, 2)}, nil).bootstrap(t.Context(), pool)
			if err != nil {
				t.Fatal(err)
			}
			if got.GetCanary() != "a" || got.GetCanaryWeight() != tc.want {
				t.Errorf("canary %q at %d, want a at %d", got.GetCanary(), got.GetCanaryWeight(), tc.want)
			}
		})
	}
}

// TestO37_O38_NewPodsOfARollback start without the canary's share, and with the retry token that ended the trips before.
func TestO37_O38_NewPodsOfARollback(t *testing.T) {
	pool := poolNamed("summarizer")
	pool.Spec.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(50))}
	present := revision.Of(&pool.Spec)
	stable := present.On(v1alpha1.PoolV1)
	pool.Status = v1alpha1.WorkerPoolStatus{
		Stable: new(rollout.Place(stable, rollout.SlotA)), Canary: new(rollout.Place(present, rollout.SlotB)),
		Weight: v1alpha1.WeightStatus{Applied: "50"}, Handled: v1alpha1.HandledTokens{Retry: "again"}, BlockedRevision: present.Hash(),
	}
	got, _, err := injectorOver(t, []client.Object{revision.Object(pool, stable, 1), revision.Object(pool, present, 2)}, nil).bootstrap(t.Context(), pool)
	if err != nil || got.GetCanaryWeight() != 0 || got.GetTrip().GetToken() != "again" {
		t.Errorf("weight %d, token %q, %v; want 0 although pods have acknowledged 50", got.GetCanaryWeight(), got.GetTrip().GetToken(), err)
	}
}

// A rollback to v1 moves everything, whatever the weight says, and so it does in new pods.
func TestANewPodOfARollbackIgnoresTheSpecsWeight(t *testing.T) {
	pool := poolNamed("summarizer")
	pool.Spec.Canary = &v1alpha1.Canary{Weight: new(intstr.FromInt32(5))}
	pool.Spec.PoolVersion = v1alpha1.PoolV1
	v1 := revision.Of(&pool.Spec)
	pool.Status = v1alpha1.WorkerPoolStatus{
		Stable: new(rollout.Place(v1.On(v1alpha1.PoolV2), rollout.SlotB)), Canary: new(rollout.Place(v1, rollout.SlotA)),
		Weight: v1alpha1.WeightStatus{Applied: "100"},
	}
	if got := rollout.CurrentWeight(pool); got != rollout.Full {
		t.Errorf("weight %s, want 100", got)
	}
}

// TestBootstrapOfAMissingRevision names the revision: a pod must not start with something that no one can describe.
func TestBootstrapOfAMissingRevision(t *testing.T) {
	pool := poolNamed("summarizer")
	pool.Status.Stable = &v1alpha1.SlotRevision{Version: v1alpha1.PoolV1, Revision: "0123456789", Slot: "a"}
	_, _, err := injectorOver(t, nil, nil).bootstrap(t.Context(), pool)
	if err == nil || !strings.Contains(err.Error(), "0123456789") {
		t.Errorf("got %v, want an error that names the revision", err)
	}
}

// TestPatchHasTheBootstrap holds the two ends together: what Handle patches in is what the router reads.
func TestPatchHasTheBootstrap(t *testing.T) {
	pool := poolNamed("summarizer")
	response := injectorOver(t, []client.Object{pool}, nil).Handle(t.Context(), admissionOf(t, map[string]string{v1alpha1.PoolLabel: pool.Name}))
	patch, err := json.Marshal(response.Patches)
	if err != nil {
		t.Fatal(err)
	}
	var operations []struct {
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		if o.Path != "/spec/initContainers" {
			continue
		}
		var containers []corev1.Container
		if err := json.Unmarshal(o.Value, &containers); err != nil {
			t.Fatal(err)
		}
		router := containers[len(containers)-1]
		snapshot := &controlpb.Snapshot{}
		if err := protojson.Unmarshal([]byte(router.Env[0].Value), snapshot); err != nil {
			t.Fatal(err)
		}
		if router.Env[0].Name != inject.BootstrapVariable || snapshot.GetSlots()[0].GetSize() != 4 {
			t.Errorf("%s = %s", router.Env[0].Name, router.Env[0].Value)
		}
		return
	}
	t.Errorf("no patch of the init containers in %s", patch)
}

// A newer API server has fields that this program doesn't know; it takes none away. Which ones it keeps at which level
// is shown in internal/inject.
func TestHandleTakesNothingAway(t *testing.T) {
	pool := poolNamed("summarizer")
	request := admissionOf(t, map[string]string{v1alpha1.PoolLabel: pool.Name})
	request.Object.Raw = []byte(strings.Replace(string(request.Object.Raw), `"spec":{`, `"spec":{"fieldOfAFutureVersion":true,`, 1))
	response := injectorOver(t, []client.Object{pool}, nil).Handle(t.Context(), request)
	if !response.Allowed || len(response.Patches) == 0 {
		t.Fatalf("allowed %v, %v", response.Allowed, response.Result)
	}
	for _, o := range response.Patches {
		if o.Operation == "remove" || o.Path == "/spec" {
			t.Errorf("%s %s", o.Operation, o.Path)
		}
	}
}
