package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/cgroup"
)

// Host owns every child of this process: it alone starts processes, and it alone waits for them. A process has
// one set of children, so at most one Host is open at a time, and while it is, nobody else may wait for a child
// (exec.Cmd.Wait would find its child reaped already).
type Host struct {
	log    *slog.Logger
	oom    *oomCounter
	output *outputLog
	null   *os.File
	slower sync.Once // the note that large payloads go through pipes

	starts      chan startRequest
	quit        chan struct{}
	loops       sync.WaitGroup
	generations atomic.Uint32
	zygotes     atomic.Uint32 // started, for their ids
	tags        atomic.Uint64 // used
	stackLogged atomic.Int64  // when a stack was logged last, in ns
	unlimited   sync.Once     // says that limits can't be set
	untagged    sync.Once     // says that tags can't be set

	// starting is held from before a fork until the child is in children, so that the reaper never takes a child
	// that ends at once for an unknown one.
	starting  sync.Mutex
	children  map[int]*process // guarded by starting
	expecting int              // guarded by starting; see expectOrphan
	orphans   map[int]end      // guarded by starting
}

type startRequest struct {
	argv  []string
	attr  *syscall.ProcAttr
	reply chan startReply
}

type startReply struct {
	process *process
	err     error
}

var hostOpen atomic.Bool

// NewHost makes this process a child subreaper (orphans of workers come to it, so that it can end and reap them)
// and starts the two loops. It fails when another Host is open.
func NewHost(log *slog.Logger) (*Host, error) {
	if !hostOpen.CompareAndSwap(false, true) {
		return nil, errors.New("a Host is already open in this process; close it first")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		hostOpen.Store(false)
		return nil, fmt.Errorf("becoming a child subreaper: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		hostOpen.Store(false)
		return nil, err
	}
	h := &Host{
		log: log, oom: newOOMCounter(cgroup.Own()), output: newOutputLog(log), null: null,
		starts: make(chan startRequest), quit: make(chan struct{}), children: map[int]*process{},
		orphans: map[int]end{},
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	h.loops.Go(h.startLoop)
	h.loops.Go(func() { h.reapLoop(children) })
	return h, nil
}

// Close ends both loops. It fails, and leaves the processes to the caller, when some are still alive.
func (h *Host) Close() error {
	h.starting.Lock()
	alive := len(h.children)
	h.starting.Unlock()
	close(h.quit)
	h.loops.Wait()
	h.output.close()
	hostOpen.Store(false)
	err := h.null.Close()
	if alive > 0 {
		return fmt.Errorf("%d worker processes are still alive", alive)
	}
	return err
}

// nextGeneration numbers the worker starts of this slot, from 1.
func (h *Host) nextGeneration() uint32 { return h.generations.Add(1) }

// startLoop starts all processes from one thread that lives as long as the Host: the kernel sends a child its
// parent-death signal when the *thread* that started it ends, and Go ends threads as it likes.
func (h *Host) startLoop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case r := <-h.starts:
			p, err := h.fork(r.argv, r.attr)
			r.reply <- startReply{p, err}
		case <-h.quit:
			return
		}
	}
}

func (h *Host) start(argv []string, attr *syscall.ProcAttr) (*process, error) {
	r := startRequest{argv: argv, attr: attr, reply: make(chan startReply, 1)}
	select {
	case h.starts <- r:
		reply := <-r.reply
		return reply.process, reply.err
	case <-h.quit:
		return nil, os.ErrClosed
	}
}

func (h *Host) fork(argv []string, attr *syscall.ProcAttr) (*process, error) {
	h.starting.Lock()
	defer h.starting.Unlock()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, done: make(chan struct{})}
	h.children[pid] = p
	preferAsOOMVictim(pid)
	return p, nil
}

// reapLoop reaps at each SIGCHLD, and once a second for a signal that was sent before Notify or lost to a
// predecessor's handler.
func (h *Host) reapLoop(children chan os.Signal) {
	defer signal.Stop(children)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		h.reapAll()
		select {
		case <-children:
		case <-tick.C:
		case <-h.quit:
			return
		}
	}
}

// reapAll looks at each ended child before it reaps it: while the leader of a process group is a zombie its pid
// and the group's number can't be used again, so the rest of the group can be killed without hitting a stranger.
func (h *Host) reapAll() {
	h.starting.Lock()
	defer h.starting.Unlock()
	for {
		pid, ok := endedChild()
		if !ok {
			return
		}
		if p := h.children[pid]; p != nil {
			delete(h.children, pid)
			p.reap(h.oom)
			continue
		}
		if !h.reapUnknown(pid) {
			return
		}
	}
}

// endedChild returns the pid of a zombie child and leaves it a zombie.
func endedChild() (pid int, ok bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		pid = int(siginfoPID(&info))
		return pid, err == nil && pid != 0
	}
}

// siginfoPID reads si_pid, which x/sys doesn't name: the first field of the union after three ints, which is
// aligned to a pointer.
func siginfoPID(info *unix.Siginfo) int32 {
	const align = unsafe.Sizeof(uintptr(0))
	offset := (3*unsafe.Sizeof(int32(0)) + align - 1) / align * align
	return *(*int32)(unsafe.Add(unsafe.Pointer(info), offset))
}
