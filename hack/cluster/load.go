package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// projectImages are what the operator's demo and tests run.
var projectImages = []string{"operator", "worker", "samples"}

// load is the command: it imports tarballs, and the project's own images, built first.
func load(p paths, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	all := flags.Bool("images", false, "build and load the project's images: "+strings.Join(projectImages, ", "))
	if err := flags.Parse(args); err != nil {
		return err
	}
	own, files := splitImages(flags.Args())
	if *all {
		own = projectImages
	}
	if len(own)+len(files) == 0 {
		return errors.New("load takes image tarballs, --images, or some of: " + strings.Join(projectImages, ", "))
	}
	enter, err := p.enter()
	if err != nil {
		return err
	}
	if len(own) > 0 {
		built, unlock, err := p.buildImages(nil, own...)
		if err != nil {
			return err
		}
		defer unlock()
		for _, name := range built {
			files = append(files, p.inCache(name))
		}
	}
	return loadAll(enter, files)
}

func loadAll(enter, files []string) error {
	loaded, err := loadedImages(enter)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := loadImage(enter, file, loaded); err != nil {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

// splitImages tells the project's images from tarballs.
func splitImages(args []string) (own, files []string) {
	for _, arg := range args {
		if slices.Contains(projectImages, arg) {
			own = append(own, arg)
		} else {
			files = append(files, arg)
		}
	}
	return own, files
}

// loadImage imports a tarball unless the cluster has the very same image under the same name.
func loadImage(enter []string, file string, loaded map[string]string) error {
	images, err := imagesIn(file)
	if err != nil {
		return err
	}
	if len(images) > 0 && containsAll(loaded, images) {
		return nil
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return step("loading "+filepath.Base(file), func() error {
		cmd := inNode(enter, "ctr", "--namespace=k8s.io", "images", "import", "-")
		cmd.Stdin = in
		if output, err := runCaptured(cmd); err != nil {
			return fmt.Errorf("%w\n%s", err, output)
		}
		return nil
	})
}

func inNode(enter []string, args ...string) *exec.Cmd {
	all := append(append([]string{}, enter...), args...)
	return exec.Command(all[0], all[1:]...)
}

func containsAll(have, want map[string]string) bool {
	for name, digest := range want {
		if have[name] != digest {
			return false
		}
	}
	return true
}

// loadedImages returns the digests by name of what containerd has.
func loadedImages(enter []string) (map[string]string, error) {
	output, err := inNode(enter, "ctr", "--namespace=k8s.io", "images", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return parseImageList(string(output)), nil
}

// parseImageList reads ctr's table: a name, a media type and a digest, and columns of no interest here.
func parseImageList(table string) map[string]string {
	images := map[string]string{}
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[2], "sha256:") {
			images[fields[0]] = fields[2]
		}
	}
	return images
}

// imagesIn reads names and digests from an OCI tarball's index. A tarball in Docker's own format has no index, and
// is always imported: its digest comes about in the import.
func imagesIn(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for entries := tar.NewReader(f); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("not an image tarball: %w", err)
		}
		if header.Name == "index.json" {
			return parseIndex(entries)
		}
	}
}

func parseIndex(r io.Reader) (map[string]string, error) {
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.NewDecoder(r).Decode(&index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	images := map[string]string{}
	for _, m := range index.Manifests {
		if name := m.Annotations["io.containerd.image.name"]; name != "" {
			images[name] = m.Digest
		}
	}
	return images, nil
}

// buildImages assembles images with hack/images, and returns their tarballs as names in the cache. They stay locked:
// another checkout would put its own in their place.
func (p paths) buildImages(tools toolsets, names ...string) (tarballs []string, unlock func(), err error) {
	if err := p.needCheckout(); err != nil {
		return nil, nil, err
	}
	if unlock, err = p.lock("images"); err != nil {
		return nil, nil, err
	}
	args := []string{"-C", filepath.Join(p.checkout, "hack/images"), "run", ".", "--out", p.images()}
	if tools != nil {
		args = append(args, "--coredns", filepath.Join(p.inCache(tools[corednsModule].dir), "coredns"))
	}
	cmd := exec.Command("go", append(args, names...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := beating(cmd.Run); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("build the images %s: %w", strings.Join(names, ", "), err)
	}
	for _, name := range names {
		tarballs = append(tarballs, filepath.Join("images", name+".tar"))
	}
	return tarballs, unlock, nil
}
