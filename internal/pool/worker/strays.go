package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stray reports whether a process is one of those that are to be ended.
type stray func(pid int) bool

// killStrays ends what a dead worker or zygote started, wherever that hangs in the tree of processes. Its tag finds it
// whatever it did to its environment, session or parents; the marker in the environment finds it where tags can't be set.
// A worker that a zygote has just forked may still bear that one's tag and marker: it is a child of the Host's, and stays.
func (h *Host) killStrays(marker, id string, t tag) {
	variables := []string{slotVariable + "=" + marker, workerVariable + "=" + id}
	killAll(func(pid int) bool {
		return (t.on(pid) || hasEnvironment(pid, variables)) && !h.has(pid)
	})
}

// has reports whether a process is a worker or zygote that isn't reaped.
func (h *Host) has(pid int) bool {
	h.starting.Lock()
	defer h.starting.Unlock()
	return h.children[pid] != nil
}

// KillLeftovers ends workers that an earlier supervisor of the same slot left behind, with what they started, and waits up
// to a second for them to be gone; it returns how many it found. The caller has the slot's socket and has started nothing
// yet, so whatever bears the marker, or a tag made of it, is a leftover. (Usually there is none: workers die with their
// supervisor, and a container's processes with the container.)
func (h *Host) KillLeftovers(marker string) int {
	const patience = time.Second
	leftover := func(pid int) bool {
		return familyOf(marker).on(pid) || hasEnvironment(pid, []string{slotVariable + "=" + marker})
	}
	found := killAll(leftover)
	for until := time.Now().Add(patience); found > 0 && time.Now().Before(until); {
		if len(living(leftover)) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return found
}

// maxScans bounds how often killAll looks for what was started while it killed.
const maxScans = 100

// killAll ends all strays, also those that others of them start meanwhile: it is done when a look at all processes finds
// none that wasn't killed before. It returns how many there were.
func killAll(is stray) int {
	killed := map[int]bool{}
	for range maxScans {
		before := len(killed)
		for _, pid := range living(is) {
			if !killed[pid] && killIf(pid, is) {
				killed[pid] = true
			}
		}
		if len(killed) == before {
			break
		}
	}
	return len(killed)
}

// living returns the strays other than this process, and no zombies.
func living(is stray) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && is(pid) && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killIf holds the process by a descriptor while it looks again, so that a pid which was given to another process in
// between isn't killed.
func killIf(pid int, is stray) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return is(pid) && unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0) == nil
}

// hasEnvironment reports whether a process has all the given NAME=value in the environment that it was started with. It
// is false for zombies, and for processes of other users.
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

// isZombie holds for a process that has ended, and for one that isn't there.
func isZombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, found := bytes.Cut(data[max(0, bytes.LastIndexByte(data, ')')):], []byte(") "))
	return err != nil || !found || len(rest) == 0 || rest[0] == 'Z' || rest[0] == 'X'
}
