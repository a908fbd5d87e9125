package main

import (
	"bufio"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const mountinfoV1 = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpuset rw,relatime shared:5 - cgroup cgroup rw,cpuset
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:6 master:1 - cgroup2 cgroup2 rw
33 22 0:29 / /mnt/copy/of/cgroups rw,relatime - cgroup2 cgroup2 rw
`

func TestCgroupMounts(t *testing.T) {
	got := cgroupMounts(bufio.NewScanner(strings.NewReader(mountinfoV1)))
	want := []hierarchy{{mount: "/sys/fs/cgroup/cpuset"}, {mount: "/sys/fs/cgroup/unified", v2: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// fakeHierarchy is a folder that looks like a cgroup mount; the kernel's part, the files of a new cgroup, is missing.
func fakeHierarchy(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestCreateOnV1FillsTheCpuset(t *testing.T) {
	cpuset := fakeHierarchy(t, map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"})
	idle := fakeHierarchy(t, map[string]string{"cgroup.controllers": "hugetlb\n", subtreeControl: ""})
	tree := cgroupTree{root: "wp", hierarchies: []hierarchy{{mount: cpuset}, {mount: idle, v2: true}}}
	if err := tree.create(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, cpuset, "wp", "cpuset.cpus"); got != "0-1\n" {
		t.Errorf("the new cpuset has CPUs %q", got)
	}
	if got := read(t, idle, subtreeControl); got != "" {
		t.Errorf("the idle v2 hierarchy was given %q", got)
	}
}

func TestCreateOnV2EnablesAndRemembersWhatIsMissing(t *testing.T) {
	mount := fakeHierarchy(t, map[string]string{"cgroup.controllers": "cpu memory pids\n", subtreeControl: "memory\n"})
	tree := cgroupTree{
		root: "wp", hierarchies: []hierarchy{{mount: mount, v2: true}}, notes: filepath.Join(t.TempDir(), "notes"),
	}
	if err := tree.create(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, mount, subtreeControl); got != "+cpu +pids" {
		t.Errorf("enabled %q for the cluster's root", got)
	}
	if got := read(t, mount, "wp", subtreeControl); got != "+cpu +memory +pids" {
		t.Errorf("enabled %q for the root's children", got)
	}
	if err := tree.undelegate(mount); err != nil {
		t.Fatal(err)
	}
	if got := read(t, mount, subtreeControl); got != "-cpu -pids" {
		t.Errorf("gave back %q", got)
	}
}

func TestRemoveTakesChildrenFirst(t *testing.T) {
	mount := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mount, "wp", "kubepods", "pod1"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree := cgroupTree{root: "wp", hierarchies: []hierarchy{{mount: mount}, {mount: t.TempDir()}}}
	if err := tree.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(mount, "wp")); !os.IsNotExist(err) {
		t.Errorf("the root is still there: %v", err)
	}
}

func TestClusterNameFollowsTheStateFolder(t *testing.T) {
	one, other := paths{state: "/home/a/state"}, paths{state: "/home/b/state"}
	if one.clusterName() == other.clusterName() {
		t.Errorf("both are %s", one.clusterName())
	}
	if again := (paths{state: "/home/a/state", cache: "/elsewhere"}); again.clusterName() != one.clusterName() {
		t.Errorf("%s, then %s", one.clusterName(), again.clusterName())
	}
}
