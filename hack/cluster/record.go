package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// nodeArgv0 is the node's name in `ps`. Together with its state folder it is how a node is found: a file with its
// process id could be stale, or lost.
const nodeArgv0 = "workerpool-node"

// A record tells later runs how the running cluster was started.
type record struct {
	Version  string    // of Kubernetes
	Programs string    // the cache's folder with its programs
	HostPort int       // of the host's loopback, forwarded to the API server
	Images   []string  // tarballs in the cache that the node imports at its start
	Started  time.Time // of the node
}

func (p paths) readRecord() (rec record, err error) {
	content, err := os.ReadFile(p.record())
	if errors.Is(err, fs.ErrNotExist) {
		return rec, errNotUp
	}
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(content, &rec); err != nil {
		return rec, fmt.Errorf("%s: %w", p.record(), err)
	}
	return rec, nil
}

func (p paths) writeRecord(rec record) error {
	content, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return writeFile(p.record(), content, 0o644)
}

var (
	errNotUp    = errors.New("no cluster runs: start one with `go run ./hack/cluster up`")
	errNodeDied = errors.New("the node died: `go run ./hack/cluster up` starts a new one")
)

// findNode returns the process id of this state folder's node, 0 when there is none.
func (p paths) findNode() int {
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range cmdlines {
		if cmdline, err := os.ReadFile(path); err == nil && isNode(cmdline, p.state) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}

// isNode looks at a /proc/PID/cmdline: arguments, each closed by a zero.
func isNode(cmdline []byte, state string) bool {
	args := bytes.Split(cmdline, []byte{0})
	return len(args) > 2 && string(args[0]) == nodeArgv0 && string(args[1]) == nodeCommand && string(args[2]) == state
}

// killNode kills the node's pid 1, and waits: the kernel ends every process of its namespace before itself.
func killNode(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the node (process %d): %w", pid, err)
	}
	const limit = 30 * time.Second
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll(ended, int(time.Until(deadline).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("the node (process %d) didn't end within %s of its kill: see `ps --ppid %d`", pid, limit, pid)
		}
		return nil
	}
}
