package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// project names the folders below the user's cache and state folders.
	project = "workerpool-operator"

	// maxSocketPath is what fits in a sockaddr_un, without its closing zero.
	maxSocketPath = 107

	// Where the node finds the two host folders: short and constant, whatever HOME is and whatever it hides by
	// mounting over /var/lib.
	nodeState = "/run/cluster/state"
	nodeCache = "/run/cluster/cache"
)

// paths are the folders that the tool works with. Nothing is ever written into the checkout.
type paths struct {
	checkout string // the repository; empty when the tool runs outside of it
	cache    string // programs, images and locks: survives `down`
	state    string // one cluster's keys, data and logs: removed by `down`
}

func findPaths() (paths, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return paths{}, fmt.Errorf("no cache folder: %w (set HOME or XDG_CACHE_HOME)", err)
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return paths{}, fmt.Errorf("no state folder: %w (set HOME or XDG_STATE_HOME)", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	p := paths{cache: filepath.Join(cache, project), state: filepath.Join(state, project)}
	if len(p.socket()) > maxSocketPath {
		return paths{}, fmt.Errorf("%s is longer than a unix socket's path may be (%d): set XDG_STATE_HOME shorter",
			p.socket(), maxSocketPath)
	}
	if cwd, err := os.Getwd(); err == nil {
		p.checkout = findCheckout(cwd)
	}
	return p, nil
}

// findCheckout walks up to the folder that holds the tool modules, so that the tool works from any subfolder.
func findCheckout(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, kubernetesModule, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// needCheckout is for commands that read the repository: the others work from anywhere.
func (p paths) needCheckout() error {
	if p.checkout == "" {
		return errors.New("no " + kubernetesModule + " in this folder or above it: run it inside the checkout")
	}
	return nil
}

func (p paths) socket() string           { return filepath.Join(p.state, "node.sock") }
func (p paths) record() string           { return filepath.Join(p.state, "node.json") }
func (p paths) kubeconfig() string       { return filepath.Join(p.state, "kubeconfig") }
func (p paths) kubectlCache() string     { return filepath.Join(p.state, "kubectl") }
func (p paths) logs() string             { return filepath.Join(p.state, "logs") }
func (p paths) log(name string) string   { return filepath.Join(p.logs(), name+".log") }
func (p paths) images() string           { return filepath.Join(p.cache, "images") }
func (p paths) inState(n string) string  { return filepath.Join(p.state, n) }
func (p paths) inCache(n string) string  { return filepath.Join(p.cache, n) }
func (p paths) lockFile(n string) string { return filepath.Join(p.cache, n+".lock") }

// writeFile writes whole files only: a reader, or a later run after a crash, never sees half of one.
func writeFile(path string, content []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}
