package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// goBuild builds a static program of a module of the checkout, and returns its path. It always asks the go command,
// whose cache knows best what has changed.
func (in inputs) goBuild(module, pkg string) (string, error) {
	dir := filepath.Join(in.checkout, module)
	if _, err := os.Stat(filepath.Join(dir, pkg)); err != nil {
		return "", fmt.Errorf("no %s in %s to build: %w", pkg, dir, err)
	}
	target := filepath.Join(in.cache, "images", "bin", filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", target, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, output)
	}
	return target, nil
}
