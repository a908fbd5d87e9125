package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// Patch lists what injection changes, from the pod as it was decoded to the injected one: additions and new values, and
// nothing else. Applied to the text that the pod was decoded from, it leaves alone what a newer API server knows and
// this program doesn't, at whatever depth. Elements of lists keep their order, and none goes: an operation that would
// take something away is an error.
func Patch(before, after *corev1.Pod) ([]jsonpatch.Operation, error) {
	from, err := tree(before)
	if err != nil {
		return nil, err
	}
	to, err := tree(after)
	if err != nil {
		return nil, err
	}
	var p patch
	p.object("", from, to)
	return p.operations, p.err
}

// tree is the pod as its JSON reads, numbers as they are written.
func tree(pod *corev1.Pod) (map[string]any, error) {
	text, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var t map[string]any
	return t, decoder.Decode(&t)
}

// patch collects operations in the order in which they apply.
type patch struct {
	operations []jsonpatch.Operation
	err        error // the first
}

func (p *patch) add(path string, value any) {
	p.operations = append(p.operations, jsonpatch.NewOperation("add", path, value))
}

func (p *patch) removed(path string) {
	if p.err == nil {
		p.err = fmt.Errorf("injection would remove %s of the pod", path)
	}
}

func (p *patch) value(path string, from, to any) {
	if reflect.DeepEqual(from, to) {
		return
	}
	switch to := to.(type) {
	case map[string]any:
		if from, ok := from.(map[string]any); ok {
			p.object(path, from, to)
			return
		}
	case []any:
		if from, ok := from.([]any); ok {
			p.list(path, from, to)
			return
		}
	}
	p.operations = append(p.operations, jsonpatch.NewOperation("replace", path, to))
}

func (p *patch) object(path string, from, to map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(to)) {
		at := path + "/" + escape(key)
		if old, there := from[key]; there {
			p.value(at, old, to[key])
		} else {
			p.add(at, to[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if _, stays := to[key]; !stays {
			p.removed(path + "/" + escape(key))
		}
	}
}

// list walks both at once: when it is at an index, everything before it is as it is to be, and the rest as it was.
func (p *patch) list(path string, from, to []any) {
	next := 0
	for i, element := range to {
		at := path + "/" + strconv.Itoa(i)
		if next < len(from) && same(from[next], element) {
			p.value(at, from[next], element)
			next++
		} else {
			p.add(at, element)
		}
	}
	if next < len(from) {
		p.removed(path + "/" + strconv.Itoa(next))
	}
}

// same reports whether injection made the one from the other. What it changes inside a list are containers, and these
// have a name each.
func same(from, to any) bool {
	a, isObject := from.(map[string]any)
	b, _ := to.(map[string]any)
	if isContainer := isObject && a["name"] != nil && a["mountPath"] == nil; isContainer && a["name"] == b["name"] {
		return true
	}
	return reflect.DeepEqual(from, to)
}

// escape writes a key as JSON pointers have it.
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }
