package revision_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/internal/revision"
)

func spec(change func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPoolSpec {
	s := &v1alpha1.WorkerPoolSpec{PoolVersion: v1alpha1.PoolV2, Size: 4, Worker: v1alpha1.Worker{Module: "summarizer.commands"}}
	if change != nil {
		change(s)
	}
	return s
}

// Hashes that are written down here are in clusters: a new field must not change them.
func TestHashesNeverChange(t *testing.T) {
	for name, tc := range map[string]struct {
		spec      *v1alpha1.WorkerPoolSpec
		canonical string
		hash      string
	}{
		"smallest": {
			spec(nil),
			`{"poolVersion":"v2","worker":{"module":"summarizer.commands"}}`,
			"8d9d2d549c",
		},
		"everything": {
			spec(func(s *v1alpha1.WorkerPoolSpec) {
				s.Worker.Image, s.Worker.Python = "shop/worker:3", "/venv/bin/python"
				s.Worker.Env = []v1alpha1.EnvVar{{Name: "MODE", Value: "a<b&c"}, {Name: "EMPTY"}}
			}),
			`{"poolVersion":"v2","worker":{"env":[{"name":"EMPTY"},{"name":"MODE","value":"a<b&c"}],"image":"shop/worker:3","module":"summarizer.commands","python":"/venv/bin/python"}}`,
			"e7ecbd0512",
		},
		"a preload": {
			spec(func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Preload = v1alpha1.PreloadZygote }),
			`{"poolVersion":"v2","worker":{"module":"summarizer.commands","preload":"Zygote"}}`,
			"cb1fe7f452",
		},
		"a folder, and variables from objects": {
			spec(func(s *v1alpha1.WorkerPoolSpec) {
				s.Worker.WorkingDir = "/app"
				s.Worker.EnvFrom = []v1alpha1.EnvFromSource{
					{SecretRef: &v1alpha1.EnvFromRef{Name: "llm-keys"}},
					{Prefix: "APP_", ConfigMapRef: &v1alpha1.EnvFromRef{Name: "settings", Optional: true}},
				}
			}),
			`{"poolVersion":"v2","worker":{"envFrom":[{"secretRef":{"name":"llm-keys"}},{"configMapRef":{"name":"settings","optional":true},"prefix":"APP_"}],"module":"summarizer.commands","workingDir":"/app"}}`,
			"423df54f79",
		},
		"a concurrency": {
			spec(func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Concurrency = 8 }),
			`{"poolVersion":"v2","worker":{"concurrency":8,"module":"summarizer.commands"}}`,
			"517584f870",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := revision.Of(tc.spec)
			if diff := cmp.Diff(tc.canonical, string(text.Canonical())); diff != "" {
				t.Errorf("canonical text (-want +got):\n%s", diff)
			}
			if text.Hash() != tc.hash {
				t.Errorf("hash %s, want %s", text.Hash(), tc.hash)
			}
		})
	}
}

func TestWhatIsInARevision(t *testing.T) {
	base := revision.Of(spec(nil)).Hash()
	for name, tc := range map[string]struct {
		change func(*v1alpha1.WorkerPoolSpec)
		same   bool
	}{
		"size":        {func(s *v1alpha1.WorkerPoolSpec) { s.Size = 9 }, true},
		"overflow":    {func(s *v1alpha1.WorkerPoolSpec) { s.Overflow = 9 }, true},
		"weight":      {func(s *v1alpha1.WorkerPoolSpec) { s.Canary = &v1alpha1.Canary{} }, true},
		"queue limit": {func(s *v1alpha1.WorkerPoolSpec) { s.QueueLimit = new(int32(3)) }, true},
		"timeouts":    {func(s *v1alpha1.WorkerPoolSpec) { s.Timeouts.Drain = &metav1.Duration{Duration: 1} }, true},
		"start limit": {func(s *v1alpha1.WorkerPoolSpec) { s.Timeouts.Start = &metav1.Duration{Duration: 1} }, true},
		"recycling":   {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Recycle = &v1alpha1.Recycle{MaxRequests: 9} }, true},
		"start":       {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Start = v1alpha1.StartLazy }, true},
		"no preload":  {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Preload = v1alpha1.PreloadNone }, true},
		"preload":     {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Preload = v1alpha1.PreloadZygote }, false},
		"one request": {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Concurrency = 1 }, true},
		"concurrency": {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Concurrency = 2 }, false},
		"version":     {func(s *v1alpha1.WorkerPoolSpec) { s.PoolVersion = v1alpha1.PoolV1 }, false},
		"image":       {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Image = "x" }, false},
		"python":      {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Python = "x" }, false},
		"module":      {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = "x" }, false},
		"folder":      {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.WorkingDir = "/x" }, false},
		"volume mounts": {func(s *v1alpha1.WorkerPoolSpec) {
			s.Worker.VolumeMounts = []v1alpha1.VolumeMount{{Name: "x", MountPath: "/x"}}
		}, true},
		"env from": {func(s *v1alpha1.WorkerPoolSpec) {
			s.Worker.EnvFrom = []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.EnvFromRef{Name: "x"}}}
		}, false},
		"env": {func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Env = []v1alpha1.EnvVar{{Name: "A"}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if same := revision.Of(spec(tc.change)).Hash() == base; same != tc.same {
				t.Errorf("the same revision: %v, want %v", same, tc.same)
			}
		})
	}
}

func TestOrderOfEnvMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Z]{1,3}`), 0, 6, rapid.ID).Draw(t, "names")
		var env []v1alpha1.EnvVar
		for _, n := range names {
			env = append(env, v1alpha1.EnvVar{Name: n, Value: rapid.String().Draw(t, "value")})
		}
		one := revision.Of(spec(func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Env = env }))
		other := revision.Of(spec(func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Env = rapid.Permutation(env).Draw(t, "order") }))
		if one.Hash() != other.Hash() {
			t.Fatalf("%s and %s", one.Canonical(), other.Canonical())
		}
	})
}

func TestSourcesTellEveryDifferenceOfAContainer(t *testing.T) {
	key, settings := v1alpha1.EnvFromRef{Name: "llm-keys"}, v1alpha1.EnvFromRef{Name: "settings", Optional: true}
	for want, sources := range map[string][]v1alpha1.EnvFromSource{
		"":                                     nil,
		"secret/llm-keys":                      {{SecretRef: &key}},
		"configmap/llm-keys":                   {{ConfigMapRef: &key}},
		"LLM_=secret/llm-keys":                 {{Prefix: "LLM_", SecretRef: &key}},
		"configmap/settings?":                  {{ConfigMapRef: &settings}},
		"secret/llm-keys, configmap/settings?": {{SecretRef: &key}, {ConfigMapRef: &settings}},
		"configmap/settings?, secret/llm-keys": {{ConfigMapRef: &settings}, {SecretRef: &key}},
	} {
		worker := revision.Worker{EnvFrom: sources}
		if got := worker.Sources(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestParseReadsWhatCanonicalWrote(t *testing.T) {
	want := revision.Of(spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Worker.Env = []v1alpha1.EnvVar{{Name: "A", Value: "<ä>\u2028"}}
	}))
	got, err := revision.Parse(want.Canonical())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := revision.Parse([]byte("{")); err == nil {
		t.Error("half a text was read")
	}
}

func pool(uid string) *v1alpha1.WorkerPool {
	p := &v1alpha1.WorkerPool{Spec: *spec(nil)}
	p.Name, p.Namespace, p.UID = "main", "shop", "uid-1"
	if uid != "" {
		p.UID = "other"
	}
	return p
}

func TestRead(t *testing.T) {
	text := revision.Of(spec(nil))
	own := *revision.Object(pool(""), text, 1)
	edited := *own.DeepCopy()
	edited.Data.Raw = text.On(v1alpha1.PoolV1).Canonical()
	for name, tc := range map[string]struct {
		objects []appsv1.ControllerRevision
		want    revision.Texts
		says    string
	}{
		"its own":                   {[]appsv1.ControllerRevision{own}, revision.Texts{text.Hash(): text}, ""},
		"of a pool that is deleted": {[]appsv1.ControllerRevision{*revision.Object(pool("other"), text, 1)}, revision.Texts{}, ""},
		"text that isn't its name's": {
			[]appsv1.ControllerRevision{edited}, nil,
			"ControllerRevision " + own.Name + " isn't a revision of pool main",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := revision.Read(pool(""), tc.objects)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (tc.says != "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %q", err, tc.says)
			}
		})
	}
}

// O12: no finalizer, and nothing that would need one.
func TestO12_AnOwnerDoesNotBlockItsDeletion(t *testing.T) {
	o := revision.Object(pool(""), revision.Of(spec(nil)), 1)
	ref := metav1.GetControllerOf(o)
	if ref == nil || ref.UID != "uid-1" || ref.BlockOwnerDeletion != nil || len(o.Finalizers) > 0 {
		t.Errorf("owner %+v, finalizers %v", ref, o.Finalizers)
	}
}

func TestSurplusKeepsTheLastTenAndThoseInUse(t *testing.T) {
	var objects []appsv1.ControllerRevision
	for i := range 14 {
		text := revision.Of(spec(func(s *v1alpha1.WorkerPoolSpec) { s.Worker.Module = fmt.Sprintf("m%d", i) }))
		objects = append(objects, *revision.Object(pool(""), text, int64(i)))
	}
	foreign := *revision.Object(pool("other"), revision.Of(spec(nil)), 0)
	inUse := strings.TrimPrefix(objects[1].Name, "main-")
	var got []int64
	for _, o := range revision.Surplus(pool(""), append(objects, foreign), inUse) {
		got = append(got, o.Revision)
	}
	if diff := cmp.Diff([]int64{3, 2, 0}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if few := revision.Surplus(pool(""), objects[:10]); few != nil {
		t.Errorf("ten are kept, yet %d would go", len(few))
	}
}
