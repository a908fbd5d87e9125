package worker

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCounter reads how many processes of this container the kernel has killed for lack of memory. Without a
// readable counter it never reports any.
type oomCounter struct {
	path string
	seen uint64
}

// newOOMCounter finds the counter of cgroup v2 (memory.events) or v1 (memory.oom_control): both hold a line
// "oom_kill N".
func newOOMCounter() *oomCounter {
	c := &oomCounter{}
	for _, path := range oomFiles() {
		if n, ok := readOOMKills(path); ok {
			c.path, c.seen = path, n
			break
		}
	}
	return c
}

// killed reports whether the counter has moved since it was last asked, and takes one kill off.
func (c *oomCounter) killed() bool {
	n, ok := readOOMKills(c.path)
	if !ok || n <= c.seen {
		return false
	}
	c.seen++
	return true
}

// oomFiles lists the candidates: a container sees its own group at the root of the mount, other processes under
// the path that /proc/self/cgroup names.
func oomFiles() []string {
	unified, memory := "/", "/"
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0":
			unified = parts[2]
		case strings.Contains(","+parts[1]+",", ",memory,"):
			memory = parts[2]
		}
	}
	return []string{
		filepath.Join("/sys/fs/cgroup", unified, "memory.events"),
		"/sys/fs/cgroup/memory.events",
		filepath.Join("/sys/fs/cgroup/memory", memory, "memory.oom_control"),
		"/sys/fs/cgroup/memory/memory.oom_control",
	}
}

func readOOMKills(path string) (uint64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "oom_kill "); ok {
			n, err := strconv.ParseUint(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
