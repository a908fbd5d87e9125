package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/hack/bench-pool/contestant"
	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// process is a contestant that is up. It and all that it starts are one process group.
type process struct {
	name    string
	command *exec.Cmd
	orders  io.WriteCloser
	answers chan contestant.Answer // closed at the end of its output
	ended   chan struct{}          // closed when nothing is left of it
	log     string
}

// patience with a start, and with a round beyond its length.
const patience = 90 * time.Second

// begin starts a contestant and waits until it is ready.
func (b *bench) begin(ctx context.Context, name string, workers int, pinned bool) (*process, error) {
	p := &process{name: name, answers: make(chan contestant.Answer), ended: make(chan struct{}), log: filepath.Join(b.out, "logs", name+".log")}
	scratch, err := os.MkdirTemp(b.scratch, name+"-")
	if err != nil {
		return nil, err
	}
	argv := b.argv(name, workers, scratch)
	if pinned {
		argv = append([]string{"taskset", "--cpu-list", strconv.Itoa(b.cores[len(b.cores)-1])}, argv...)
	}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.command = exec.Command(argv[0], argv[1:]...) //nolint:noctx // end ends it, in order
	p.command.Dir = b.root
	p.command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "RAY_TMPDIR="+b.scratch)
	p.command.Stderr = log
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.start(); err != nil {
		return nil, err
	}
	if _, err := p.answer(ctx, patience); err != nil {
		p.end()
		return nil, fmt.Errorf("it didn't start: %w", err)
	}
	return p, nil
}

func (p *process) start() (err error) {
	if p.orders, err = p.command.StdinPipe(); err != nil {
		return err
	}
	output, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	p.command.Stdout = theirs
	if err := p.command.Start(); err != nil {
		_ = output.Close()
		return err
	}
	go p.read(output)
	go p.reap()
	return nil
}

func (b *bench) argv(name string, workers int, scratch string) []string {
	python, handlers := filepath.Join(b.venv, "bin", "python"), filepath.Join(b.root, "hack", "bench-pool", "python")
	switch name {
	case table.Executor, table.MPApply, table.MPMap, table.MPPipe, table.Loky, table.Ray:
		return []string{"env", "PYTHONPATH=" + handlers, python, filepath.Join(handlers, "peers.py"), name, strconv.Itoa(workers), b.scratch}
	}
	return []string{
		b.self, contestantCommand, "-workers", strconv.Itoa(workers), "-python", python, "-handlers", handlers,
		"-poolworker", filepath.Join(b.root, "python"), "-payloads", b.scratch, "-scratch", scratch, name,
	}
}

// read hands on the answers; at their end, or at one that is none, it closes the channel.
func (p *process) read(output io.ReadCloser) {
	defer close(p.answers)
	defer output.Close()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var a contestant.Answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return
		}
		p.answers <- a
	}
}

// round has the contestant make calls.
func (p *process) round(ctx context.Context, w table.Workload, length time.Duration) (table.Figures, error) {
	order, err := json.Marshal(contestant.Order{Command: w.Command, Size: w.Size, Callers: w.Callers, Length: length})
	if err != nil {
		return table.Figures{}, err
	}
	if _, err := p.orders.Write(append(order, '\n')); err != nil {
		return table.Figures{}, fmt.Errorf("it has ended; see %s", p.log)
	}
	if w.Command == table.Start { // however long that takes: 16 imports on a busy machine are minutes
		return p.answer(ctx, 4*patience)
	}
	return p.answer(ctx, length+patience)
}

func (p *process) answer(ctx context.Context, limit time.Duration) (table.Figures, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case a, ok := <-p.answers:
		switch {
		case !ok:
			return table.Figures{}, fmt.Errorf("it has ended; see %s", p.log)
		case a.Error != "":
			return table.Figures{}, errors.New(a.Error)
		}
		return a.Figures, nil
	case <-timer.C:
		return table.Figures{}, fmt.Errorf("it didn't answer for %s; see %s", limit, p.log)
	case <-ctx.Done():
		return table.Figures{}, context.Cause(ctx)
	}
}

// reap takes the process when it has ended, and before that whatever is left of its group: workers of a pool that died
// hold its output open, and nobody would notice.
func (p *process) reap() {
	defer close(p.ended)
	pid := p.command.Process.Pid
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	_ = p.command.Wait()
}

// end closes the contestant's input and gives it a moment to end.
func (p *process) end() {
	_ = p.orders.Close()
	kill := time.AfterFunc(10*time.Second, func() { _ = p.command.Process.Kill() })
	defer kill.Stop()
	for range p.answers { // what it still says is of no interest
	}
	<-p.ended
}
