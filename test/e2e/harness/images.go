package harness

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
)

// Images are the names under which the cluster's nodes have the project's images, or can pull them.
type Images struct {
	Operator string // OPERATOR_IMAGE
	Worker   string // WORKER_IMAGE
	Samples  string // SAMPLES_IMAGE: the sample application and the sample worker's modules
}

// assembled are the names that hack/images gives. No registry is called localhost: they are loaded, never pulled.
var assembled = Images{
	Operator: "localhost/workerpool-operator:dev",
	Worker:   "localhost/workerpool-worker:dev",
	Samples:  "localhost/workerpool-samples:dev",
}

// ImagesFromEnv are the images that the environment names; default: those that hack/images assembles. The local cluster
// always has the latter.
func ImagesFromEnv() Images {
	if !wantsExisting() {
		return assembled
	}
	return Images{
		Operator: cmp.Or(os.Getenv("OPERATOR_IMAGE"), assembled.Operator),
		Worker:   cmp.Or(os.Getenv("WORKER_IMAGE"), assembled.Worker),
		Samples:  cmp.Or(os.Getenv("SAMPLES_IMAGE"), assembled.Samples),
	}
}

// Sample returns the path, below the checkout, of a sample's manifest that names the cluster's images: the sample's own,
// or a copy of it in out/.
func (c *Cluster) Sample(path string) (string, error) {
	if c.Images.Samples == assembled.Samples {
		return path, nil
	}
	content, err := os.ReadFile(c.Path(path))
	if err != nil {
		return "", err
	}
	copied := filepath.Join("out", "demo", filepath.Base(path))
	if err := os.MkdirAll(filepath.Dir(c.Path(copied)), 0o755); err != nil {
		return "", err
	}
	content = bytes.ReplaceAll(content, []byte(assembled.Samples), []byte(c.Images.Samples))
	return copied, os.WriteFile(c.Path(copied), content, 0o644)
}

// overlay is docs/install.md's: the operator under other names.
const overlay = `resources: [../../config/default]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: workerpool-operator, namespace: workerpool-system}
    spec:
      template:
        spec:
          containers:
          - name: manager
            image: %[1]q
            env:
            - {name: WORKER_IMAGE, value: %[2]q}
`

// Manifests returns the folder, below the checkout, of what deploys the operator: config/default, or an overlay of it in
// out/ for images of other names.
func (c *Cluster) Manifests() (string, error) {
	if c.Images.Operator == assembled.Operator && c.Images.Worker == assembled.Worker {
		return "config/default", nil
	}
	const folder = "out/overlay"
	if err := os.MkdirAll(c.Path(folder), 0o755); err != nil {
		return "", err
	}
	content := fmt.Sprintf(overlay, c.Images.Operator, c.Images.Worker)
	return folder, os.WriteFile(filepath.Join(c.Path(folder), "kustomization.yaml"), []byte(content), 0o644)
}
