package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupName is the same for every cluster of the same state folder: what a killed one left is found again by name,
// also after a reboot has lost all else.
func (p paths) cgroupName() string {
	sum := sha256.Sum256([]byte(p.state))
	return "workerpool-" + hex.EncodeToString(sum[:4])
}

// A cgroupTree is where pods' cgroups go: below one folder, named root, in each mounted hierarchy. On cgroup v2 there
// is one hierarchy; on v1 one per controller, and often an empty v2 beside them.
type cgroupTree struct {
	root        string
	hierarchies []string // mount points
}

func findCgroups(root string) (cgroupTree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroupTree{}, err
	}
	defer f.Close()
	tree := cgroupTree{root: root, hierarchies: cgroupMounts(bufio.NewScanner(f))}
	if len(tree.hierarchies) == 0 {
		return tree, errors.New("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")
	}
	return tree, nil
}

// cgroupMounts picks the cgroup mounts out of a mountinfo table: its fifth field is the mount point, and the file
// system's type is the first after a lone dash.
func cgroupMounts(lines *bufio.Scanner) (mounts []string) {
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 5 || dash+1 >= len(fields) {
			continue
		}
		if kind := fields[dash+1]; kind == "cgroup" || kind == "cgroup2" {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts
}

// create makes the root in all hierarchies, ready for the kubelet to make pods' cgroups below it.
func (t cgroupTree) create() error {
	for _, mount := range t.hierarchies {
		dir := filepath.Join(mount, t.root)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := t.prepare(mount, dir); err != nil {
			return fmt.Errorf("prepare cgroup %s: %w", dir, err)
		}
	}
	return nil
}

func (t cgroupTree) prepare(mount, dir string) error {
	controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err == nil {
		return t.delegate(mount, dir, strings.Fields(string(controllers)))
	}
	// v1: a new cpuset is empty, and nothing can run in it until it has CPUs and memory nodes.
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(mount, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delegate (v2) hands the controllers down to the root's children.
func (t cgroupTree) delegate(mount, dir string, controllers []string) error {
	if len(controllers) == 0 {
		return nil // the empty v2 hierarchy beside v1's
	}
	enable := []byte("+" + strings.Join(controllers, " +"))
	err := os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), enable, 0o644)
	if errors.Is(err, unix.EBUSY) {
		// Inside a container, the mount's root isn't the machine's: a cgroup with processes of its own can't hand
		// controllers down. They move one level deeper, all of them, and back again when the cluster goes.
		if err = moveProcesses(mount, t.refuge(mount)); err == nil {
			err = os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), enable, 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), enable, 0o644)
}

func (t cgroupTree) refuge(mount string) string { return filepath.Join(mount, t.root+"-outside") }

func moveProcesses(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	pids, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(pids)) {
		err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0o644)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended meanwhile
			return fmt.Errorf("move process %s to %s: %w", pid, to, err)
		}
	}
	return nil
}

// remove takes away the root and all below it. A cgroup stays busy for a moment after its last process ended, and v1
// tells nobody when that moment is over.
func (t cgroupTree) remove() error {
	for _, mount := range t.hierarchies {
		if err := retry(5*time.Second, 20*time.Millisecond, func() error {
			return removeCgroups(filepath.Join(mount, t.root))
		}); err != nil {
			return err
		}
		if err := t.undelegate(mount); err != nil {
			return err
		}
	}
	return nil
}

// undelegate undoes what delegate had to do inside a container.
func (t cgroupTree) undelegate(mount string) error {
	refuge := t.refuge(mount)
	if _, err := os.Stat(refuge); err != nil {
		return nil
	}
	enabled, err := os.ReadFile(filepath.Join(mount, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	if names := strings.Fields(string(enabled)); len(names) > 0 {
		disable := []byte("-" + strings.Join(names, " -"))
		if err := os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), disable, 0o644); err != nil {
			return fmt.Errorf("disable controllers: %w", err)
		}
	}
	if err := moveProcesses(refuge, mount); err != nil {
		return err
	}
	return removeCgroups(refuge)
}

// removeCgroups removes a cgroup, its children first.
func removeCgroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// retry runs fn until it succeeds, for at most the given time: for states that nothing announces.
func retry(limit, pause time.Duration, fn func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(pause) {
		if err := fn(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
