package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
)

func testImage(t *testing.T, content string) v1.Image {
	t.Helper()
	image, err := build(empty.Image, v1.Config{User: nonRoot, Entrypoint: []string{"/app"}},
		file{to: "/bin", mode: os.ModeDir | 0o755}, file{to: "/bin/app", content: []byte(content), mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestTheSameInputsGiveTheSameImage(t *testing.T) {
	if one, again := digest(t, testImage(t, "a")), digest(t, testImage(t, "a")); one != again {
		t.Errorf("%s, then %s", one, again)
	}
	if one, other := digest(t, testImage(t, "a")), digest(t, testImage(t, "b")); one == other {
		t.Errorf("both are %s", one)
	}
}

func TestArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	image := testImage(t, "program")
	if err := writeArchive(path, "localhost/a:dev", image); err != nil {
		t.Fatal(err)
	}
	if got, want := archivedDigest(path), digest(t, image); got != want {
		t.Errorf("the archive says %q, the image is %s", got, want)
	}
	entries := entriesOf(t, path)
	if !strings.Contains(entries["index.json"], `"io.containerd.image.name":"localhost/a:dev"`) {
		t.Errorf("index: %s", entries["index.json"])
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	layerDigest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	if blob := entries[blobPath(layerDigest)]; hashOf([]byte(blob)) != layerDigest {
		t.Errorf("the layer's blob (%d bytes) isn't what it is called", len(blob))
	}
}

func TestNoArchiveHasNoDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	if got := archivedDigest(path); got != "" {
		t.Errorf("a missing file: %q", got)
	}
	if err := os.WriteFile(path, []byte("half of"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := archivedDigest(path); got != "" {
		t.Errorf("a broken file: %q", got)
	}
}

func entriesOf(t *testing.T, path string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for in := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		entries[header.Name] = string(body)
		if header.Linkname != "" {
			entries[header.Name] = "-> " + header.Linkname
		}
	}
}

func TestPackTree(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{"etc/passwd": "root", "b": "content"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("etc/passwd", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(root, "b"), filepath.Join(root, "c")); err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(t.TempDir(), "root.tar")
	if err := packTree(tarball, root); err != nil {
		t.Fatal(err)
	}
	entries := entriesOf(t, tarball)
	for name, want := range map[string]string{
		"etc/": "", "etc/passwd": "root", "b": "content", "c": "-> b", "link": "-> etc/passwd",
	} {
		if got, ok := entries[name]; !ok || got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	passwd, err := readFromTar(tarball, "etc/passwd")
	if err != nil || string(passwd) != "root" {
		t.Errorf("read %q, %v", passwd, err)
	}
	if _, err := readFromTar(tarball, "etc/shadow"); err == nil || !strings.Contains(err.Error(), "etc/shadow") {
		t.Errorf("got %v, want the name of what is missing", err)
	}
}

func TestMirror(t *testing.T) {
	const updates, main = "Debian|bookworm-updates|mirror:updates/\n", "Debian|bookworm|mirror:main/\n"
	for targets, want := range map[string]string{
		updates + main: "mirror:main/",
		"Another vendor|bookworm|mirror:vendor/\nDebian-Security|bookworm-security|mirror:sec/\n" + main: "mirror:main/",
		"Debian|trixie|mirror:trixie/\n":                  "mirror:trixie/",
		"Another vendor|bookworm|mirror:vendor/\nnoise\n": "",
		"": "",
	} {
		if got := mirrorIn(targets); got != want {
			t.Errorf("%q: got %q, want %q", targets, got, want)
		}
	}
}

func TestPick(t *testing.T) {
	if all, err := pick([]string{"all"}); err != nil || len(all) != len(recipes) {
		t.Errorf("all: %d, %v", len(all), err)
	}
	if two, err := pick([]string{"worker", "pause"}); err != nil || two[0].name != "worker" || len(two) != 2 {
		t.Errorf("two: %v, %v", two, err)
	}
	for _, wanted := range [][]string{nil, {"pause", "manager"}} {
		if _, err := pick(wanted); err == nil || !strings.Contains(err.Error(), "coredns") {
			t.Errorf("%v: got %v, want an error that lists what there is", wanted, err)
		}
	}
}

func TestSamplesWithoutModules(t *testing.T) {
	in := inputs{checkout: t.TempDir()}
	if _, err := in.sampleModules(); err == nil {
		t.Error("no folder: no error")
	}
	dir := filepath.Join(in.checkout, "config/samples/worker/demo")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := in.sampleModules(); err == nil || !strings.Contains(err.Error(), "config/samples/worker") {
		t.Errorf("no module: %v", err)
	}
	for _, name := range []string{"commands.py", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	modules, err := in.sampleModules()
	if err != nil || !slices.ContainsFunc(modules, func(f file) bool { return f.to == "/app/demo/commands.py" }) ||
		len(modules) != 1 {
		t.Errorf("got %v, %v", modules, err)
	}
}
