package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is searched where an image sets no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// FindPython returns the absolute path of the interpreter: the configured one (a path, or a name to find on PATH),
// else $VIRTUAL_ENV/bin/python, else python3 or python on PATH, PATH and VIRTUAL_ENV being those of env. No shell
// is needed. The error names every place that was looked at.
func FindPython(configured string, env []string) (string, error) {
	search := filepath.SplitList(lookup(env, "PATH"))
	if len(search) == 0 {
		search = filepath.SplitList(defaultPath)
	}
	var candidates []string
	switch {
	case strings.ContainsRune(configured, filepath.Separator):
		candidates = []string{configured}
	case configured != "":
		candidates = inEach(search, configured)
	default:
		if venv := lookup(env, "VIRTUAL_ENV"); venv != "" {
			candidates = append(candidates, filepath.Join(venv, "bin", "python"))
		}
		candidates = append(candidates, inEach(search, "python3")...)
		candidates = append(candidates, inEach(search, "python")...)
	}
	for _, c := range candidates {
		if isExecutable(c) {
			return filepath.Abs(c)
		}
	}
	return "", fmt.Errorf("no Python interpreter found (looked for %s); install Python ≥ 3.9 in the worker's image or set worker.python",
		strings.Join(candidates, ", "))
}

func inEach(folders []string, name string) (paths []string) {
	for _, folder := range folders {
		if filepath.IsAbs(folder) {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	return paths
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil
}

// lookup returns the value that a process started with env would see: the last one.
func lookup(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}
