package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Usage is what a process and all others of its group take. What can't be read is 0.
type Usage struct {
	PSS  uint64        // bytes of memory, what is shared counted by its part
	USS  uint64        // bytes of memory that no other process shares
	Swap uint64        // bytes
	CPU  time.Duration // since its start, with children that it has waited for
	FDs  int
}

// Own is the memory that ends with the group: a process that was forked shows far more as resident.
func (u Usage) Own() uint64 { return u.USS + u.Swap }

func (u *Usage) add(pid int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	memory, _ := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	u.addMemory(memory)
	if stat, ok := readStat(dir); ok {
		u.CPU += stat.cpu
	}
	u.FDs += countFDs(dir)
}

// addMemory reads lines like "Private_Dirty:     1234 kB". Pss_Anon and the like are parts of Pss.
func (u *Usage) addMemory(smaps []byte) {
	for line := range bytes.Lines(smaps) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		number, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
		kilobytes, err := strconv.ParseUint(string(number), 10, 64)
		if err != nil {
			continue
		}
		switch string(name) {
		case "Pss":
			u.PSS += kilobytes << 10
		case "Private_Clean", "Private_Dirty", "Private_Hugetlb":
			u.USS += kilobytes << 10
		case "Swap":
			u.Swap += kilobytes << 10
		}
	}
}

func countFDs(dir string) int {
	f, err := os.Open(filepath.Join(dir, "fd"))
	if err != nil {
		return 0
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return len(names)
}

// stat is a part of /proc/PID/stat.
type stat struct {
	group int
	cpu   time.Duration
}

// clockTick is the unit of times in /proc: the kernel's USER_HZ is 100 wherever Go runs.
const clockTick = time.Second / 100

// readStat is false for a process that is gone. The second field is the process's name, with whatever in it.
func readStat(dir string) (s stat, ok bool) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return s, false
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const pgrp, utime, cstime = 2, 11, 14 // counted from the third, the state
	if len(fields) <= cstime {
		return s, false
	}
	s.group, _ = strconv.Atoi(fields[pgrp])
	for _, field := range fields[utime : cstime+1] {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		s.cpu += time.Duration(ticks) * clockTick
	}
	return s, true
}

// Groups knows which processes belong to which group, as it was when it was first asked. The zero value is ready.
type Groups struct {
	once    sync.Once
	members map[int][]int
}

// of returns the processes of a group.
func (g *Groups) of(group int) []int {
	g.once.Do(func() {
		g.members = map[int][]int{}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if s, ok := readStat(dir); ok && err == nil {
				g.members[s.group] = append(g.members[s.group], pid)
			}
		}
	})
	return g.members[group]
}

// Usage reads what the worker's process group takes. It may take milliseconds, more for large processes.
func (w *Worker) Usage(groups *Groups) (u Usage) {
	for _, pid := range groups.of(w.proc.pid) {
		u.add(pid)
	}
	return u
}
