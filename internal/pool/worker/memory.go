package worker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// DefaultMemoryFrom is where shared memory begins to be faster than a pipe, in bytes (docs/adr/0019).
const DefaultMemoryFrom = 16 << 10

// keepPages is how long pages that payloads have touched stay with a worker that doesn't need them any more; at most
// twice as long. To get a page anew costs more than to copy it, so none is given back between two payloads.
const keepPages = time.Second

// memory is what a supervisor and one worker share for payloads: room for the largest. It holds a request's until the
// worker has copied that, then its result's. Only pages that a payload has touched take any memory.
//
// It is sealed: neither side can change its size, so that no access behind its end can kill the supervisor. What a
// worker writes is copied out before anything looks at it. The worker's end is its own; there is no other.
type memory struct {
	// mu is held by an operation from its begin to its end: no page is given back under a payload, and nothing is
	// unmapped while it is used. It guards what follows.
	mu        sync.Mutex
	data      []byte      // nil: closed
	timer     *time.Timer // calls giveBack while pages may be touched; nil before the first payload
	running   bool        // the timer
	used      int         // largest payload since giveBack was called
	reference []byte      // room for one

	from   int  // bytes of the smallest payload that goes by it
	active bool // the worker has mapped it too; written once, before the first operation
}

// share makes memory for a worker of the Spec. Where that can't be had, which is logged once, and with several
// requests at a time, there is none, and all payloads go through the pipes.
func (h *Host) share(spec *Spec) (ours *memory, theirs *os.File) {
	from := cmp.Or(spec.MemoryFrom, DefaultMemoryFrom)
	if from > spec.maxPayload() || spec.Concurrency > 1 {
		return nil, nil
	}
	ours, theirs, err := newMemory(spec.maxPayload(), from)
	if err != nil {
		h.pipesOnly("this system has no sealed memory: " + err.Error())
	}
	return ours, theirs
}

// pipesOnly logs once why large payloads don't go by memory.
func (h *Host) pipesOnly(why string) {
	h.slower.Do(func() {
		h.log.Warn("payloads of any size go through pipes, which is slower for large ones", slog.String("why", why))
	})
}

// newMemory returns a mapping with room for a payload of maxPayload bytes, and the file that a worker maps.
func newMemory(maxPayload, from int) (ours *memory, theirs *os.File, err error) {
	fd, err := memfd()
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fd), "memory")
	page := os.Getpagesize()
	data, err := mapSealed(fd, (maxPayload+page-1)/page*page)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return &memory{data: data, from: from}, theirs, nil
}

// memfd makes an empty file in memory. Some systems insist on one that can't be executed; old ones don't know it.
func memfd() (fd int, err error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err = unix.MemfdCreate("workerpool", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("workerpool", flags)
	}
	return fd, os.NewSyscallError("memfd_create", err)
}

// mapSealed gives the file its size for good, and maps it.
func mapSealed(fd, size int) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("%d bytes of memory: %w", size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, os.NewSyscallError("F_ADD_SEALS", err)
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return data, os.NewSyscallError("mmap", err)
}

// threshold is what the worker is told in Init; 0: nothing.
func (m *memory) threshold() int {
	if m == nil {
		return 0
	}
	return m.from
}

// useMemory ends the handshake: large payloads go by memory if the worker has mapped it.
func (w *Worker) useMemory(mapped bool) {
	switch {
	case w.memory == nil:
	case mapped:
		w.memory.active = true
		w.reader.UseMemory(w.memory.fetch)
	default:
		w.host.pipesOnly("the workers' Python can't map memory")
		w.memory.close()
	}
}

// begin starts an operation, which end ends. It fails when the worker's end has come.
func (m *memory) begin() error {
	if m == nil || !m.active {
		return nil
	}
	m.mu.Lock()
	if m.data == nil {
		m.mu.Unlock()
		return os.ErrClosed
	}
	return nil
}

func (m *memory) end() {
	if m != nil && m.active {
		m.mu.Unlock()
	}
}

// put moves the payload of a request into the memory if it is large. It is called within an operation.
func (m *memory) put(request *frame.Frame) {
	if m == nil || !m.active || len(request.Payload) < m.from {
		return
	}
	m.use(copy(m.data, request.Payload))
	m.reference = frame.AppendReference(m.reference[:0], len(request.Payload))
	request.Flags |= frame.FlagMemory
	request.Payload = m.reference
}

// fetch copies a result of so many bytes. It is called within an operation.
func (m *memory) fetch(size int) []byte {
	m.use(size)
	return bytes.Clone(m.data[:size])
}

// use notes that a payload of so many bytes has touched pages. The caller holds mu.
func (m *memory) use(size int) {
	m.used = max(m.used, size)
	switch {
	case m.running:
		return
	case m.timer == nil:
		m.timer = time.AfterFunc(keepPages, m.giveBack)
	default:
		m.timer.Reset(keepPages)
	}
	m.running = true
}

// giveBack returns the pages that no payload has used since it was called before. It waits for the end of an operation.
func (m *memory) giveBack() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return
	}
	page := os.Getpagesize()
	if from := (m.used + page - 1) / page * page; from < len(m.data) {
		_ = unix.Madvise(m.data[from:], unix.MADV_REMOVE)
	}
	if m.running = m.used > 0; m.running {
		m.timer.Reset(keepPages)
	}
	m.used = 0
}

// close unmaps it, and waits for an operation that uses it: one whose worker has ended ends at once. Idempotent.
func (m *memory) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return
	}
	if m.timer != nil {
		m.timer.Stop()
	}
	_ = unix.Munmap(m.data)
	m.data = nil
}
