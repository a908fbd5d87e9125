package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killStrays ends what a dead worker started and what left its process group. The marker in the environment finds
// it wherever it hangs in the tree of processes.
func (h *Host) killStrays(marker, worker string) {
	killMarked(slotVariable+"="+marker, workerVariable+"="+worker)
}

// KillLeftovers ends workers that an earlier supervisor of the same slot left behind, and waits up to a second for
// them to be gone; it returns how many it found. The caller has the slot's socket and has started nothing yet, so
// whatever bears the marker is a leftover. (Usually there is none: workers die with their supervisor, and a
// container's processes with the container.)
func (h *Host) KillLeftovers(marker string) int {
	const patience = time.Second
	found := killMarked(slotVariable + "=" + marker)
	for until := time.Now().Add(patience); found > 0 && time.Now().Before(until); {
		if len(marked(slotVariable+"="+marker)) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return found
}

func killMarked(variables ...string) (killed int) {
	for _, pid := range marked(variables...) {
		if killIfMarked(pid, variables) {
			killed++
		}
	}
	return killed
}

// marked returns the processes, other than this one, that have all the given NAME=value in the environment they
// were started with.
func marked(variables ...string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && hasEnvironment(pid, variables) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killIfMarked holds the process by a descriptor while it looks again, so that a pid which was given to another
// process in between isn't killed.
func killIfMarked(pid int, variables []string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return hasEnvironment(pid, variables) && unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0) == nil
}

// hasEnvironment is false for zombies, and for processes of other users.
func hasEnvironment(pid int, variables []string) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || len(data) == 0 {
		return false
	}
	data = append([]byte{0}, data...)
	for _, v := range variables {
		if !bytes.Contains(data, []byte("\x00"+v+"\x00")) {
			return false
		}
	}
	return true
}
