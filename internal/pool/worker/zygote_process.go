package worker

import (
	"cmp"
	"context"
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
	useless  string        // failed, unless that is what a worker of its own would have failed with; guarded by the Zygote's lock once prepared is closed
	excused  bool          // a fork has failed with which the process ended; guarded by the Zygote's lock

	forks sync.Mutex // held from a fork's order to its answer
}

const (
	// forkPatience bounds a fork, the zygote's own wait for threads and connections (2 s) included.
	forkPatience = 5 * time.Second
	// helloPatience bounds what a forked worker does before it says Hello: nothing of the module's.
	helloPatience = 5 * time.Second
)

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
	Stuck   string          `json:"stuck"`
	Error   json.RawMessage `json:"error"`
}

// startIncubator starts a zygote. Its id is the Host's only one, as its strays are found by it, and longer than any
// worker's, which a forked worker writes over it where /proc shows it.
func startIncubator(host *Host, spec *Spec) (*incubator, error) {
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
	id := fmt.Sprintf("%s-zygote-%05d", spec.Slot, host.zygotes.Add(1))
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
	host.tag(proc, spec.Marker)
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

// prepare has the module imported, and sets failed: a *BootError, a *refusalError, or nil. A *BootError that the module
// hasn't raised may be due to the fork to come: useless then says so, and workers are spawned from now on.
func (p *incubator) prepare(spec *Spec) {
	settings := zygoteSettings{Module: spec.Module, SysPath: []string{spec.WorkingDir}, Supervisor: os.Getpid()}
	answer, err := p.ask(settings, nil, spec.initTimeout())
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.kill()
		<-p.proc.done
		p.failed = spec.tooSlow(p.tail())
		p.useless = "the import of the module for forks wasn't complete after " + spec.initTimeout().String()
	case err != nil:
		p.awaitExit()
		p.failed = spec.endedEarly(p.proc.exit, p.tail())
		p.useless = "the process that imports the module for forks " + p.proc.exit.String()
	case answer.Error != nil:
		p.failed = bootErrorFrom(answer.Error)
	case answer.Refused != nil:
		p.failed = &refusalError{answer.Refused}
	case !answer.Ready:
		p.useless = "the zygote's first answer can't be read; is it the poolworker package of this version?"
		p.failed = &BootError{Message: p.useless}
	}
}

// fork makes a worker once the module is imported, and returns it when it has said Hello. An error that is no *BootError is a
// reason to spawn it instead.
func (p *incubator) fork(ctx context.Context, host *Host, spec *Spec) (*Worker, error) {
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
	host.tag(proc, spec.Marker)
	w, err := newWorker(host, spec, proc, pipes, &Worker{id: id, generation: generation, mode: modeFork})
	if err == nil {
		err = w.greet(ctx, time.Now(), min(helloPatience, spec.initTimeout()))
	}
	if err != nil {
		w.Kill(ReasonBoot)
		<-w.gone
		return nil, p.silent(w, err)
	}
	return w, nil
}

// silent explains why a forked worker, which has ended, hasn't said Hello.
func (p *incubator) silent(w *Worker, err error) *forkError {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &forkError{message: fmt.Sprintf("a forked worker had said nothing after %s", helloPatience), hung: true, lives: true}
	}
	return &forkError{message: "a forked worker " + w.Exit().String() + " before it said anything: " + err.Error(), lives: true}
}

// forkProcess orders one process, to which theirs of the pipes are sent, and adopts it.
func (p *incubator) forkProcess(host *Host, id string, pipes *pipes) (*process, error) {
	p.forks.Lock()
	defer p.forks.Unlock()
	release := host.expectOrphan()
	defer release()
	answer, err := p.ask(forkOrder{Worker: id}, unix.UnixRights(pipes.forked()...), forkPatience)
	switch {
	case err != nil:
		p.kill() // what it would answer later belongs to nobody
		return nil, p.unforked(err)
	case answer.Refused != nil:
		return nil, &refusalError{answer.Refused}
	case answer.Stuck != "":
		return nil, &forkError{message: answer.Stuck, hung: true, lives: true}
	case answer.PID == 0:
		return nil, &forkError{message: "the fork failed: " + cmp.Or(answer.Failed, "no reason given"), lives: true}
	}
	proc, err := host.adopt(answer.PID)
	if err != nil {
		p.kill() // it isn't what it should be
		return nil, &forkError{message: "the answer to a fork can't be true: " + err.Error()}
	}
	return proc, nil
}

// unforked explains a fork that wasn't answered. The process has been killed.
func (p *incubator) unforked(err error) *forkError {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &forkError{message: fmt.Sprintf("the process that has imported the module forked no worker within %s", forkPatience), hung: true}
	case errors.As(err, &syntax), errors.As(err, &kind):
		return &forkError{message: "the answer to a fork can't be read: " + err.Error()}
	}
	<-p.proc.done
	return &forkError{message: "the process that has imported the module " + p.proc.exit.String() + " when a worker was to be forked"}
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

// clean removes what an ended process has left. What it has forked last is adopted before, or is left too.
func (p *incubator) clean(host *Host, spec *Spec) {
	p.forks.Lock()
	defer p.forks.Unlock()
	host.killStrays(spec.Marker, p.id, p.proc.mark())
	p.output.finish(lastReply)
	_ = p.conn.Close()
}
