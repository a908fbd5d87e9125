package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// checked are the images that the Dockerfile has a target for, and that are assembled here too.
var checked = []recipe{
	{"operator", operatorImage},
	{"worker", workerImage},
}

// check builds the Dockerfile with Debian's buildah and compares what comes out with what is assembled here: the
// configuration, and every file with its contents, owner and mode. There need be no registry: the base images are
// stand-ins, made from what this machine has, under the names that the Dockerfile gives. What the real ones hold is
// the one thing that it can't tell.
func check(in inputs) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("run as root: a build without a container engine changes its root")
	}
	if err := needProgram("buildah", "buildah"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work, err := os.MkdirTemp("", "image-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	defer forgetBlobs()()
	b, err := newBuildah(ctx, work)
	if err != nil {
		return err
	}
	bases, err := in.dockerfileBases()
	if err != nil {
		return err
	}
	if err := step("making stand-ins for "+bases.golang+" and "+bases.python, func() error { return in.standIns(b, bases) }); err != nil {
		return err
	}
	var all []string
	for _, r := range checked {
		differences, err := in.checkImage(b, r)
		if err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
		all = append(all, differences...)
	}
	if len(all) > 0 {
		return fmt.Errorf("the Dockerfile and hack/images/recipes.go don't make the same images; make them agree:\n  %s",
			strings.Join(all, "\n  "))
	}
	return nil
}

// checkImage builds one target and returns where it isn't what is assembled here.
func (in inputs) checkImage(b buildah, r recipe) ([]string, error) {
	var built v1.Image
	err := step("building the Dockerfile's target "+r.name, func() (err error) {
		built, err = b.build(in.checkout, r.name)
		return err
	})
	if err != nil {
		return nil, err
	}
	var differences []string
	var files int
	err = step("comparing it with what is assembled without an engine", func() error {
		assembled, err := r.make(in)
		if err != nil {
			return err
		}
		differences, files, err = compare(assembled, built)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range differences {
		differences[i] = r.name + ": " + differences[i]
	}
	if len(differences) == 0 {
		fmt.Printf("ok  %s: entrypoint, command, user, environment, folder and %d files are the same\n", r.name, files)
	}
	return differences, nil
}

// baseNames are the images that the Dockerfile is FROM.
type baseNames struct{ golang, python string }

// dockerfileBases reads them from the Dockerfile's own defaults.
func (in inputs) dockerfileBases() (baseNames, error) {
	content, err := os.ReadFile(filepath.Join(in.checkout, "Dockerfile"))
	if err != nil {
		return baseNames{}, err
	}
	bases := baseNames{golang: argDefault(string(content), "GO_IMAGE"), python: argDefault(string(content), "PYTHON_IMAGE")}
	if bases.golang == "" || bases.python == "" {
		return bases, errors.New("the Dockerfile has no ARG GO_IMAGE=... and ARG PYTHON_IMAGE=...: name the base images there")
	}
	return bases, nil
}

func argDefault(dockerfile, name string) string {
	for line := range strings.Lines(dockerfile) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "ARG "+name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// standIns puts the base images into buildah's storage. Python's is the one that hack/images uses; Go's has what a
// build relies on of golang: a shell, certificates, the variables. The toolchain and its caches are mounted.
func (in inputs) standIns(b buildah, bases baseNames) error {
	python, err := pythonImage(in)
	if err != nil {
		return err
	}
	if err := b.add(bases.python, python); err != nil {
		return err
	}
	config, err := python.ConfigFile()
	if err != nil {
		return err
	}
	golang, err := mutate.Config(python, v1.Config{
		Env: append([]string{
			"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"GOPATH=/go", "GOTOOLCHAIN=local",
		}, b.goEnv...),
		Cmd: config.Config.Cmd,
	})
	if err != nil {
		return err
	}
	if golang, err = withCertificates(golang); err != nil {
		return err
	}
	return b.add(bases.golang, golang)
}

// withCertificates adds the authorities that this machine trusts: modules may have to be downloaded.
func withCertificates(image v1.Image) (v1.Image, error) {
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(bundle); errors.Is(err, os.ErrNotExist) {
		return image, nil // then only what is in the module cache can be built
	}
	layer, err := layerOf([]file{
		{to: "/etc/ssl", mode: os.ModeDir | 0o755}, {to: "/etc/ssl/certs", mode: os.ModeDir | 0o755},
		{from: bundle, to: bundle, mode: 0o644},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layer)
}
