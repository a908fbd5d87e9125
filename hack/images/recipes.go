package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A recipe says what is in an image.
type recipe struct {
	name string
	make func(inputs) (v1.Image, error)
}

// ref is the image's name in a cluster. No registry is called localhost: nothing can pull it by mistake.
func (r recipe) ref() string { return "localhost/workerpool-" + r.name + ":dev" }

var recipes = []recipe{
	{"pause", pauseImage},
	{"coredns", corednsImage},
	{"operator", operatorImage},
	{"python", pythonImage},
	{"worker", workerImage},
	{"samples", samplesImage},
}

// nonRoot is the user that the project's images run as: by number, which the kubelet needs for runAsNonRoot.
const nonRoot = "65532:65532"

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// pauseImage holds a pod's namespaces open.
func pauseImage(in inputs) (v1.Image, error) {
	program, err := in.goBuild("hack/images", "./pause")
	if err != nil {
		return nil, err
	}
	return build(empty.Image, v1.Config{User: nonRoot, Entrypoint: []string{"/pause"}},
		file{from: program, to: "/pause", mode: 0o755})
}

// corednsImage runs as root: without it, the capability to bind port 53 wouldn't reach the program.
func corednsImage(in inputs) (v1.Image, error) {
	if in.coredns == "" {
		return nil, errors.New("where is the program? pass --coredns, or let `go run ./hack/cluster up` do it")
	}
	return build(empty.Image, v1.Config{Entrypoint: []string{"/coredns"}},
		file{from: in.coredns, to: "/coredns", mode: 0o755})
}

// operatorImage holds the operator and the in-pod program that it injects.
func operatorImage(in inputs) (v1.Image, error) {
	manager, err := in.goBuild(".", "./cmd/manager")
	if err != nil {
		return nil, err
	}
	poold, err := in.goBuild(".", "./cmd/poold")
	if err != nil {
		return nil, err
	}
	// Engines give an image from scratch a PATH.
	return build(empty.Image, v1.Config{User: nonRoot, Entrypoint: []string{"/manager"}, Env: []string{searchPath}},
		file{from: manager, to: "/manager", mode: 0o755},
		file{from: poold, to: "/poold", mode: 0o755})
}

// pythonImage is Debian's Python and nothing of ours: the base of the worker's image.
func pythonImage(in inputs) (v1.Image, error) {
	rootfs, err := in.pythonRootfs()
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(base(), rootfs)
	if err != nil {
		return nil, err
	}
	return build(image, v1.Config{
		Env: []string{searchPath, "LANG=C.UTF-8"},
		Cmd: []string{"python3"},
	})
}

// workerImage is the default image of a slot: Python, a user that isn't root, a place for the worker's module.
func workerImage(in inputs) (v1.Image, error) {
	python, err := pythonImage(in)
	if err != nil {
		return nil, err
	}
	account, err := in.appUser()
	if err != nil {
		return nil, err
	}
	config, err := python.ConfigFile()
	if err != nil {
		return nil, err
	}
	return build(python, v1.Config{
		User:       nonRoot,
		WorkingDir: "/app",
		Env:        append(config.Config.Env, "PYTHONDONTWRITEBYTECODE=1", "HOME=/tmp"),
		Cmd:        config.Config.Cmd,
	}, append(account, file{to: "/app", mode: os.ModeDir | 0o755})...)
}

// samplesImage is the worker's image with the samples' worker modules and the sample application.
func samplesImage(in inputs) (v1.Image, error) {
	worker, err := workerImage(in)
	if err != nil {
		return nil, err
	}
	app, err := in.goBuild(".", "./config/samples/app")
	if err != nil {
		return nil, err
	}
	modules, err := in.sampleModules()
	if err != nil {
		return nil, err
	}
	config, err := worker.ConfigFile()
	if err != nil {
		return nil, err
	}
	files := append([]file{{from: app, to: "/sample-app", mode: 0o755}}, modules...)
	return build(worker, config.Config, files...)
}

// sampleModules are the Python files of the samples' worker, for the worker's folder.
func (in inputs) sampleModules() (modules []file, err error) {
	root := filepath.Join(in.checkout, "config/samples/worker")
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".py" {
			return err
		}
		name, err := filepath.Rel(root, path)
		modules = append(modules, file{from: path, to: "/app/" + name, mode: 0o644})
		return err
	})
	if err == nil && len(modules) == 0 {
		err = fmt.Errorf("no *.py below %s: the samples' worker modules belong there", root)
	}
	return modules, err
}

// base is an image without layers, in OCI's media types: containerd takes their layers uncompressed.
func base() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// build adds a layer with the files, when there are any, and sets the configuration.
func build(from v1.Image, config v1.Config, files ...file) (v1.Image, error) {
	if from == empty.Image {
		from = base()
	}
	if len(files) > 0 {
		layer, err := layerOf(files)
		if err != nil {
			return nil, err
		}
		if from, err = mutate.AppendLayers(from, layer); err != nil {
			return nil, err
		}
	}
	whole, err := from.ConfigFile()
	if err != nil {
		return nil, err
	}
	whole = whole.DeepCopy()
	whole.OS, whole.Architecture, whole.Config = "linux", runtime.GOARCH, config
	return mutate.ConfigFile(from, whole)
}
