// Package worker is one Python process: its start, the handshake, one round trip at a time, and its end. It knows
// nothing of the other workers of a pool.
package worker

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// Spec says how worker processes are made.
type Spec struct {
	Pool string // the WorkerPool's name, for errors
	Slot string // prefix of worker ids

	// Marker tells this slot's processes from those of any other supervisor, of whatever pod: it is in the
	// environment of each, and so survives whoever started them.
	Marker string

	Python     string   // interpreter as configured; "": see FindPython
	PythonDir  string   // folder with poolworker's __main__.py
	WorkingDir string   // absolute
	Module     string   // the user's
	Env        []string // NAME=value, whole
	MaxPayload int      // bytes; 0: frame.DefaultMaxPayload
	// Concurrency is how many calls one worker serves at the same time; above 1 it is to be made Shared. 0: 1.
	Concurrency int
	// MemoryFrom is the smallest payload that goes by shared memory, in bytes. 0: DefaultMemoryFrom; above MaxPayload:
	// there is none, as where the kernel can't make it.
	MemoryFrom int
	// Memory is what one worker may take, in bytes: twice as much is what it may map, beyond which Python raises a
	// MemoryError. 0: no bound.
	Memory uint64

	InitTimeout time.Duration // from start to ready, imports included; 0: DefaultInitTimeout
	Grace       time.Duration // from a polite end to SIGTERM; 0: 5 s
}

// DefaultInitTimeout and DefaultGrace are used where a Spec has none.
const (
	DefaultInitTimeout = 2 * time.Minute
	DefaultGrace       = 5 * time.Second
)

// Names of the two variables that mark a worker and whatever it starts.
const (
	slotVariable   = "WORKERPOOL_SLOT"
	workerVariable = "WORKERPOOL_WORKER"
)

// Worker is a process, from its start to its end. Ready, RoundTrip, Discard, Retire and Interrupt are for whoever
// has it checked out; all other methods may be called by anyone.
type Worker struct {
	id         string
	generation uint32
	mode       string
	spec       *Spec
	host       *Host
	proc       *process
	output     *outputReader

	requests *os.File // our end; frames to the worker
	replies  *os.File // our end; frames from it
	watch    watch
	sent     countingWriter
	writer   *frame.Writer
	reader   *frame.Reader // of replyReader
	memory   *memory       // for large payloads; nil: they go through the pipes
	sequence uint64

	// The question of the current round trip: ask writes what goes ahead and the request.
	replyReader *replyReader
	answered    time.Time // when the last reply was complete
	ask         func() error
	ahead       []*frame.Frame
	request     frame.Frame

	programs *pool.Recent[struct{}] // that this process holds, by hash
	commands []string               // as its handshake told
	codec    string                 // as its handshake told
	stacks   stacks

	served atomic.Uint64
	ending atomic.Pointer[Reason] // set once, by the first who asks it to end
	gone   chan struct{}
}

// Launch starts a process; Ready must be called next, once. The error is a *BootError.
func Launch(host *Host, spec *Spec) (*Worker, error) {
	python, err := FindPython(spec.Python, spec.Env)
	if err != nil {
		return nil, &BootError{Message: err.Error()}
	}
	w, err := launch(host, spec, python)
	if err != nil {
		return nil, &BootError{Message: "starting " + python + " in " + spec.WorkingDir + ": " + err.Error()}
	}
	return w, nil
}

func launch(host *Host, spec *Spec, python string) (*Worker, error) {
	p, err := newPipes(host, spec)
	if err != nil {
		return nil, err
	}
	defer p.closeTheirs()
	id, generation := host.nextID(spec)
	files, fds := p.spawned(host.null)
	proc, err := host.start([]string{python, spec.PythonDir, "--fds", fds}, &syscall.ProcAttr{
		Dir:   spec.WorkingDir,
		Env:   spec.environment(id),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		p.closeOurs()
		return nil, err
	}
	host.tag(proc, spec.Marker)
	host.limitData(proc, spec.dataLimit())
	return newWorker(host, spec, proc, p, &Worker{id: id, generation: generation, mode: modeSpawn})
}

// environment is that of a process which bears the id.
func (s *Spec) environment(id string) []string {
	return append(s.Env[:len(s.Env):len(s.Env)], slotVariable+"="+s.Marker, workerVariable+"="+id)
}

// nextID numbers a worker's start.
func (h *Host) nextID(spec *Spec) (id string, generation uint32) {
	generation = h.nextGeneration()
	return spec.Slot + "-" + strconv.FormatUint(uint64(generation), 10), generation
}

// newWorker completes w, which has its name and mode, for a process at the other end of the pipes.
func newWorker(host *Host, spec *Spec, proc *process, p *pipes, w *Worker) (_ *Worker, err error) {
	w.spec, w.host, w.proc = spec, host, proc
	w.requests, w.replies, w.memory, w.gone = p.requests, p.replies, p.memory, make(chan struct{})
	w.output = readOutput(w.id, p.output, host.output)
	w.programs = pool.NewRecent[struct{}](maxPrograms, maxProgramBytes)
	if err = w.connect(); err != nil {
		w.Kill(ReasonBoot)
	}
	go w.cleanUp()
	return w, err
}

// connect makes frames of what goes through the pipes.
func (w *Worker) connect() (err error) {
	w.watch.setDeadlines = w.setDeadlines
	w.sent.file = w.requests
	w.writer = frame.NewWriter(&w.sent)
	w.ask = w.sendRequest
	w.replyReader, err = newReplyReader(w.replies)
	w.reader = frame.NewReader(w.replyReader, w.spec.MaxPayload)
	return err
}

// lastReply is how long a dead worker's pipe stays open for a reply that it wrote before its end. Without a
// bound, a process of its that left its group and holds the pipe would hold the caller too.
const lastReply = 100 * time.Millisecond

// cleanUp waits for the end of the process, however it comes, and leaves nothing of it.
func (w *Worker) cleanUp() {
	<-w.proc.done
	w.host.killStrays(w.spec.Marker, w.id, w.proc.mark())
	w.output.finish(lastReply)
	_ = w.requests.Close()
	_ = w.replies.Close()
	w.watch.close()
	w.memory.close()
	close(w.gone)
}

// ID is unique for the life of the slot.
func (w *Worker) ID() string { return w.id }

// PID of the process; meaningful until Exited.
func (w *Worker) PID() int { return w.proc.pid }

// Commands are the names that the module registered; valid once Ready has returned.
func (w *Worker) Commands() []string { return w.commands }

// Codec names the JSON codec that the worker uses, the fastest that its Python has; valid once Ready has returned.
func (w *Worker) Codec() string { return w.codec }

// Served counts the operations that ended with a clean reply.
func (w *Worker) Served() uint64 { return w.served.Load() }

// Exited is closed when the process has ended and is reaped.
func (w *Worker) Exited() <-chan struct{} { return w.proc.done }

// Gone is closed after Exited, when nothing of the worker is left: neither strays nor file descriptors.
func (w *Worker) Gone() <-chan struct{} { return w.gone }

// Exit is valid once Exited is closed.
func (w *Worker) Exit() Exit { return w.proc.exit }

// Said is the last line that the worker has printed; "": none yet.
func (w *Worker) Said() string { return w.output.lastLine() }

// RSS is the resident memory of the process, in bytes; 0 when it can't be read.
func (w *Worker) RSS() uint64 { return ResidentMemory(w.proc.pid) }

// ResidentMemory reads a process's resident memory in bytes; 0 when it can't be read.
func ResidentMemory(pid int) uint64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
