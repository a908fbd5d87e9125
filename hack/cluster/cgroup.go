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

// cgroupMount is where the kubelet and runc look for cgroups.
const cgroupMount = "/sys/fs/cgroup"

// clusterName names the cluster's cgroup and its lock. It is the same for every cluster of the same state folder: what
// a killed one left is found again by name.
func (p paths) clusterName() string {
	sum := sha256.Sum256([]byte(p.state))
	return "workerpool-" + hex.EncodeToString(sum[:4])
}

// A cgroupTree is where pods' cgroups go: below one folder, named root, in each mounted hierarchy. On cgroup v2 there
// is one hierarchy; on v1 one per controller, and often an idle v2 beside them.
type cgroupTree struct {
	root        string
	hierarchies []hierarchy
	notes       string // a file that remembers which controllers create had to enable
}

type hierarchy struct {
	mount string
	v2    bool
}

func (p paths) findCgroups() (cgroupTree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroupTree{}, err
	}
	defer f.Close()
	tree := cgroupTree{
		root:        p.clusterName(),
		hierarchies: cgroupMounts(bufio.NewScanner(f)),
		notes:       p.inState("cgroup-controllers"),
	}
	if len(tree.hierarchies) == 0 {
		return tree, errors.New("no cgroup hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup")
	}
	return tree, nil
}

// cgroupMounts picks the cgroup mounts out of a mountinfo table: its fifth field is the mount point, and the file
// system's type is the first after a lone dash.
func cgroupMounts(lines *bufio.Scanner) (found []hierarchy) {
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		dash := slices.Index(fields, "-")
		if dash < 5 || dash+1 >= len(fields) {
			continue
		}
		mount, kind := fields[4], fields[dash+1]
		if strings.HasPrefix(mount, cgroupMount) && (kind == "cgroup" || kind == "cgroup2") {
			found = append(found, hierarchy{mount: mount, v2: kind == "cgroup2"})
		}
	}
	return found
}

// create makes the root in all hierarchies, ready for the kubelet to make pods' cgroups below it.
func (t cgroupTree) create() error {
	for _, h := range t.hierarchies {
		dir := filepath.Join(h.mount, t.root)
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		switch {
		case !h.v2:
			err = fillCpuset(h.mount, dir)
		case len(t.hierarchies) == 1: // an idle v2 beside v1's is nobody's to manage
			err = t.delegate(h.mount, dir)
		default:
			err = nil
		}
		if err == nil {
			err = favour(dir)
		}
		if err != nil {
			return fmt.Errorf("prepare cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// favour gives the pods twenty times the weight of one process beside them. At the default weight all pods together
// count as much as one of the machine's compilers, and whoever measures them measures these. It takes nothing from
// anyone while the pods are idle.
func favour(dir string) error {
	for file, weight := range map[string]string{"cpu.shares": "20480", "cpu.weight": "2000"} { // v1, v2
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.WriteFile(path, []byte(weight), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fillCpuset (v1) copies the parent's CPUs and memory nodes: a new cpuset has none, and nothing can run in it.
func fillCpuset(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(parent, name))
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

// delegate (v2) hands the controllers down to the root and to its children.
func (t cgroupTree) delegate(mount, dir string) error {
	all, err := controllersIn(mount, "cgroup.controllers")
	if err != nil {
		return err
	}
	enabled, err := controllersIn(mount, subtreeControl)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(all), func(c string) bool { return slices.Contains(enabled, c) })
	if len(missing) > 0 {
		if err := writeFile(t.notes, []byte(strings.Join(missing, " ")), 0o644); err != nil {
			return err
		}
		if err := t.enable(mount, missing); err != nil {
			return fmt.Errorf("enable controllers: %w", err)
		}
	}
	return switchControllers(dir, "+", all)
}

func (t cgroupTree) enable(mount string, controllers []string) error {
	err := switchControllers(mount, "+", controllers)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	// In a container the mount's root isn't the machine's: a cgroup with processes of its own can't hand controllers
	// down. They move one level deeper, all of them, and back again when the cluster goes.
	if err := moveProcesses(mount, t.refuge(mount)); err != nil {
		return err
	}
	return switchControllers(mount, "+", controllers)
}

const subtreeControl = "cgroup.subtree_control"

func controllersIn(dir, file string) ([]string, error) {
	content, err := os.ReadFile(filepath.Join(dir, file))
	return strings.Fields(string(content)), err
}

// switchControllers turns controllers on ("+") or off ("-") for a cgroup's children.
func switchControllers(dir, sign string, controllers []string) error {
	if len(controllers) == 0 {
		return nil
	}
	line := sign + strings.Join(controllers, " "+sign)
	return os.WriteFile(filepath.Join(dir, subtreeControl), []byte(line), 0o644)
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
	for _, h := range t.hierarchies {
		if err := retry(5*time.Second, 20*time.Millisecond, func() error {
			return removeCgroups(filepath.Join(h.mount, t.root))
		}); err != nil {
			return err
		}
		if !h.v2 {
			continue
		}
		if err := t.undelegate(h.mount); err != nil {
			return fmt.Errorf("give back the controllers of %s: %w", h.mount, err)
		}
	}
	return nil
}

// undelegate undoes what delegate had to do, as far as nobody else uses it by now.
func (t cgroupTree) undelegate(mount string) error {
	if enabled, err := os.ReadFile(t.notes); err == nil {
		err := switchControllers(mount, "-", strings.Fields(string(enabled)))
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	refuge := t.refuge(mount)
	if _, err := os.Stat(refuge); err != nil {
		return nil
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
