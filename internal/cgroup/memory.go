// Package cgroup reads what the kernel says of the memory of a control group: in a container, of the container's.
package cgroup

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is one group's. The zero value is no group: nothing of it can be read.
type Memory struct {
	dir   string
	files *files
}

// files are what the two versions of the interface call the same.
type files struct {
	usage, limit, kills string
	// stat has what of the usage the kernel can take back by itself: pages of files, under these names.
	stat, inactiveFile, activeFile string
}

var (
	v2 = files{
		usage: "memory.current", limit: "memory.max", kills: "memory.events",
		stat: "memory.stat", inactiveFile: "inactive_file", activeFile: "active_file",
	}
	v1 = files{
		usage: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", kills: "memory.oom_control",
		stat: "memory.stat", inactiveFile: "total_inactive_file", activeFile: "total_active_file",
	}
)

// unlimited is what v1 writes where there is no limit, rounded down: the largest number of whole pages.
const unlimited = 1 << 62

// Own returns the group that this process is in. A container sees its own at the root of the mount, other processes
// under the path that /proc/self/cgroup names. Where there is none to be read it returns the zero value.
func Own() Memory {
	groups, _ := os.ReadFile("/proc/self/cgroup")
	return find("/sys/fs/cgroup", string(groups))
}

// At returns the group of a directory; the zero value if that isn't one with a memory controller.
func At(dir string) Memory {
	for _, f := range []*files{&v2, &v1} {
		if _, err := os.Stat(filepath.Join(dir, f.kills)); err == nil {
			return Memory{dir, f}
		}
	}
	return Memory{}
}

func find(mount, groups string) Memory {
	unified, memory := "/", "/"
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0":
			unified = parts[2]
		case strings.Contains(","+parts[1]+",", ",memory,"):
			memory = parts[2]
		}
	}
	for _, dir := range []string{unified, "", filepath.Join("memory", memory), "memory"} {
		if m := At(filepath.Join(mount, dir)); m.files != nil {
			return m
		}
	}
	return Memory{}
}

// Usage is what is charged to the group, in bytes, with what the kernel can take back.
func (m Memory) Usage() (bytes uint64, ok bool) {
	if m.files == nil {
		return 0, false
	}
	return m.number(m.files.usage)
}

// Limit is how much may be charged to the group, in bytes; 0: as much as there is. A limit of what is around the
// container, as a pod's own, doesn't show here.
func (m Memory) Limit() uint64 {
	if m.files == nil {
		return 0
	}
	limit, ok := m.number(m.files.limit) // "max" is no number
	if !ok || limit >= unlimited {
		return 0
	}
	return limit
}

// Reclaimable is the part of Usage that the kernel takes back before it kills anyone, in bytes: pages of files, used
// lately or not, but not those of memory-backed file systems.
func (m Memory) Reclaimable() uint64 {
	if m.files == nil {
		return 0
	}
	inactive, _ := m.entry(m.files.stat, m.files.inactiveFile)
	active, _ := m.entry(m.files.stat, m.files.activeFile)
	return inactive + active
}

// Kills counts the processes of the group that the kernel has killed for lack of memory, since the group was made.
func (m Memory) Kills() (n uint64, ok bool) {
	if m.files == nil {
		return 0, false
	}
	return m.entry(m.files.kills, "oom_kill")
}

func (m Memory) number(file string) (uint64, bool) {
	data, err := os.ReadFile(filepath.Join(m.dir, file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
	return n, err == nil
}

// entry reads a line "name N".
func (m Memory) entry(file, name string) (uint64, bool) {
	data, err := os.ReadFile(filepath.Join(m.dir, file))
	if err != nil {
		return 0, false
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			n, err := strconv.ParseUint(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
