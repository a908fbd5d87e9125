// Package revision names what makes a worker. A revision is the hash of a pool's version and its worker's image,
// interpreter, folder, module, environment, preload and concurrency; whatever changes on live workers (sizes, limits,
// weights, resources) isn't in it, nor is what volumes the slots see. Its text outlives the spec that it came from, because
// the stable revision must be known after the spec moved on.
package revision

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// hashBytes of the digest go into a hash: ten characters, few enough to be read aloud, and more than enough for the
// handful of revisions that a pool has.
const hashBytes = 5

// Text is what a revision is the hash of. A field that is absent isn't written at all, so that a field added later
// changes no hash that exists.
type Text struct {
	PoolVersion v1alpha1.PoolVersion `json:"poolVersion"`
	Worker      Worker               `json:"worker"`
}

// Worker is the part of v1alpha1.Worker that belongs to the revision.
type Worker struct {
	Image      string            `json:"image,omitempty"`
	Python     string            `json:"python,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Module     string            `json:"module"`
	Env        []v1alpha1.EnvVar `json:"env,omitempty"`
	// EnvFrom names objects; what is in them is no part of a revision.
	EnvFrom []v1alpha1.EnvFromSource `json:"envFrom,omitempty"`
	// Preload is absent for None, the default.
	Preload v1alpha1.Preload `json:"preload,omitempty"`
	// Concurrency is absent for 1, the default.
	Concurrency int32 `json:"concurrency,omitempty"`
}

// Of returns the text of a spec. Env is ordered by name: its names are unique, so its order means nothing. That of
// EnvFrom does: of two objects with the same key the later one holds.
func Of(spec *v1alpha1.WorkerPoolSpec) Text {
	w := &spec.Worker
	env := slices.Clone(w.Env)
	slices.SortFunc(env, func(a, b v1alpha1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	return Text{
		PoolVersion: spec.PoolVersion,
		Worker: Worker{
			Image: w.Image, Python: w.Python, WorkingDir: w.WorkingDir, Module: w.Module, Env: env, EnvFrom: w.EnvFrom,
			Preload: preload(w), Concurrency: concurrency(w),
		},
	}
}

func concurrency(w *v1alpha1.Worker) int32 {
	if w.Concurrency <= 1 {
		return 0
	}
	return w.Concurrency
}

func preload(w *v1alpha1.Worker) v1alpha1.Preload {
	if w.Preload == v1alpha1.PreloadNone {
		return ""
	}
	return w.Preload
}

// Sources names what the worker has variables from, as a status and a pod's annotation show it: "secret/llm-keys", or
// with a prefix "LLM_=secret/llm-keys", and with a question mark when the object may be missing; empty: nothing. Two workers
// with the same Sources get along with the same container.
func (w Worker) Sources() string {
	names := make([]string, 0, len(w.EnvFrom))
	for _, source := range w.EnvFrom {
		names = append(names, sourceName(source))
	}
	return strings.Join(names, ", ")
}

func sourceName(source v1alpha1.EnvFromSource) string {
	kind, ref := "secret", source.SecretRef
	if source.ConfigMapRef != nil {
		kind, ref = "configmap", source.ConfigMapRef
	}
	if ref == nil {
		return "" // the API server refuses it
	}
	name := kind + "/" + ref.Name
	if source.Prefix != "" {
		name = source.Prefix + "=" + name
	}
	if ref.Optional {
		name += "?"
	}
	return name
}

// On returns the same worker on another version of the pool.
func (t Text) On(version v1alpha1.PoolVersion) Text {
	t.PoolVersion = version
	return t
}

// Canonical is the JSON that is hashed and stored: sorted keys, no white space, nothing escaped that needn't be.
func (t Text) Canonical() []byte {
	var fields map[string]any
	if err := json.Unmarshal(compact(t), &fields); err != nil {
		panic(fmt.Sprintf("revision: a text doesn't survive JSON: %v", err)) // strings and a number only: can't happen
	}
	return compact(fields)
}

// Hash is the revision's name: ten hexadecimal characters.
func (t Text) Hash() string {
	sum := sha256.Sum256(t.Canonical())
	return hex.EncodeToString(sum[:hashBytes])
}

// Parse reads what Canonical wrote.
func Parse(canonical []byte) (Text, error) {
	var t Text
	if err := json.Unmarshal(canonical, &t); err != nil {
		return Text{}, fmt.Errorf("the text of a revision isn't JSON: %w", err)
	}
	return t, nil
}

// compact renders JSON with sorted map keys and without HTML escapes.
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("revision: %v", err)) // strings, maps and slices only: can't happen
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
