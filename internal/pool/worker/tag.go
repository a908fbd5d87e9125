package worker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A tag is a number that a worker's process bears, and that all it starts inherit and can't shed: its limit of file locks
// (RLIMIT_LOCKS), which no kernel since Linux 2.4 enforces. Limits pass through every fork and exec, whatever a process does
// to its environment, session, group, files or parents, and without privileges a process can only lower them. Anyone who
// sees a process sees its limits. So a daemon that has detached itself from everything still tells whose it was.
//
// The upper bits, the family, are those of the slot's marker: they are the same after a restart of the supervisor. The
// lower ones count down with each start, as a worker's limit has to be below that of the zygote which it was forked from.
type tag uint64

// family is the upper part of the tags of one slot.
type family uint64

const (
	numberBits = 28 // starts of a supervisor's life: five a second for a year and a half
	familyBits = 35
	lastNumber = 1<<numberBits - 1
)

// familyOf is never 0: that is no limit that a slot has set.
func familyOf(marker string) family {
	sum := sha256.Sum256([]byte(marker))
	return family(binary.BigEndian.Uint64(sum[:])>>(64-familyBits)) | 1
}

// tagOf is the n-th tag of a slot, from 1; 0: there are no more, and that is none.
func tagOf(marker string, n uint64) tag {
	if n > lastNumber {
		return 0
	}
	return tag(uint64(familyOf(marker))<<numberBits | (lastNumber - n))
}

// tag marks a process, before any of the user's code runs in it, and what it will start. Where the kernel refuses that,
// which is worth a line in the log, the environment has to do.
func (h *Host) tag(p *process, marker string) {
	t := tagOf(marker, h.tags.Add(1))
	if err := p.bear(t); err != nil {
		h.untagged.Do(func() {
			h.log.Warn("processes can't be tagged (RLIMIT_LOCKS): what a worker starts with an environment of its own may outlive it", "error", err)
		})
	}
}

func (p *process) bear(t tag) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped || t == 0 {
		return nil
	}
	p.tag = t
	limit := unix.Rlimit{Cur: uint64(t), Max: uint64(t)}
	return os.NewSyscallError("prlimit", unix.Prlimit(p.pid, unix.RLIMIT_LOCKS, &limit, nil))
}

// mark returns what tells the process's strays; it has ended.
func (p *process) mark() tag {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tag
}

// on reports whether a process bears the tag. It may for zombies too.
func (t tag) on(pid int) bool { return t != 0 && tagOn(pid) == t }

// on reports whether a process bears a tag of the family. It may for zombies too.
func (f family) on(pid int) bool { return family(tagOn(pid)>>numberBits) == f }

// tagOn reads a line like "Max file locks            unlimited            unlimited            locks". 0: there is no such
// process, or it has no tag.
func tagOn(pid int) tag {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	_, rest, _ := bytes.Cut(data, []byte("\nMax file locks "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return 0
	}
	hard, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return tag(hard)
}
