package python_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/python"
)

// What is installed into a pod is the package as it stands here, and nothing else: no tests, no compiled files.
func TestFiles_AreThePackage(t *testing.T) {
	want := []string{"__main__.py", "poolworker/py.typed"}
	modules, err := filepath.Glob("poolworker/*.py")
	if err != nil || len(modules) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	want = append(want, modules...)
	slices.Sort(want)

	var got []string
	err = fs.WalkDir(python.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		got = append(got, path)
		embedded, err := fs.ReadFile(python.Files, path)
		if err != nil {
			return err
		}
		onDisk, err := os.ReadFile(path)
		if err == nil && string(embedded) != string(onDisk) {
			t.Errorf("%s differs from the file", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
