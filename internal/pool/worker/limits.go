package worker

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a worker may map, from what it may take (Spec.Memory): a mapping counts whether it is used or not, so the bound is
// twice that, and for each request that it serves at a time a thread's stack.
const (
	dataFactor  = 2
	threadStack = 8 << 20 // bytes
)

// dataLimit is the bound of a process's private, writable mappings, in bytes; 0: none.
func (s *Spec) dataLimit() uint64 {
	if s.Memory == 0 {
		return 0
	}
	return dataFactor*s.Memory + uint64(max(1, s.Concurrency))*threadStack
}

// limitData bounds what the process may map, in its own eyes: beyond, an allocation fails, in Python with a MemoryError.
// The soft limit alone is set, which a module may raise for itself. Children inherit it, and so do forked workers. It
// takes effect long before Python has read which module to import. That it can't be set is worth a line in the log: the
// guard is there all the same.
func (h *Host) limitData(p *process, limit uint64) {
	if limit == 0 {
		return
	}
	if err := p.limitData(limit); err != nil {
		h.unlimited.Do(func() { h.log.Warn("workers' memory can't be bounded (RLIMIT_DATA)", "error", err) })
	}
}

func (p *process) limitData(limit uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	var now unix.Rlimit
	if err := unix.Prlimit(p.pid, unix.RLIMIT_DATA, nil, &now); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	now.Cur = min(limit, now.Max)
	return os.NewSyscallError("prlimit", unix.Prlimit(p.pid, unix.RLIMIT_DATA, &now, nil))
}

// preferAsOOMVictim makes the kernel choose a worker before its supervisor. Best effort: raising one's own score
// needs no privilege, but /proc may be read-only.
func preferAsOOMVictim(pid int) {
	score := strconv.Itoa(victimScore(oomScore("self")))
	_ = os.WriteFile(scoreFile(strconv.Itoa(pid)), []byte(score), 0)
}

// leastVictimScore of oom_score_adj, which goes up to mostVictimScore: so many thousandths of the memory are added to what a
// process takes when the kernel compares it with others.
const (
	leastVictimScore = 900
	mostVictimScore  = 1000
)

// victimScore is a worker's, from its supervisor's: higher, unless that is the highest already. Kubernetes gives containers
// without requests the highest, and nearly that to those with small ones.
func victimScore(own int) int {
	return min(max(leastVictimScore, own+100), mostVictimScore)
}

func oomScore(pid string) int {
	data, _ := os.ReadFile(scoreFile(pid))
	score, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return score
}

func scoreFile(pid string) string { return "/proc/" + pid + "/oom_score_adj" }

// endForMemory kills the process and its group because memory is short; false: it has ended.
func (p *process) endForMemory(s Shortage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return false
	}
	p.shortage, p.killed = &s, true
	return syscall.Kill(-p.pid, syscall.SIGKILL) == nil
}
