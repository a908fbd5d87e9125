package router

import (
	"context"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// document is the API's description, loaded and validated once.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(openAPI)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context)
})

// checkDocumented holds an answer, of any test, against the API's description.
func checkDocumented(t testing.TB, method, path string, a *answer) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ = strings.Cut(path, "?")
	item := documentedPath(doc, path)
	if method == http.MethodHead || item == nil || item.GetOperation(method) == nil {
		undocumented := a.code == http.StatusNotFound && a.failure.Type == string(NotFound) ||
			a.code == http.StatusMethodNotAllowed || strings.HasPrefix(path, commandsPath) && a.code == http.StatusNotFound
		if method != http.MethodHead && !undocumented {
			t.Errorf("%s %s isn't in the API's description, and was answered with %d %.200s", method, path, a.code, a.body)
		}
		return
	}
	response := item.GetOperation(method).Responses.Status(a.code)
	if response == nil {
		t.Errorf("%s %s: status %d isn't in the API's description: %.200s", method, path, a.code, a.body)
		return
	}
	for name := range response.Value.Headers {
		if required := name == "Location"; required && a.header.Get(name) == "" {
			t.Errorf("%s %s: %d without the header %s", method, path, a.code, name)
		}
	}
	checkContent(t, method+" "+path, response.Value.Content, a)
}

func checkContent(t testing.TB, what string, content openapi3.Content, a *answer) {
	t.Helper()
	if len(content) == 0 {
		if a.body != "" {
			t.Errorf("%s: %d has a body, %.200s", what, a.code, a.body)
		}
		return
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || content[kind] == nil {
		t.Errorf("%s: %d has content of type %q", what, a.code, a.header.Get("Content-Type"))
		return
	}
	if kind != "application/json" {
		return
	}
	var value any
	if err := json.Unmarshal([]byte(a.body), &value); err != nil {
		if strings.Contains(what, commandsPath) || strings.HasSuffix(what, "/execute") {
			return // a scripted slot's answer, which the router doesn't read
		}
		t.Errorf("%s: %d isn't JSON: %.200s", what, a.code, a.body)
		return
	}
	if err := content[kind].Schema.Value.VisitJSON(value); err != nil {
		t.Errorf("%s: %d isn't as the API's description says: %v\n%.500s", what, a.code, err, a.body)
	}
}

func documentedPath(doc *openapi3.T, path string) *openapi3.PathItem {
	for pattern, item := range doc.Paths.Map() {
		if _, matches := matchPath(strings.Replace(pattern, "{name}", "{id}", 1), path); matches {
			return item
		}
	}
	return nil
}

// TestEachRouteIsDocumented: and nothing else is.
func TestEachRouteIsDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{
		http.MethodPost + " " + commandsPath + "{name}": true, http.MethodPost + " " + commandsPath + "{name}" + batchSuffix: true,
	}
	for _, route := range routes {
		there[route.method+" "+route.path] = true
		item := doc.Paths.Value(route.path)
		if item == nil || item.GetOperation(route.method) == nil {
			t.Errorf("%s %s isn't in openapi.yaml", route.method, route.path)
			continue
		}
		documented := map[string]bool{}
		for _, list := range []openapi3.Parameters{item.Parameters, item.GetOperation(route.method).Parameters} {
			for _, p := range list {
				if p.Value.In == openapi3.ParameterInQuery {
					documented[p.Value.Name] = true
				}
			}
		}
		for _, name := range route.query {
			if !documented[name] {
				t.Errorf("%s %s: parameter %s isn't in openapi.yaml", route.method, route.path, name)
			}
		}
		if len(documented) != len(route.query) {
			t.Errorf("%s %s takes %v, and openapi.yaml says %v", route.method, route.path, route.query, documented)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !there[method+" "+path] {
				t.Errorf("%s %s is in openapi.yaml, and the server hasn't it", method, path)
			}
		}
	}
}

// TestEachFieldIsDocumented: of what the router tells of itself, and no other.
func TestEachFieldIsDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]any{
		"Status": Status{}, "Trip": TripStatus{}, "Revision": RevisionStatus{}, "Stats": Stats{}, "Store": StoreStatus{},
	} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" {
				fields = append(fields, tag)
			}
		}
		slices.Sort(fields)
		documented := slices.Sorted(maps.Keys(doc.Components.Schemas[name].Value.Properties))
		if diff := cmp.Diff(documented, fields); diff != "" {
			t.Errorf("%s in openapi.yaml (-) and as it is (+):\n%s", name, diff)
		}
	}
}

// TestEachStatusOfAnErrorIsDocumented: somewhere, for the errors that an operation can give; 405 is no operation's.
func TestEachStatusOfAnErrorIsDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	documented := map[int]bool{http.StatusMethodNotAllowed: true}
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			for status := range 600 {
				if operation.Responses.Status(status) != nil {
					documented[status] = true
				}
			}
		}
	}
	for kind, status := range statuses {
		if !documented[status] {
			t.Errorf("%s is answered with %d, which openapi.yaml doesn't have", kind, status)
		}
	}
}

// TestDocumentedOperationsAnswer: each path and method of the document is served, and answers as the document says.
func TestDocumentedOperationsAnswer(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	batch := func(context.Context, slottest.Call) (string, error) { return `{"outputs":[]}`, nil }
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"echo": batch})
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			a := r.send(method, strings.NewReplacer("{id}", "x1", "{name}", "echo").Replace(path), strings.NewReader("{}"))
			if a.code == http.StatusMethodNotAllowed || a.failure.Type == string(NotFound) {
				t.Errorf("%s %s: %d %s", method, path, a.code, a.body)
			}
		}
	}
	if a := r.send(http.MethodGet, "/v1/openapi.yaml", http.NoBody); a.body != string(openAPI) {
		t.Error("GET /v1/openapi.yaml isn't the document")
	}
	for name, a := range map[string]*answer{
		"a method that a path doesn't have": r.send(http.MethodPut, "/v1/sessions/x1", strings.NewReader("{}")),
		"several methods":                   r.send(http.MethodDelete, "/v1/programs", http.NoBody),
	} {
		if a.code != http.StatusMethodNotAllowed || a.failure.Type != string(MethodNotAllowed) || a.header.Get("Allow") == "" {
			t.Errorf("%s: %d %s, Allow %q", name, a.code, a.body, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{"/v1/programs/", "/v1/programs/a/b", "/v1/sessions//", "/v1", "/V1/programs"} {
		if a := r.send(http.MethodGet, path, http.NoBody); a.code != http.StatusNotFound && a.code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
	}
	if a := r.send(http.MethodGet, "/v1/stats?verbose=1", http.NoBody); a.code != http.StatusBadRequest || a.failure.Type != string(pool.InvalidPayload) {
		t.Errorf("a parameter that isn't there: %d %s", a.code, a.body)
	}
}
