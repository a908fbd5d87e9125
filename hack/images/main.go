// Command images assembles the project's container images as OCI tarballs, without a container engine and without a
// registry:
//
//	go -C hack/images run . operator worker samples
//	go -C hack/images run . check
//
// It makes the images that the Dockerfile makes, from the same inputs but for the worker's base: Debian's Python from
// debootstrap, as there is no registry to take python:slim from. Its output is reproducible, and a tarball
// whose image wouldn't change is left alone. recipes.go says what is in each image. `check` builds the Dockerfile with
// Debian's buildah and compares.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// inputs are where the images' contents come from.
type inputs struct {
	checkout string // the repository
	cache    string // what is kept between runs: rootfs and programs
	coredns  string // CoreDNS, built by hack/cluster
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("no cache folder: %w (set HOME or XDG_CACHE_HOME)", err)
	}
	in := inputs{cache: filepath.Join(cache, "workerpool-operator")}
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	out := flags.String("out", filepath.Join(in.cache, "images"), "folder for the tarballs, NAME.tar")
	flags.StringVar(&in.checkout, "checkout", "../..", "the repository")
	flags.StringVar(&in.coredns, "coredns", "", "the coredns program, for the image of that name")
	flags.Usage = func() {
		_, _ = fmt.Fprintf(flags.Output(), "Usage: go -C hack/images run . [FLAGS] IMAGE...|check\n\nImages: %s, all\n\n",
			strings.Join(names(), ", "))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if in.checkout, err = filepath.Abs(in.checkout); err != nil {
		return err
	}
	if slices.Equal(flags.Args(), []string{"check"}) {
		return check(in)
	}
	wanted, err := pick(flags.Args())
	if err != nil {
		return err
	}
	for _, r := range wanted {
		if err := assemble(in, r, *out); err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
	}
	return nil
}

// assemble writes one image's tarball, unless it is there already.
func assemble(in inputs, r recipe, out string) error {
	start := time.Now()
	image, err := r.make(in)
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	path := filepath.Join(out, r.name+".tar")
	if archivedDigest(path) == digest.String() {
		return nil
	}
	if err := writeArchive(path, r.ref(), image); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	fmt.Fprintf(os.Stderr, "==> assembled %s in %s\n", r.ref(), time.Since(start).Round(time.Millisecond))
	return nil
}

func pick(wanted []string) ([]recipe, error) {
	if len(wanted) == 0 {
		return nil, fmt.Errorf("name the images to assemble: %s, all", strings.Join(names(), ", "))
	}
	var picked []recipe
	for _, name := range wanted {
		found := false
		for _, r := range recipes {
			if r.name == name || name == "all" {
				picked, found = append(picked, r), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no image %q: there are %s", name, strings.Join(names(), ", "))
		}
	}
	return picked, nil
}

func names() (all []string) {
	for _, r := range recipes {
		all = append(all, r.name)
	}
	return all
}
