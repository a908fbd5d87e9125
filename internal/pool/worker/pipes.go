package worker

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// pipes are the three between supervisor and worker, and the memory beside them. Ours are non-blocking and close on exec;
// theirs are made blocking by the call of Fd when the process starts.
type pipes struct {
	requests, requestsTheirs *os.File
	replies, repliesTheirs   *os.File
	output, outputTheirs     *os.File
	memory                   *memory  // nil: there is none
	memoryTheirs             *os.File // nil without memory
}

func newPipes(host *Host, spec *Spec) (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.closeOurs()
			p.closeTheirs()
		}
	}()
	if p.requestsTheirs, p.requests, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.replies, p.repliesTheirs, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.output, p.outputTheirs, err = os.Pipe(); err == nil {
		p.memory, p.memoryTheirs = host.share(spec)
	}
	return p, err
}

// spawned are the files of a process with the standard input null, and the argument that names those behind the
// standard streams.
func (p *pipes) spawned(null *os.File) (files []uintptr, numbers string) {
	files = []uintptr{null.Fd(), p.outputTheirs.Fd(), p.outputTheirs.Fd(), p.requestsTheirs.Fd(), p.repliesTheirs.Fd()}
	if p.memory == nil {
		return files, "3,4"
	}
	return append(files, p.memoryTheirs.Fd()), "3,4,5"
}

// forked are what a zygote is sent for a process.
func (p *pipes) forked() []int {
	files := []int{int(p.requestsTheirs.Fd()), int(p.repliesTheirs.Fd()), int(p.outputTheirs.Fd())}
	if p.memory == nil {
		return files
	}
	return append(files, int(p.memoryTheirs.Fd()))
}

func (p *pipes) closeOurs() {
	closeAll(p.requests, p.replies, p.output)
	p.memory.close()
}

func (p *pipes) closeTheirs() {
	closeAll(p.requestsTheirs, p.repliesTheirs, p.outputTheirs, p.memoryTheirs)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// countingWriter knows whether any byte of the current frame went out.
type countingWriter struct {
	file *os.File
	n    int
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	c.n += n
	return n, err
}

// errUnsolicited: something is in the reply pipe that nobody has asked for.
var errUnsolicited = errors.New("unread bytes in the reply pipe")

// replyReader reads from the reply pipe, and asks first when there is something to ask.
//
// A read right after the question would find the pipe empty, and only then wait. So the question is put between the two
// steps of such a wait: the runtime forgets that the pipe was ready, ask runs, the runtime waits until the pipe is ready.
// No answer is missed, as it comes after the question, and each saves a system call.
type replyReader struct {
	pipe syscall.RawConn
	ask  func() error // done once, by the next Read; nil: nothing is asked
	look bool         // whether there is something to read already before ask
	step func(fd uintptr) bool

	into []byte // of the current Read
	n    int
	err  error
}

func newReplyReader(f *os.File) (*replyReader, error) {
	pipe, err := f.SyscallConn()
	r := &replyReader{pipe: pipe}
	r.step = r.read // bound once, so that a Read allocates nothing
	return r, err
}

// Read implements io.Reader. Its errors are those of os.File, those of ask, and errUnsolicited when it was to look and
// there is something to read before ask; then nothing is asked.
func (r *replyReader) Read(p []byte) (int, error) {
	r.into, r.n, r.err = p, 0, nil
	err := r.pipe.Read(r.step)
	r.into = nil
	if err != nil {
		return 0, err
	}
	return r.n, r.err
}

// read is called at first, and whenever the pipe may be ready; false: it isn't.
func (r *replyReader) read(fd uintptr) (done bool) {
	if ask := r.ask; ask != nil {
		r.ask = nil
		if r.look {
			r.err = nothingIn(fd, r.into)
		}
		if r.err == nil {
			r.err = ask()
		}
		return r.err != nil
	}
	n, err := read(fd, r.into)
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	r.n, r.err = n, err
	return true
}

// nothingIn returns errUnsolicited when a pipe has something to read, io.EOF when it has ended. It never blocks.
func nothingIn(fd uintptr, scratch []byte) error {
	switch _, err := read(fd, scratch); {
	case err == nil:
		return errUnsolicited
	case errors.Is(err, syscall.EAGAIN):
		return nil
	default:
		return err
	}
}

// read is one read of a non-blocking descriptor.
func read(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
