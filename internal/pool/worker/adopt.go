package worker

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// expectOrphan keeps the statuses of unknown children that end before the call of release: a worker that a zygote
// forks may end before anyone has told this process its pid.
func (h *Host) expectOrphan() (release func()) {
	h.starting.Lock()
	defer h.starting.Unlock()
	h.expecting++
	return func() {
		h.starting.Lock()
		defer h.starting.Unlock()
		if h.expecting--; h.expecting == 0 {
			clear(h.orphans)
		}
	}
}

// adopt makes a process one of the Host's that was orphaned, and so became a child of this process, since
// expectOrphan was called. Any other pid is refused, whoever named it: it will be signalled.
func (h *Host) adopt(pid int) (*process, error) {
	h.starting.Lock()
	defer h.starting.Unlock()
	if h.children[pid] != nil {
		return nil, fmt.Errorf("process %d is a worker already", pid)
	}
	p := &process{pid: pid, done: make(chan struct{})}
	if e, ended := h.orphans[pid]; ended {
		delete(h.orphans, pid)
		p.ended(e, h.oom)
		return p, nil
	}
	if pid <= 0 || !isChild(pid) {
		return nil, fmt.Errorf("process %d is no child of this one", pid)
	}
	h.children[pid] = p
	preferAsOOMVictim(pid)
	return p, nil
}

// isChild holds for zombies too.
func isChild(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// reapUnknown takes the status of a zombie that nobody here started; false: it can't be taken. The caller holds
// starting.
func (h *Host) reapUnknown(pid int) bool {
	var e end
	for {
		_, err := syscall.Wait4(pid, &e.status, syscall.WNOHANG, &e.used)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return false
		case h.expecting > 0:
			h.orphans[pid] = e
		}
		return true
	}
}
