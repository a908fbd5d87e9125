package worker

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The files' guard keeps what workers write to scratch folders (/tmp) below a limit of the slot's own. Without it the
// limit would be the kubelet's, which evicts all of the pod.
const (
	// mostEntries of the folders are looked at; more of them is too many, whatever is in them.
	mostEntries = 100_000
	// lookShare bounds what looking costs: of the time, one part in so many.
	lookShare = 50
	// After a look at folders that are too full so much stays, at most: half of the limit.
	sweepTo = 2
)

// Overfill is why the files' guard ended a process. All are in bytes.
type Overfill struct {
	Own   uint64 // what the process and its group had open, and had written lately
	Used  uint64 // by all, in the folders
	Limit uint64
}

// GuardFiles looks after what all processes of the Host have in files below the folders, together, until Close. A limit
// of 0 is none, and nothing runs.
func (h *Host) GuardFiles(limit uint64, folders ...string) {
	if limit == 0 {
		return
	}
	g := &filesGuard{host: h, limit: limit, folders: folders, entries: mostEntries, baseline: map[*process]uint64{}}
	h.loops.Go(func() { h.keepLooking(g.lookSparingly) })
}

// filesGuard looks after one Host's processes.
type filesGuard struct {
	host    *Host
	limit   uint64
	folders []string
	entries int

	// baseline is what each process had written when the folders were nearly empty last.
	baseline map[*process]uint64
	last     *process // that it has ended, and whose files aren't swept yet; nil: none
	endedAt  time.Time
}

// lookSparingly is look, and leaves a pause after it that is long beside the time that it took.
func (g *filesGuard) lookSparingly(began time.Time) time.Duration {
	again := g.look(began)
	return max(again, lookShare*time.Since(began))
}

// look acts on what it finds, and returns when to look again.
func (g *filesGuard) look(now time.Time) time.Duration {
	if g.last != nil {
		select {
		case <-g.last.done:
		default:
			if now.Sub(g.endedAt) < settlePatience {
				return soonestLook
			}
		}
	}
	found := walk(g.folders, g.entries)
	defer found.close()
	all := g.host.processes()
	held := openFiles(g.folders, all, &Groups{})
	used := found.bytes + held.deleted
	switch {
	case used <= g.limit && !found.cut:
		g.last = nil
		g.rebase(used, all)
		free := time.Duration(float64(g.limit-used) / fastestGrowth * float64(time.Second))
		return min(max(free, soonestLook), latestLook)
	case g.last == nil:
		if victim, own := g.culprit(all, held, used); victim != nil && victim.endForFiles(Overfill{Own: own, Used: used, Limit: g.limit}) {
			g.host.log.Warn("ended the process that had most files in "+strings.Join(g.folders, ", ")+", as there was too much",
				"pid", victim.pid, "bytes", own, "allBytes", used, "limitBytes", g.limit)
			g.last, g.endedAt = victim, now
			return soonestLook
		}
	}
	g.last = nil
	g.sweep(found, used)
	return soonestLook
}

// rebase forgets what was written before the folders were nearly empty: it isn't there any more.
func (g *filesGuard) rebase(used uint64, all []*process) {
	const nearly = 4 // one of so many parts of the limit
	if used > g.limit/nearly {
		return
	}
	clear(g.baseline)
	groups := &Groups{}
	for _, p := range all {
		g.baseline[p] = written(groups, p)
	}
}

// culprit is the process that has most of what is used, open or written since the folders were nearly empty; nil: none
// has even half of an equal share, and the files are those of processes that are gone, or done with them.
func (g *filesGuard) culprit(all []*process, held openedFiles, used uint64) (*process, uint64) {
	groups := &Groups{}
	own := func(p *process) uint64 {
		w := written(groups, p)
		return held.by[p] + w - min(w, g.baseline[p])
	}
	victim, most, _ := largest(all, own)
	if victim == nil || most < used/uint64(2*len(all)) {
		return nil, 0
	}
	return victim, min(most, used)
}

// sweep removes files that no process has open, the largest first, until half of the limit is free.
func (g *filesGuard) sweep(found foundFiles, used uint64) {
	open := openEverywhere(g.folders)
	slices.SortFunc(found.files, func(a, b foundFile) int { return cmp.Compare(b.bytes, a.bytes) })
	removed, freed := 0, uint64(0)
	for _, f := range found.files {
		enough := used-min(used, freed) <= g.limit/sweepTo && (!found.cut || removed >= g.entries/sweepTo)
		if enough {
			break
		}
		if !open[f.id] && f.root.Remove(f.path) == nil {
			removed++
			freed += f.bytes
		}
	}
	if found.cut {
		removed += found.removeEmptyFolders()
	}
	if removed > 0 {
		g.host.log.Warn("removed files that no process had open from "+strings.Join(g.folders, ", ")+", as there was too much",
			"files", removed, "bytes", freed, "allBytes", used, "limitBytes", g.limit)
	}
}

// endForFiles kills the process and its group because scratch folders are full; false: it has ended.
func (p *process) endForFiles(o Overfill) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return false
	}
	p.overfill, p.killed = &o, true
	return syscall.Kill(-p.pid, syscall.SIGKILL) == nil
}

// takenBy is which file it is, the bytes of its disk that it takes, and how many names it has.
func takenBy(info os.FileInfo) (fileID, uint64, uint64) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 0, 0
	}
	return fileID{s.Dev, s.Ino}, uint64(s.Blocks) * 512, uint64(s.Nlink) //nolint:unconvert // 32 bits on arm64
}
