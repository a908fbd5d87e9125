package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// toolLabel is what buildah signs its images with.
const toolLabel = "io.buildah.version"

// mountPoints are files that an engine mounts into a container that it runs. A RUN leaves them behind, empty, where
// the base has none.
var mountPoints = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// compare returns where two images aren't the same, a line each, and how many files the first has. Times and the
// division into layers don't count: no container sees the layers, and nothing here looks at times.
func compare(assembled, built v1.Image) (differences []string, files int, err error) {
	settings, err := compareSettings(assembled, built)
	if err != nil {
		return nil, 0, err
	}
	ours, err := contentsOf(assembled)
	if err != nil {
		return nil, 0, err
	}
	theirs, err := contentsOf(built)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range mountPoints {
		if _, assembled := ours[name]; !assembled {
			delete(theirs, name)
		}
	}
	return append(settings, differing("", ours, theirs)...), len(ours), nil
}

func compareSettings(assembled, built v1.Image) ([]string, error) {
	ours, err := settingsOf(assembled)
	if err != nil {
		return nil, err
	}
	theirs, err := settingsOf(built)
	return differing("its ", ours, theirs), err
}

// settingsOf is everything in an image's configuration that a container gets.
func settingsOf(image v1.Image) (map[string]string, error) {
	whole, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c := whole.Config
	settings := map[string]string{
		"platform": whole.OS + "/" + whole.Architecture, "entrypoint": fmt.Sprintf("%q", c.Entrypoint),
		"command": fmt.Sprintf("%q", c.Cmd), "user": c.User, "folder": path.Clean("/" + c.WorkingDir),
		"ports": fmt.Sprint(c.ExposedPorts), "volumes": fmt.Sprint(c.Volumes), "stop signal": c.StopSignal,
		"health check": fmt.Sprint(c.Healthcheck),
	}
	for _, variable := range c.Env {
		name, value, _ := strings.Cut(variable, "=")
		settings["variable "+name] = value
	}
	for label, value := range c.Labels {
		if label != toolLabel {
			settings["label "+label] = value
		}
	}
	return settings, nil
}

// contentsOf describes every file of an image, by its path.
func contentsOf(image v1.Image) (map[string]string, error) {
	flat := mutate.Extract(image)
	defer flat.Close()
	contents, links := map[string]string{}, map[string]string{}
	for in := tar.NewReader(flat); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + header.Name)
		if header.Typeflag == tar.TypeLink {
			links[name] = path.Clean("/" + header.Linkname)
			continue
		}
		if contents[name], err = describe(header, in); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, target := range links { // which of a file's names comes first is chance
		contents[name] = contents[target]
	}
	delete(contents, "/") // an image from scratch may say nothing of it
	return contents, nil
}

func describe(header *tar.Header, content io.Reader) (string, error) {
	mode := header.FileInfo().Mode()
	what := fmt.Sprintf("%s of %d:%d", mode, header.Uid, header.Gid)
	switch {
	case mode.Type() == fs.ModeSymlink:
		return "link to " + header.Linkname, nil
	case mode.IsRegular():
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d bytes, sha256 %.6x", what, header.Size, sum.Sum(nil)), nil
	}
	return what, nil
}

// differing names what isn't the same in both, in order.
func differing(kind string, assembled, built map[string]string) (differences []string) {
	names := map[string]bool{}
	for name := range assembled {
		names[name] = true
	}
	for name := range built {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ours, inOurs := assembled[name]
		theirs, inTheirs := built[name]
		switch {
		case !inOurs:
			differences = append(differences, fmt.Sprintf("%s%s is in the Dockerfile's only: %s", kind, name, theirs))
		case !inTheirs:
			differences = append(differences, fmt.Sprintf("%s%s isn't in the Dockerfile's: %s", kind, name, ours))
		case ours != theirs:
			differences = append(differences, fmt.Sprintf("%s%s is %s in the Dockerfile's, not %s", kind, name, theirs, ours))
		}
	}
	return differences
}
