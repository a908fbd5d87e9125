package worker

import (
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dspex/workerpool-operator/internal/cgroup"
)

// The memory guard ends the process that takes most before the kernel would end what it likes: on cgroup v2 that is all
// of the container, which takes the pod out of service. docs/adr/0020-a-guard-before-the-kernel.md says why so.
const (
	// Of the limit, what the guard keeps free: a twentieth, at least leastReserve, at most a quarter. It is what a worker
	// may take between a look and its end.
	reserveShare = 20
	leastReserve = 32 << 20 // bytes
	mostReserve  = 4        // one of so many parts

	// A look comes when a container that grows by fastestGrowth could have used up what is free, within these bounds.
	fastestGrowth = 2 << 30 // bytes per second: a core that touches pages for the first time
	soonestLook   = 10 * time.Millisecond
	latestLook    = 500 * time.Millisecond

	// settlePatience is how long the process that was ended last may take to go before another one is.
	settlePatience = time.Second
)

// Shortage is why the guard ended a process. All are in bytes.
type Shortage struct {
	Own   uint64 // what the process and its group had: memory that is in no file, and swap
	Used  uint64 // of the container, what the kernel can't take back
	Limit uint64 // of the container
}

// fill is how full a container is, as the guard sees it. All are in bytes.
type fill struct {
	used     uint64 // what the kernel can't take back
	limit    uint64 // 0: none any more
	settling bool   // a process that was ended isn't gone yet
}

// judge tells whether the largest process is to end, and when to look again.
func (f fill) judge() (end bool, again time.Duration) {
	most := highWater(f.limit)
	switch {
	case f.limit == 0:
		return false, latestLook
	case f.used > most:
		return !f.settling, soonestLook
	}
	free := time.Duration(float64(most-f.used) / fastestGrowth * float64(time.Second))
	return false, min(max(free, soonestLook), latestLook)
}

// highWater is how much of a limit may be used.
func highWater(limit uint64) uint64 {
	return limit - min(max(limit/reserveShare, leastReserve), limit/mostReserve)
}

// GuardMemory looks after the memory of all processes of the Host, which are in group m, until Close. It reports
// whether it does: without a limit there is nothing to guard, and nothing runs.
func (h *Host) GuardMemory(m cgroup.Memory) bool {
	if m.Limit() == 0 {
		return false
	}
	h.loops.Go(func() { h.keepLooking((&guard{host: h, memory: m}).look) })
	return true
}

// guard looks after one Host's processes.
type guard struct {
	host     *Host
	memory   cgroup.Memory
	last     *process // that it has ended, at endedAt; nil: none yet
	endedAt  time.Time
	helpless bool // it has said that no process of the Host is to blame
}

// keepLooking calls look, which returns when to look again, until the Host is closed.
func (h *Host) keepLooking(look func(now time.Time) time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-h.quit:
			return
		case <-timer.C:
			timer.Reset(look(time.Now()))
		}
	}
}

// look acts on what it finds, and returns when to look again.
func (g *guard) look(now time.Time) time.Duration {
	f := fill{limit: g.memory.Limit(), settling: g.settling(now)}
	f.used, _ = g.memory.Usage()
	if f.used > f.limit/2 { // else it doesn't matter how much of it is files
		f.used -= min(f.used, g.memory.Reclaimable())
	}
	end, again := f.judge()
	if end {
		g.end(f, now)
	}
	return again
}

// settling tells whether memory may still come back from the process that was ended last.
func (g *guard) settling(now time.Time) bool {
	if g.last == nil || now.Sub(g.endedAt) > settlePatience {
		return false
	}
	select {
	case <-g.last.done:
		return false
	default:
		return true
	}
}

// end ends the largest process, unless even the end of all would change nothing.
func (g *guard) end(f fill, now time.Time) {
	victim, own, all := largest(g.host.processes(), ownMemory(&Groups{}))
	if all < f.used-highWater(f.limit) {
		if !g.helpless {
			g.host.log.Warn("the container is about to run out of memory, and workers have little of it; look for files in memory-backed volumes, "+
				"and for processes that were started in it by hand", "workersBytes", all, "containerBytes", f.used, "limitBytes", f.limit)
		}
		g.helpless = true
		return
	}
	if victim == nil || !victim.endForMemory(Shortage{Own: own, Used: f.used, Limit: f.limit}) {
		return
	}
	g.last, g.endedAt, g.helpless = victim, now, false
	g.host.log.Warn("ended the largest process, as the container was about to run out of memory",
		"pid", victim.pid, "bytes", own, "containerBytes", f.used, "limitBytes", f.limit)
}

// processes are those that the Host has, workers and zygotes, ready or not.
func (h *Host) processes() []*process {
	h.starting.Lock()
	defer h.starting.Unlock()
	all := make([]*process, 0, len(h.children))
	for _, p := range h.children {
		all = append(all, p)
	}
	return all
}

// largest returns the process that has most memory of its own, and how much; nil: none has any. Of equal ones it is the
// one that was started last, as pids go. sum is what all have together.
func largest(all []*process, own func(*process) uint64) (victim *process, most, sum uint64) {
	slices.SortFunc(all, func(a, b *process) int { return cmp.Compare(b.pid, a.pid) })
	for _, p := range all {
		n := own(p)
		sum += n
		if n > most {
			victim, most = p, n
		}
	}
	return victim, most, sum
}

// ownMemory reads what processes and their groups have that isn't in files, and what of it is in swap. The kernel keeps
// these figures, so that it takes microseconds; what is private for sure (see Usage) takes it milliseconds for each
// process. What forked workers share is in each one's figure, and changes nothing between them.
func ownMemory(groups *Groups) func(*process) uint64 {
	return func(p *process) (bytes uint64) {
		for _, pid := range groups.of(p.pid) {
			status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
			bytes += anonymous(status)
		}
		return bytes
	}
}

// anonymous adds up two lines like "RssAnon:     1234 kB".
func anonymous(status []byte) (sum uint64) {
	for line := range bytes.Lines(status) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		if n := string(name); n != "RssAnon" && n != "VmSwap" {
			continue
		}
		number, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
		kilobytes, _ := strconv.ParseUint(string(number), 10, 64)
		sum += kilobytes << 10
	}
	return sum
}
