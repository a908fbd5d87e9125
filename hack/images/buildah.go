package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// buildah runs Debian's buildah with a storage and a configuration of its own: what this machine has of either is
// neither used nor changed.
type buildah struct {
	ctx   context.Context
	work  string   // folder for everything that it writes
	goEnv []string // where modules come from, as NAME=value
	// mounts are Go and its caches, as HOST:CONTAINER.
	mounts []string
}

func newBuildah(ctx context.Context, work string) (buildah, error) {
	b := buildah{ctx: ctx, work: work}
	env, err := goEnv(ctx)
	if err != nil {
		return b, err
	}
	for _, name := range []string{"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE"} {
		if env[name] != "" {
			b.goEnv = append(b.goEnv, name+"="+env[name])
		}
	}
	b.mounts = []string{env["GOROOT"] + ":/usr/local/go:ro", env["GOMODCACHE"] + ":/go/pkg/mod", env["GOCACHE"] + ":/root/.cache/go-build"}
	return b, errors.Join(
		os.MkdirAll(env["GOMODCACHE"], 0o755), os.MkdirAll(env["GOCACHE"], 0o755), os.Mkdir(filepath.Join(work, "tmp"), 0o700),
		os.WriteFile(filepath.Join(work, "policy.json"), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644),
		os.WriteFile(filepath.Join(work, "registries.conf"), nil, 0o644), // none: no name can be pulled
		os.WriteFile(filepath.Join(work, "storage.conf"), []byte("[storage]\ndriver = \"vfs\"\n"), 0o644))
}

// blobCache is where buildah remembers registries' blobs, whatever it is told of its storage.
const blobCache = "/var/lib/containers/cache/blob-info-cache-v1.boltdb"

// forgetBlobs returns what removes that file again, and its folders, unless they were there before.
func forgetBlobs() (forget func()) {
	if _, err := os.Stat(blobCache); err == nil {
		return func() {}
	}
	return func() {
		// A folder that holds anything else stays.
		for path := blobCache; path != "/var/lib" && os.Remove(path) == nil; {
			path = filepath.Dir(path)
		}
	}
}

func goEnv(ctx context.Context) (map[string]string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "-json").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	env := map[string]string{}
	return env, json.Unmarshal(output, &env)
}

// run returns what buildah prints on its standard output. It runs in mount and process namespaces of its own: its
// mounts, among them Go's caches, go with it even when it is killed, before its folder is removed.
func (b buildah) run(args ...string) (string, error) {
	own := []string{"--mount", "--propagation", "private", "--pid", "--mount-proc", "--fork", "--kill-child", "buildah",
		"--root", filepath.Join(b.work, "root"), "--runroot", filepath.Join(b.work, "runroot"), "--storage-driver", "vfs"}
	cmd := exec.CommandContext(b.ctx, "unshare", append(own, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(b.work, "tmp"), "BUILDAH_ISOLATION=chroot",
		"CONTAINERS_CONF=/dev/null", "CONTAINERS_STORAGE_CONF="+filepath.Join(b.work, "storage.conf"),
		"CONTAINERS_REGISTRIES_CONF="+filepath.Join(b.work, "registries.conf"))
	var output, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &problems
	if err := cmd.Run(); err != nil {
		said := strings.Split(strings.TrimSpace(output.String()+problems.String()), "\n")
		return "", fmt.Errorf("buildah %s: %w\n%s", args[0], err, strings.Join(said[max(0, len(said)-20):], "\n"))
	}
	return output.String(), nil
}

// add puts an image into the storage under a name.
func (b buildah) add(name string, image v1.Image) error {
	archive := filepath.Join(b.work, "base.tar")
	defer func() { _ = os.Remove(archive) }()
	if err := writeArchive(archive, name, image); err != nil {
		return err
	}
	id, err := b.run("pull", "--quiet", "--signature-policy", filepath.Join(b.work, "policy.json"), "oci-archive:"+archive)
	if err != nil {
		return err
	}
	_, err = b.run("tag", strings.TrimSpace(id), name)
	return err
}

// build builds a target of the checkout's Dockerfile and returns the image.
func (b buildah) build(checkout, target string) (v1.Image, error) {
	name := "localhost/image-check-" + target
	policy := filepath.Join(b.work, "policy.json")
	args := []string{"build", "--target", target, "--tag", name, "--pull=never", "--network", "host",
		"--signature-policy", policy, "--file", filepath.Join(checkout, "Dockerfile")}
	if target == "operator" { // the only one that compiles
		for _, mount := range b.mounts {
			args = append(args, "--volume", mount)
		}
	}
	if _, err := b.run(append(args, checkout)...); err != nil {
		return nil, err
	}
	folder := filepath.Join(b.work, target)
	if _, err := b.run("push", "--quiet", "--disable-compression", "--signature-policy", policy, name, "oci:"+folder); err != nil {
		return nil, err
	}
	return onlyImage(folder)
}

// onlyImage reads an OCI image layout that holds one image.
func onlyImage(folder string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%d images in %s, want one", len(manifest.Manifests), folder)
	}
	return index.Image(manifest.Manifests[0].Digest)
}
