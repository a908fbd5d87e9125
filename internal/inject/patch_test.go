package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4" // the API server's own
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// future is a field that no version of Kubernetes has yet.
const future = "fieldOfAFutureVersion"

// freeMaps have keys of the user's choice: an unknown one there isn't a field.
var freeMaps = []string{"labels", "annotations", "nodeSelector", "matchLabels", "requests", "limits", "overhead"}

// mark gives each object below at the unknown field, with the object's path as its value.
func mark(at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if !slices.Contains(freeMaps, key) {
				mark(at+"/"+key, child)
			}
		}
		v[future] = at
	case []any:
		for i, child := range v {
			mark(at+"/"+strconv.Itoa(i), child)
		}
	}
}

// unmark takes the unknown fields out again, and returns where each value of it was.
func unmark(at string, v any, found map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if value, marked := v[future].(string); marked {
			found[value] = at
			delete(v, future)
		}
		for key, child := range v {
			unmark(at+"/"+key, child, found)
		}
	case []any:
		for i, child := range v {
			unmark(at+"/"+strconv.Itoa(i), child, found)
		}
	}
}

// injectText injects a pod as the webhook does: it sees what it can decode, and patches the text.
func injectText(t *testing.T, text []byte, in Input) (patched []byte, after *corev1.Pod) {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal(text, pod); err != nil {
		t.Fatal(err)
	}
	after = mustInject(t, pod, in)
	operations, err := Patch(pod, after)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	if patched, err = decoded.Apply(text); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return patched, after
}

func parse(t *testing.T, text []byte) (v map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func render(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// everything is a pod with an object of every kind that injection passes by.
func everything(t *testing.T) *corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(text, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// A field that the API server knows and this program doesn't stays, at every level, beside what injection adds and inside
// what it changes.
func TestUnknownFieldsSurviveInjectionAtEveryLevel(t *testing.T) {
	cases := maps.Clone(goldenCases)
	cases["everything"] = goldenCase{everything(t), inputOf()}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			text := render(t, tc.pod)
			marked := parse(t, text)
			mark("", marked)
			patched, after := injectText(t, render(t, marked), tc.in)

			want, got := map[string]string{}, map[string]string{}
			unmark("", marked, want)
			result := parse(t, patched)
			unmark("", result, got)
			for path := range want {
				want[path] = shifted(path)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("where the unknown fields of the objects are (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(parse(t, render(t, after)), result); diff != "" {
				t.Errorf("the rest isn't the injected pod (-want +got):\n%s", diff)
			}
		})
	}
}

// shifted is where an object is after injection: our own init containers come first.
func shifted(path string) string {
	const list = "/spec/initContainers/"
	rest, isInit := strings.CutPrefix(path, list)
	if !isInit {
		return path
	}
	index, below, _ := strings.Cut(rest, "/")
	n, _ := strconv.Atoi(index)
	return strings.TrimSuffix(fmt.Sprintf("%s%d/%s", list, n+len(ownContainers), below), "/")
}

// The API server may write what is empty in several ways, and quantities as it likes: what injection has no business with
// stays as it was written.
func TestInjectionKeepsHowThePodIsWritten(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":     `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"web"}]}}`,
		"nulls":       `{"metadata":{"annotations":null},"spec":{"containers":[{"name":"web","env":null,"volumeMounts":null,"resources":null}],"initContainers":null,"volumes":null}}`,
		"empty lists": `{"metadata":{"annotations":{}},"spec":{"containers":[{"name":"web","env":[],"volumeMounts":[]}],"initContainers":[],"volumes":[]}}`,
		"quantities":  `{"metadata":{},"spec":{"containers":[{"name":"web","resources":{"requests":{"cpu":1,"memory":"1024Mi"}}}],"resources":{"limits":{"memory":"2048Mi"}}}}`,
		"twice the same variable and volume": `{"metadata":{},"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"},{"name":"A","value":"2"}],
			"volumeMounts":[{"name":"x","mountPath":"/a"},{"name":"x","mountPath":"/b"}]}],"volumes":[{"name":"x","emptyDir":{}}]}}`,
		"keys to be escaped": `{"metadata":{"annotations":{"a/b~c":"1"}},"spec":{"containers":[{"name":"web"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			patched, after := injectText(t, []byte(text), inputOf())
			got := &corev1.Pod{}
			if err := json.Unmarshal(patched, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(after, got); diff != "" {
				t.Errorf("the patched pod isn't the injected one (-want +got):\n%s", diff)
			}
			if name == "quantities" && !strings.Contains(string(patched), `{"cpu":1,"memory":"1024Mi"}`) {
				t.Errorf("the container's resources were rewritten: %s", patched)
			}
		})
	}
}

func TestAPatchThatWouldTakeSomethingAwayIsAnError(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"a field":     func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" },
		"a container": func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{} },
		"an order":    func(p *corev1.Pod) { slices.Reverse(p.Spec.Volumes) },
	} {
		t.Run(name, func(t *testing.T) {
			before := podOf(volumesNamed("a", "b"))
			after := before.DeepCopy()
			change(after)
			if operations, err := Patch(before, after); err == nil {
				t.Errorf("got %v, want an error", operations)
			}
		})
	}
}
