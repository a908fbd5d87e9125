package v1alpha1

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const crdFile = "../../config/crd/bases/pool.dspex.dev_workerpools.yaml"

// node is a node of an OpenAPI schema.
type node = map[string]any

func specSchema(t *testing.T) node {
	t.Helper()
	text, err := os.ReadFile(crdFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 256<<10 {
		t.Errorf("the CRD has %d bytes; kubectl apply takes 256 KiB", len(text))
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema node }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil || len(crd.Spec.Versions) == 0 {
		t.Fatalf("%v, %d versions", err, len(crd.Spec.Versions))
	}
	return child(child(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, "properties"), "spec")
}

func child(s node, key string) node {
	c, _ := s[key].(node)
	return c
}

// rules are the CEL rules of a node itself.
func rules(s node) string {
	var all []string
	list, _ := s["x-kubernetes-validations"].([]any)
	for _, r := range list {
		all = append(all, fmt.Sprint(r.(node)["rule"]))
	}
	return strings.Join(all, "\n")
}

func lacks(s node, keys ...string) (missing []string) {
	for _, key := range keys {
		if _, there := s[key]; !there {
			missing = append(missing, key)
		}
	}
	return missing
}

// unruled lists the fields below a path that accept what they have no rule for.
func unruled(path string, s node) []string {
	wrong := own(path, s)
	for _, name := range slices.Sorted(maps.Keys(child(s, "properties"))) {
		wrong = append(wrong, unruled(path+"."+name, child(child(s, "properties"), name))...)
	}
	if items := child(s, "items"); items != nil {
		wrong = append(wrong, unruled(path+"[]", items)...)
	}
	return wrong
}

func own(path string, s node) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, path+": "+fmt.Sprintf(format, args...)) }
	values := child(s, "additionalProperties")
	switch kind, _ := s["type"].(string); {
	case s["x-kubernetes-int-or-string"] == true:
		if _, bounded := s["maxLength"]; bounded && rules(s) != "" {
			break
		}
		if !boundsQuantity(rules(s), 1) {
			say("a quantity without a lower and an upper bound in a rule of its own")
		}
	case kind == "string":
		if _, listed := s["enum"]; listed {
			break
		}
		if missing := lacks(s, "maxLength"); missing != nil {
			say("a string without maxLength")
		}
		if !strings.Contains(rules(s), "self.matches(") && s["pattern"] == nil {
			say("a string without a rule for its characters")
		}
	case kind == "integer" || kind == "number":
		if missing := lacks(s, "minimum", "maximum"); missing != nil {
			say("a number without %v", missing)
		}
	case kind == "array":
		if missing := lacks(s, "maxItems"); missing != nil {
			say("a list without maxItems")
		}
	case values != nil:
		if missing := lacks(s, "maxProperties"); missing != nil || !strings.Contains(rules(s), "self.all(") {
			say("a map without maxProperties or without a rule for its keys")
		}
		if values["x-kubernetes-int-or-string"] == true && !boundsQuantity(rules(s), 3) {
			say("quantities without a lower and an upper bound for each of the three names")
		}
	case kind == "object" || kind == "boolean":
	default:
		say("a field of a kind that this test doesn't know: %q", kind)
	}
	return wrong
}

// boundsQuantity reports whether rules compare quantities of so many names from both sides, and bound their length.
func boundsQuantity(rules string, names int) bool {
	return strings.Contains(rules, "isQuantity(") && strings.Contains(rules, "size(string(") &&
		strings.Count(rules, ")) >= 0") >= names && strings.Count(rules, ")) <= 0") >= names
}

// TestO9_EveryFieldHasItsRule: a field that accepts anything breaks something later, in the pods.
func TestO9_EveryFieldHasItsRule(t *testing.T) {
	for _, wrong := range unruled("spec", specSchema(t)) {
		t.Error(wrong)
	}
}

// The walk finds what it is for.
func TestFieldsWithoutARuleAreFound(t *testing.T) {
	anything := node{"type": "object", "properties": node{
		"text":     node{"type": "string", "maxLength": 3},
		"number":   node{"type": "integer", "minimum": 1},
		"list":     node{"type": "array", "items": node{"type": "object", "properties": node{"name": node{"type": "string"}}}},
		"quantity": node{"x-kubernetes-int-or-string": true},
		"map":      node{"type": "object", "additionalProperties": node{"x-kubernetes-int-or-string": true}},
		"fine":     node{"type": "string", "enum": []any{"a"}},
	}}
	found := strings.Join(unruled("spec", anything), "\n")
	for _, want := range []string{"spec.text:", "spec.number:", "spec.list:", "spec.list[].name:", "spec.quantity:", "spec.map:"} {
		if !strings.Contains(found, want) {
			t.Errorf("%s isn't found", want)
		}
	}
	if strings.Contains(found, "spec.fine") {
		t.Errorf("a field with a rule is found:\n%s", found)
	}
}
