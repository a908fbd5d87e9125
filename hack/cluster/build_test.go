package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRequiredVersion(t *testing.T) {
	gomod := []byte(`module m

require k8s.io/single v0.1.0

require (
	k8s.io/kubernetes v1.37.2
	k8s.io/kubernetes-csi v9.9.9 // indirect
)

replace k8s.io/replaced => k8s.io/replaced v0.37.2
`)
	for module, want := range map[string]string{
		"k8s.io/kubernetes": "v1.37.2",
		"k8s.io/single":     "v0.1.0",
		"k8s.io/replaced":   "",
		"k8s.io/absent":     "",
	} {
		if got := requiredVersion(gomod, module); got != want {
			t.Errorf("requiredVersion(%s) = %q, want %q", module, got, want)
		}
	}
}

// A build that would give something else must never be taken from the cache.
func TestToolsetNamesWhatItDependsOn(t *testing.T) {
	read := func(gomod, gosum string) toolset {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "kubernetes")
		for name, content := range map[string]string{"go.mod": gomod, "go.sum": gosum} {
			if err := writeFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		tools, err := readToolset(dir, "k8s.io/kubernetes")
		if err != nil {
			t.Fatal(err)
		}
		return tools
	}
	base := read("require k8s.io/kubernetes v1.37.2", "sum")
	if again := read("require k8s.io/kubernetes v1.37.2", "sum"); again.dir != base.dir {
		t.Errorf("the same module gave %s and %s", base.dir, again.dir)
	}
	if !strings.HasPrefix(base.dir, "kubernetes-v1.37.2-") {
		t.Errorf("%s doesn't tell its version", base.dir)
	}
	for _, other := range []toolset{
		read("require k8s.io/kubernetes v1.37.3", "sum"),
		read("require k8s.io/kubernetes v1.37.2", "another sum"),
	} {
		if other.dir == base.dir {
			t.Errorf("a changed module has the same folder, %s", base.dir)
		}
	}
}

func TestReadToolsetRefusesAModuleWithoutItsProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readToolset(dir, "k8s.io/kubernetes"); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got error %v, want one that names the file", err)
	}
}

func TestBuildFlagsStampTheVersion(t *testing.T) {
	flags := strings.Join(buildFlags("v1.37.2"), " ")
	for _, want := range []string{"version.gitVersion=v1.37.2", "gitMajor=1", "gitMinor=37", "-trimpath"} {
		if !strings.Contains(flags, want) {
			t.Errorf("no %s in %s", want, flags)
		}
	}
}

func TestPick(t *testing.T) {
	names := func(progs []program) (out string) {
		for _, p := range progs {
			out += p.name + " "
		}
		return strings.TrimSpace(out)
	}
	if got, err := pick(programs, nil); err != nil || len(got) != len(programs) {
		t.Errorf("none named: got %s, %v, want all", names(got), err)
	}
	got, err := pick(programs, []string{"kubectl", "etcd"})
	if err != nil || names(got) != "etcd kubectl" {
		t.Errorf("got %q, %v, want the two in the order of the build", names(got), err)
	}
	if _, err := pick(programs, []string{"kubectl", "kubeadm"}); err == nil || !strings.Contains(err.Error(), "kubelet") {
		t.Errorf("got error %v, want one that lists what there is", err)
	}
	if len(programs) != 8 {
		t.Errorf("pick changed the list of programs: %s", names(programs))
	}
}

func TestTailBufferKeepsTheEnd(t *testing.T) {
	var b tailBuffer
	for range 5000 {
		_, _ = b.Write([]byte("a line of some length\n"))
	}
	_, _ = b.Write([]byte("the reason\n"))
	text := b.String()
	if !strings.HasSuffix(text, "\nthe reason") || len(text) > tailBytes || !strings.HasPrefix(text, "a line") {
		t.Errorf("got %d bytes, %q ... %q", len(text), text[:20], text[len(text)-20:])
	}
	if len(b.kept) > 3*tailBytes {
		t.Errorf("it holds %d bytes", len(b.kept))
	}
}
