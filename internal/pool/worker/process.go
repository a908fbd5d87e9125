package worker

import (
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one child, leader of its own process group.
type process struct {
	pid  int
	done chan struct{} // closed once exit is set

	// mu orders signals and reaping: a pid is signalled only while it isn't reaped, and so never one that the
	// kernel has given to another process since.
	mu     sync.Mutex
	reaped bool
	killed bool // by us
	// shortage is why the memory guard ended it; nil: it didn't.
	shortage *Shortage
	tag      tag // that it and all it starts bear; 0: none
	// overfill is why the files' guard ended it; nil: it didn't.
	overfill *Overfill

	exit Exit // written before done is closed
}

// Exit says how a process ended.
type Exit struct {
	Code   int            // when Signal is 0
	Signal syscall.Signal // 0: it exited by itself
	OOM    bool           // best effort: the kernel counted an out-of-memory kill in our cgroup
	CPU    time.Duration  // that it used, with children that it has waited for
	// Shortage is why the memory guard ended it; nil: it didn't.
	Shortage *Shortage
	// Overfill is why the files' guard ended it; nil: it didn't.
	Overfill *Overfill
}

// String reads well after "the worker".
func (e Exit) String() string {
	switch {
	case e.Shortage != nil:
		return "took most of its container's memory and was ended before that was used up"
	case e.Overfill != nil:
		return "had most of the files below /tmp and was ended, as there was too much"
	case e.OOM:
		return "was killed for lack of memory (SIGKILL by the kernel)"
	case e.Signal != 0:
		return "was killed by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("exited with status %d", e.Code)
}

// Reason is a short name to count by: "memory" (the guard), "tmp" (the files' guard), "oom" (the kernel), "SIGSEGV", "exit 3".
func (e Exit) Reason() string {
	switch {
	case e.Shortage != nil:
		return "memory"
	case e.Overfill != nil:
		return "tmp"
	case e.OOM:
		return "oom"
	case e.Signal != 0:
		return unix.SignalName(e.Signal)
	}
	return "exit " + strconv.Itoa(e.Code)
}

// signal reports whether the process was still ours to signal.
func (p *process) signal(s syscall.Signal) bool { return p.kill(p.pid, s) }

// signalGroup signals the process and all that it started and that stayed in its group.
func (p *process) signalGroup(s syscall.Signal) bool { return p.kill(-p.pid, s) }

// signalMainThread reports as signal does. A signal to the process may be taken by any thread of it.
func (p *process) signalMainThread(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.reaped && unix.Tgkill(p.pid, p.pid, s) == nil
}

func (p *process) kill(target int, s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = p.killed || s == syscall.SIGKILL
	return !p.reaped && syscall.Kill(target, s) == nil
}

// reap kills what is left of the group of an ended process and takes its status. The caller has seen it end.
func (p *process) reap(oom *oomCounter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	var e end
	for {
		_, err := syscall.Wait4(p.pid, &e.status, 0, &e.used)
		if err != syscall.EINTR {
			break
		}
	}
	p.ended(e, oom)
}

// end is what the kernel says of an ended process when it is reaped.
type end struct {
	status syscall.WaitStatus
	used   syscall.Rusage
}

// ended notes how the process ended. It is reaped; the caller holds mu, or nobody else has p yet.
func (p *process) ended(e end, oom *oomCounter) {
	p.reaped = true
	if s := e.status.Signal(); s >= 0 {
		p.exit = Exit{Signal: s}
		p.exit.OOM = s == syscall.SIGKILL && !p.killed && oom.killed()
		if s == syscall.SIGKILL {
			p.exit.Shortage, p.exit.Overfill = p.shortage, p.overfill
		}
	} else {
		p.exit = Exit{Code: e.status.ExitStatus()}
	}
	p.exit.CPU = time.Duration(e.used.Utime.Nano() + e.used.Stime.Nano())
	close(p.done)
}
