package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestP114_InterpreterFound(t *testing.T) {
	root := t.TempDir()
	program := func(path string, mode os.FileMode) string {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	venv := program("venv/bin/python", 0o755)
	three := program("bin/python3", 0o755)
	program("bin/plain", 0o644)
	old := program("old/python", 0o755)
	custom := program("opt/pypy", 0o755)
	path := func(dirs ...string) string {
		for i := range dirs {
			dirs[i] = filepath.Join(root, dirs[i])
		}
		return "PATH=" + strings.Join(dirs, ":")
	}
	for name, tc := range map[string]struct {
		configured string
		env        []string
		want       string
		missing    string // named in the error
	}{
		"a path":                       {configured: custom, want: custom},
		"a name on PATH":               {configured: "pypy", env: []string{path("bin", "opt")}, want: custom},
		"the venv first":               {env: []string{"VIRTUAL_ENV=" + filepath.Join(root, "venv"), path("bin")}, want: venv},
		"python3 on PATH":              {env: []string{path("old", "bin")}, want: three},
		"python where no python3 is":   {env: []string{path("old")}, want: old},
		"a venv without a python":      {env: []string{"VIRTUAL_ENV=/nowhere", path("bin")}, want: three},
		"the last PATH counts":         {env: []string{path("old"), path("bin")}, want: three},
		"a path where nothing is":      {configured: "/nowhere/python", missing: "/nowhere/python"},
		"a file that isn't executable": {configured: filepath.Join(root, "bin/plain"), missing: "bin/plain"},
		"nothing on PATH":              {env: []string{path("empty")}, missing: filepath.Join(root, "empty", "python3")},
		"a relative PATH is unsafe":    {env: []string{"PATH=."}, missing: "worker.python"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FindPython(tc.configured, tc.env)
			if got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
			if tc.missing != "" && (err == nil || !strings.Contains(err.Error(), tc.missing)) {
				t.Errorf("error %v doesn't name %s", err, tc.missing)
			}
		})
	}
}
