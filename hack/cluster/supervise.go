package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor starts processes and reaps them. As pid 1 it is handed every orphan of the node, so that it must wait
// for any child at all: exec.Cmd.Wait beside that would lose its statuses to it, and is never called here.
type supervisor struct {
	board  *board
	logDir string

	// mu is held while a process is started, so that its end can't be reaped before it is known.
	mu      sync.Mutex
	waiting map[int]func(syscall.WaitStatus)
}

func newSupervisor(b *board, logDir string) *supervisor {
	s := &supervisor{board: b, logDir: logDir, waiting: map[int]func(syscall.WaitStatus){}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			s.reap()
		}
	}()
	return s
}

// reap collects all that have ended: several ends may come as one signal.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.mu.Lock()
		ended := s.waiting[pid]
		delete(s.waiting, pid)
		s.mu.Unlock()
		if ended != nil {
			ended(status)
		}
	}
}

// start starts a process; started is called with its pid before ended can be with its status, each once. The
// command's output must be files: nothing waits for the goroutines that copy anything else.
func (s *supervisor) start(cmd *exec.Cmd, started func(pid int), ended func(syscall.WaitStatus)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.waiting[cmd.Process.Pid] = ended
	started(cmd.Process.Pid)
	return cmd.Process.Release()
}

// startComponent starts a process that is to live as long as the node, and records on the board when it doesn't.
func (s *supervisor) startComponent(c component) error {
	log, err := os.OpenFile(s.logDir+"/"+c.name+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = nodeEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = s.start(cmd,
		func(pid int) { s.recordStart(c.name, pid) },
		func(status syscall.WaitStatus) { s.recordExit(c.name, status) })
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	return nil
}

func (s *supervisor) recordStart(name string, pid int) {
	s.board.update(func(b *snapshot) {
		b.Components = append(b.Components, componentState{Name: name, PID: pid, Started: time.Now()})
	})
}

func (s *supervisor) recordExit(name string, status syscall.WaitStatus) {
	s.board.update(func(b *snapshot) {
		for i := range b.Components {
			if b.Components[i].Name == name {
				b.Components[i].Exited, b.Components[i].Exit = time.Now(), describe(status)
			}
		}
	})
}

// run runs a command to its end; its error carries the end of what the command printed.
func (s *supervisor) run(ctx context.Context, cmd *exec.Cmd) error {
	out, err := os.CreateTemp(s.logDir, ".run-*")
	if err != nil {
		return err
	}
	defer out.Close()
	defer func() { _ = os.Remove(out.Name()) }()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = nodeEnv()
	ended := make(chan syscall.WaitStatus, 1)
	var pid int
	err = s.start(cmd, func(p int) { pid = p }, func(status syscall.WaitStatus) { ended <- status })
	if err != nil {
		return err
	}
	select {
	case status := <-ended:
		if status.ExitStatus() == 0 {
			return nil
		}
		tail, _ := tailOf(out.Name(), 10)
		return fmt.Errorf("%s: %s\n%s", cmd, describe(status), tail)
	case <-ctx.Done():
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return context.Cause(ctx)
	}
}

// died returns a context that ends when a component does, so that nothing waits for what can't come any more.
func (s *supervisor) died(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		for {
			now, changed := s.board.read()
			if what, _ := now.problem(); what != "" {
				cancel(errors.New(what))
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

func describe(status syscall.WaitStatus) string {
	if signal := status.Signal(); signal > 0 {
		return "killed by " + unix.SignalName(signal)
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// nodeEnv is all that the node's processes get: nothing of the environment in which `up` was typed, and a home that
// goes with the node.
func nodeEnv() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/cluster", "LANG=C.UTF-8",
	}
}
