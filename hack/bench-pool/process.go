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

	"github.com/dspex/workerpool-operator/hack/bench-pool/contestant"
	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// process is a contestant that is up. It and all that it starts are one process group.
type process struct {
	name    string
	command *exec.Cmd
	orders  io.WriteCloser
	answers chan contestant.Answer // closed at the end of its output
	log     string
}

// patience with a start, and with a round beyond its length.
const patience = 90 * time.Second

// begin starts a contestant and waits until it is ready.
func (b *bench) begin(ctx context.Context, name string, workers int, pinned bool) (*process, error) {
	p := &process{name: name, answers: make(chan contestant.Answer), log: filepath.Join(b.out, "logs", name+".log")}
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
	if p.orders, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go p.read(output)
	if _, err := p.answer(ctx, patience); err != nil {
		p.end()
		return nil, fmt.Errorf("it didn't start: %w", err)
	}
	return p, nil
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
func (p *process) read(output io.Reader) {
	defer close(p.answers)
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

// end closes the contestant's input, gives it a moment, and leaves nothing of its group.
func (p *process) end() {
	_ = p.orders.Close()
	kill := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL) })
	defer kill.Stop()
	for range p.answers { //nolint:revive // until its output ends
	}
	_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	_ = p.command.Wait()
}
