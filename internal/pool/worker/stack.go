package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"
)

const (
	// stackPatience bounds the wait for the stack of an operation that is given up.
	stackPatience = 50 * time.Millisecond
	// maxDump bounds what is read for it, in bytes: what a pipe holds.
	maxDump = 64 << 10
)

// stackSource is how a worker tells where its handlers are: a signal has it write their stacks into a pipe, which is
// found at a descriptor of its own. Own and Library are the folders of poolworker and of Python's library.
type stackSource struct {
	Signal  syscall.Signal `json:"signal"`
	FD      int            `json:"fd"`
	Pipe    uint64         `json:"pipe"` // its inode
	Own     string         `json:"own"`
	Library string         `json:"library"`
}

// stacks asks one worker for its handlers' stacks.
type stacks struct {
	source *stackSource // nil: it tells none
	asking singleflight.Group
}

// stack tells where the handler of a request is at this moment, of a Worker's only one when request is 0: names of
// files and functions and numbers of lines, for whoever waits for it. It takes stackPatience at most. When there is none
// to tell it says why.
func (w *Worker) stack(request uint64) string {
	if w.stacks.source == nil {
		return "(none: this Python, or the module, doesn't let the pool look)"
	}
	taken, err, _ := w.stacks.asking.Do("", func() (any, error) { return w.takeStacks() })
	if err != nil {
		return "(none: " + err.Error() + ")"
	}
	d := taken.(dump) //nolint:forcetypeassert // of the line above
	return d.show(request, w.stacks.source, w.spec.Module)
}

// takeStacks has the worker write its stacks and reads them, until they are whole or stackPatience is over.
func (w *Worker) takeStacks() (dump, error) {
	source, until := w.stacks.source, time.Now().Add(stackPatience)
	if err := canTell(w.proc.pid, source.Signal); err != nil {
		return dump{}, err
	}
	pipe, err := openPipe(w.proc.pid, source)
	if err != nil {
		return dump{}, err
	}
	defer unix.Close(pipe) //nolint:errcheck // it was read from
	emptyPipe(pipe)        // of what an earlier question was answered too late
	if !w.proc.signalMainThread(source.Signal) {
		return dump{}, errors.New("the worker has ended")
	}
	data := readUntil(pipe, until, func(data []byte) bool {
		d := parseDump(data)
		return d.enough(source, w.spec.concurrency() == 0)
	})
	if len(data) == 0 {
		return dump{}, fmt.Errorf("the worker gave none within %s", stackPatience)
	}
	return parseDump(data), nil
}

// emptyPipe reads what there is, of a descriptor that doesn't block, and no more than a pipe holds of one that is written to
// without end.
func emptyPipe(fd int) {
	var scratch [4096]byte
	for range maxDump/len(scratch) + 1 {
		if n, err := unix.Read(fd, scratch[:]); n <= 0 && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// readUntil reads until that time, or until there is enough.
func readUntil(fd int, until time.Time, enough func([]byte) bool) (data []byte) {
	var scratch [4096]byte
	for len(data) < maxDump && !enough(data) && awaitReadable(fd, until) {
		n, err := unix.Read(fd, scratch[:])
		if n <= 0 && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			break
		}
		data = append(data, scratch[:max(0, n)]...)
	}
	return data
}

// awaitReadable reports whether there is something to read before that time.
func awaitReadable(fd int, until time.Time) bool {
	for {
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, int(left/time.Millisecond)+1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// canTell returns why a process can't be asked: it is stopped, or the signal would end it.
func canTell(pid int, signal syscall.Signal) error {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return errors.New("the worker has ended")
	}
	caught := uint64(0)
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t"); key {
		case "State":
			if strings.HasPrefix(value, "T") || strings.HasPrefix(value, "t") {
				return errors.New("the worker is stopped")
			}
		case "SigCgt":
			caught, _ = strconv.ParseUint(value, 16, 64)
		}
	}
	if caught>>(signal-1)&1 == 0 {
		return fmt.Errorf("the module has let go of signal %d", signal)
	}
	return nil
}

// openPipe opens the worker's pipe to read from, if it is still that one.
func openPipe(pid int, source *stackSource) (int, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "fd", strconv.Itoa(source.FD))
	if is, err := os.Readlink(path); err != nil || is != fmt.Sprintf("pipe:[%d]", source.Pipe) {
		return 0, errors.New("the worker's pipe for it can't be reached")
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, errors.New("the worker's pipe for it can't be opened")
	}
	return fd, nil
}

// stackLogEvery keeps the stacks of cancelled operations from filling the log, all workers of a Host together.
const stackLogEvery = time.Second

// logStack logs where an operation was whose caller has given up: nobody else hears of it.
func (w *Worker) logStack(command string, request uint64) {
	if w.stacks.source == nil || !w.host.mayLogStack(time.Now()) {
		return
	}
	w.host.log.Info("operation cancelled by its caller", "worker", w.id, "command", command, "stack", w.stack(request))
}

func (h *Host) mayLogStack(now time.Time) bool {
	last := h.stackLogged.Load()
	return now.UnixNano()-last >= int64(stackLogEvery) && h.stackLogged.CompareAndSwap(last, now.UnixNano())
}
