package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// incubator is one zygote process. docs/protocol.md has what it is told and answers.
type incubator struct {
	id     string
	proc   *process
	conn   *net.UnixConn
	output *outputReader

	prepared chan struct{} // closed when it is ready to fork, or has failed to
	failed   error         // why it can't fork; written before prepared is closed

	forks sync.Mutex // held from a fork's order to its answer
}

// forkPatience bounds a fork, the zygote's own wait for threads and connections (2 s) included.
const forkPatience = 15 * time.Second

// maxPacket is the largest answer: a traceback, escaped.
const maxPacket = 64 << 10

type zygoteSettings struct {
	Module     string   `json:"module"`
	SysPath    []string `json:"sysPath"`
	Supervisor int      `json:"supervisor"` // this process, with which workers are to die
}

type forkOrder struct {
	Worker string `json:"worker"`
}

// zygoteAnswer has one of its fields.
type zygoteAnswer struct {
	Ready   bool            `json:"ready"`
	PID     int             `json:"pid"`
	Refused []string        `json:"refused"`
	Failed  string          `json:"failed"`
	Error   json.RawMessage `json:"error"`
}

// refusalError is why a fork wouldn't be safe.
type refusalError struct{ found []string }

func (e *refusalError) Error() string {
	return "after the import of the module there is: " + strings.Join(e.found, "; ")
}

// startIncubator starts the n-th zygote of a slot's pool. Its id is longer than any worker's, which a forked worker
// writes over it where /proc shows it.
func startIncubator(host *Host, spec *Spec, n int) (*incubator, error) {
	python, err := FindPython(spec.Python, spec.Env)
	if err != nil {
		return nil, err
	}
	conn, theirs, err := newControl()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	out, outTheirs, err := os.Pipe()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	defer outTheirs.Close()
	id := fmt.Sprintf("%s-zygote-%05d", spec.Slot, n)
	proc, err := host.start([]string{python, spec.PythonDir, "--zygote", "3"}, &syscall.ProcAttr{
		Dir:   spec.WorkingDir,
		Env:   spec.environment(id),
		Files: []uintptr{host.null.Fd(), outTheirs.Fd(), outTheirs.Fd(), theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		_ = conn.Close()
		_ = out.Close()
		return nil, err
	}
	host.limitData(proc, spec.dataLimit())
	return &incubator{id: id, proc: proc, conn: conn, output: readOutput(id, out, host.output), prepared: make(chan struct{})}, nil
}

// newControl returns both ends of a socket that keeps packets apart.
func newControl() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "zygote")
	file := os.NewFile(uintptr(fds[0]), "zygote")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil //nolint:forcetypeassert // of a unix socket
}

// prepare has the module imported, and sets failed: a *BootError, a *refusalError, or nil.
func (p *incubator) prepare(spec *Spec) {
	settings := zygoteSettings{Module: spec.Module, SysPath: []string{spec.WorkingDir}, Supervisor: os.Getpid()}
	answer, err := p.ask(settings, nil, spec.initTimeout())
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.kill()
		<-p.proc.done
		p.failed = spec.tooSlow(p.tail())
	case err != nil:
		p.awaitExit()
		p.failed = spec.endedEarly(p.proc.exit, p.tail())
	case answer.Error != nil:
		p.failed = bootErrorFrom(answer.Error)
	case answer.Refused != nil:
		p.failed = &refusalError{answer.Refused}
	case !answer.Ready:
		p.failed = &BootError{Message: "the zygote's first answer can't be read; is it the poolworker package of this version?"}
	}
}

// fork makes a worker once the module is imported. An error that is no *BootError is a reason to spawn it instead.
func (p *incubator) fork(host *Host, spec *Spec) (*Worker, error) {
	<-p.prepared
	if p.failed != nil {
		return nil, p.failed
	}
	pipes, err := newPipes(host, spec)
	if err != nil {
		return nil, err
	}
	defer pipes.closeTheirs()
	id, generation := host.nextID(spec)
	proc, err := p.forkProcess(host, id, pipes)
	if err != nil {
		pipes.closeOurs()
		return nil, err
	}
	return newWorker(host, spec, proc, pipes, &Worker{id: id, generation: generation, mode: modeFork})
}

// forkProcess orders one process, to which theirs of the pipes are sent, and adopts it.
func (p *incubator) forkProcess(host *Host, id string, pipes *pipes) (*process, error) {
	p.forks.Lock()
	defer p.forks.Unlock()
	release := host.expectOrphan()
	defer release()
	answer, err := p.ask(forkOrder{Worker: id}, unix.UnixRights(pipes.forked()...), forkPatience)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // it would take as long each time
		return nil, &refusalError{[]string{fmt.Sprintf("code that hangs at a fork, for more than %s", forkPatience)}}
	case err != nil:
		p.kill() // what it would answer later belongs to nobody
		return nil, err
	case answer.Refused != nil:
		return nil, &refusalError{answer.Refused}
	case answer.PID == 0:
		return nil, errors.New(answer.Failed)
	}
	return host.adopt(answer.PID)
}

// ask sends one packet, with descriptors, and waits for its answer.
func (p *incubator) ask(message any, rights []byte, patience time.Duration) (answer zygoteAnswer, err error) {
	packet, err := json.Marshal(message)
	if err != nil {
		return answer, err
	}
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer, err
	}
	if _, _, err := p.conn.WriteMsgUnix(packet, rights, nil); err != nil {
		return answer, err
	}
	buffer := make([]byte, maxPacket)
	n, err := p.conn.Read(buffer)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(buffer[:n], &answer)
}

// kill ends the zygote and what it started, not its workers: those are in groups of their own.
func (p *incubator) kill() { p.proc.signalGroup(syscall.SIGKILL) }

// awaitExit waits for the status of a process whose socket has ended; one that lives on is killed.
func (p *incubator) awaitExit() {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-p.proc.done:
	case <-timer.C:
		p.kill()
		<-p.proc.done
	}
}

// tail is what the process printed last. It has ended.
func (p *incubator) tail() string {
	p.output.finish(lastReply)
	return strings.Join(p.output.last(), "\n")
}

// clean removes what an ended process has left.
func (p *incubator) clean(host *Host, spec *Spec) {
	host.killStrays(spec.Marker, p.id)
	p.output.finish(lastReply)
	_ = p.conn.Close()
}
