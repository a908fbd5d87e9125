package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// packages are what the peers need beyond the standard library; requirements.txt pins their versions and those of
// what they need.
var packages = []struct {
	contestant string
	names      []string
}{
	{table.Gunicorn, []string{"gunicorn"}},
	{table.Uvicorn, []string{"uvicorn", "uvloop", "httptools"}},
	{table.Loky, []string{"loky"}},
	{table.UWSGI, []string{"uwsgi"}},
	{table.Ray, []string{"ray"}},
}

// install makes the environment and installs each peer by itself: one that can't be had here is absent, and the
// others aren't. What is installed already costs a second.
func (b *bench) install(ctx context.Context) error {
	python := filepath.Join(b.venv, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		if out, err := exec.CommandContext(ctx, "python3", "-m", "venv", b.venv).CombinedOutput(); err != nil {
			return fmt.Errorf("making a virtual environment in %s: %w\n%s", b.venv, err, out)
		}
	}
	if why := b.installOnce(ctx, "codec", []string{"orjson"}); why != "" {
		fmt.Printf("the workers have the standard library's json: %s\n", why)
	}
	for _, p := range packages {
		if !b.takesPart(p.contestant) {
			continue
		}
		if why := b.installOnce(ctx, p.contestant, p.names); why != "" {
			b.absent[p.contestant] = "it can't be installed here: " + why
			fmt.Printf("%s: %s\n", p.contestant, why)
		}
	}
	return ctx.Err()
}

// installOnce installs packages that aren't there yet, and returns why they can't be had; "": they are there.
func (b *bench) installOnce(ctx context.Context, what string, names []string) (why string) {
	done := filepath.Join(b.venv, "installed-"+what)
	if b.isFresh(done) {
		return ""
	}
	fmt.Printf("installing %s\n", strings.Join(names, ", "))
	if why := b.pip(ctx, names); why != "" {
		return why
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		return err.Error()
	}
	return ""
}

// codec is what the workers use.
func (b *bench) codec() string {
	python := exec.Command(filepath.Join(b.venv, "bin", "python"), "-B", "-c", "from poolworker import codec; print(codec.name)")
	python.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(b.root, "python"))
	out, err := python.Output()
	if err != nil {
		return "an unknown codec"
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) requirements() string {
	return filepath.Join(b.root, "hack", "bench-pool", "requirements.txt")
}

// isFresh reports whether done was written after the pins were last changed.
func (b *bench) isFresh(done string) bool {
	written, err := os.Stat(done)
	if err != nil {
		return false
	}
	pins, err := os.Stat(b.requirements())
	return err == nil && written.ModTime().After(pins.ModTime())
}

// pip returns the last line of a failed installation; "" when it succeeded.
func (b *bench) pip(ctx context.Context, names []string) string {
	arguments := append([]string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", b.requirements()}, names...)
	out, err := exec.CommandContext(ctx, filepath.Join(b.venv, "bin", "python"), arguments...).CombinedOutput()
	if err == nil {
		return ""
	}
	return reason(string(out), err)
}

// reason is the first error that pip names, which is the one that the others follow from.
func reason(output string, err error) string {
	for line := range strings.Lines(output) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "ERROR: "); ok {
			return strings.TrimSpace(text)
		}
	}
	return err.Error()
}

func (b *bench) pythonVersion() string {
	out, err := exec.Command(filepath.Join(b.venv, "bin", "python"), "--version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "Python ")
}
