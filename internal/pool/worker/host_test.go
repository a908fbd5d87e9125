package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/workerpool-operator/internal/cgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openHost(t *testing.T) *Host {
	t.Helper()
	h, err := NewHost(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// shell starts a script in a process group of its own.
func (h *Host) shell(t *testing.T, script string, env ...string) *process {
	t.Helper()
	null := h.null.Fd()
	p, err := h.start([]string{"/bin/sh", "-c", script}, &syscall.ProcAttr{
		Env: append(os.Environ(), env...), Files: []uintptr{null, null, null},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited 20 s for: %s", what)
		}
	}
}

func TestOneHostAtATime(t *testing.T) {
	openHost(t)
	if _, err := NewHost(slog.Default()); err == nil {
		t.Error("a second Host was opened: the two would steal each other's children")
	}
}

func TestP4_UniqueIDs(t *testing.T) {
	h := openHost(t)
	spec := &Spec{Pool: "p", Slot: "a", Marker: t.TempDir(), Python: "/bin/true", WorkingDir: "/"}
	seen := map[string]bool{}
	for range 1000 {
		w, err := Launch(h, spec)
		if err != nil {
			t.Fatal(err)
		}
		if seen[w.ID()] {
			t.Fatalf("id %s was given twice", w.ID())
		}
		seen[w.ID()] = true
		if err := w.Ready(t.Context()); !errors.As(err, new(*BootError)) || !strings.Contains(err.Error(), "exited with status 0") {
			t.Fatalf("Ready: %v; want how the process ended", err)
		}
	}
}

func TestP7_InitTimeout(t *testing.T) {
	h := openHost(t)
	script := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 600 & sleep 600\n"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	marker := t.TempDir()
	w, err := Launch(h, &Spec{Pool: "p", Slot: "a", Marker: marker, Python: script, WorkingDir: "/", InitTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var boot *BootError
	if err := w.Ready(t.Context()); !errors.As(err, &boot) || !strings.Contains(boot.Message, "after 200ms") || boot.Crowd != "took longer than 200ms" {
		t.Errorf("Ready: %+v; want the timeout, which fewer starts at a time may keep", err)
	}
	await(t, "the whole group dead", func() bool {
		return len(living(func(pid int) bool { return hasEnvironment(pid, []string{slotVariable + "=" + marker}) })) == 0
	})
}

func TestP10_CancelledStartLeavesNothing(t *testing.T) {
	h := openHost(t)
	w, err := Launch(h, &Spec{Pool: "p", Slot: "a", Marker: t.TempDir(), Python: "/bin/cat", PythonDir: "/dev/stdin", WorkingDir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.Ready(ctx)
	select {
	case <-w.Gone():
	default:
		t.Error("the process is there after Ready has failed")
	}
}

func TestP79_UnknownChildrenAreReaped(t *testing.T) {
	h := openHost(t)
	p := h.shell(t, "setsid sh -c 'sleep 0.05' & setsid sh -c 'sleep 0.1' & exit 0")
	<-p.done
	await(t, "orphans reaped", func() bool { return len(childrenOf(t, os.Getpid())) == 0 })
}

// childrenOf lists the children of a process, zombies too.
func childrenOf(t *testing.T, parent int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		data, _ := os.ReadFile(path)
		_, rest, _ := bytes.Cut(data, []byte(") "))
		if fields := strings.Fields(string(rest)); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestP81_ReusedPid makes the kernel give a dead worker's pid to another process, and kills the worker again.
func TestP81_ReusedPid(t *testing.T) {
	h := openHost(t)
	dead, stranger := h.reusePID(t)
	dead.signalGroup(syscall.SIGKILL)
	dead.signal(syscall.SIGKILL)
	stranger.signalGroup(syscall.SIGTERM)
	<-stranger.done
	if got := stranger.exit.Signal; got != syscall.SIGTERM {
		t.Errorf("the stranger with the reused pid %d ended by %v; want this test's SIGTERM", stranger.pid, got)
	}
}

// reusePID returns a dead process and a live one with the same pid. Any other process of the machine may be faster
// to take the pid, so it tries with many.
func (h *Host) reusePID(t *testing.T) (dead, stranger *process) {
	t.Helper()
	for range 500 {
		dead = h.shell(t, "exit 0")
		<-dead.done
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(dead.pid-1)), 0); err != nil {
			t.Skipf("pids can't be chosen here: %v", err)
		}
		if stranger = h.shell(t, "sleep 600"); stranger.pid == dead.pid {
			return dead, stranger
		}
		stranger.signalGroup(syscall.SIGKILL)
		<-stranger.done
	}
	t.Fatal("no pid could be used again in 500 tries")
	return nil, nil
}

func TestP82_LeftoversAreKilled(t *testing.T) {
	h := openHost(t)
	slot := filepath.Join(t.TempDir(), "a.sock")
	ours := h.shell(t, "sleep 600", slotVariable+"="+slot)
	other := h.shell(t, "sleep 600", slotVariable+"="+slot+"x")
	await(t, "both started", func() bool { return hasEnvironment(ours.pid, []string{slotVariable + "=" + slot}) })
	if n := h.KillLeftovers(slot); n == 0 {
		t.Error("found no leftover")
	}
	<-ours.done
	if !other.signal(0) {
		t.Error("another slot's process was killed")
	}
	other.signalGroup(syscall.SIGKILL)
	<-other.done
}

func TestP105_AThreadsEndKillsNoWorker(t *testing.T) {
	h := openHost(t)
	started := make(chan *process)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		started <- h.shell(t, "sleep 600")
	}()
	p := <-started
	time.Sleep(100 * time.Millisecond) // for a signal that must not come
	select {
	case <-p.done:
		t.Errorf("the process %s when a thread ended", p.exit)
	default:
	}
	p.signalGroup(syscall.SIGKILL)
	<-p.done
}

func TestOOMKillsAreCounted(t *testing.T) {
	dir := t.TempDir()
	write := func(n int) {
		events := "low 0\noom 9\noom_kill " + strconv.Itoa(n) + "\noom_group_kill 0\n"
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte(events), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(3)
	c := newOOMCounter(cgroup.At(dir))
	for i, step := range []struct {
		count int
		want  bool
	}{{3, false}, {4, true}, {4, false}, {6, true}, {6, true}, {6, false}} {
		write(step.count)
		if got := c.killed(); got != step.want {
			t.Errorf("step %d: killed %v, want %v", i, got, step.want)
		}
	}
	if newOOMCounter(cgroup.Memory{}).killed() {
		t.Error("a kill without a counter")
	}
}

func TestP41_OutputTokens(t *testing.T) {
	now := time.Unix(1000, 0)
	r := &outputReader{tokens: lineBurst, filled: now}
	took := func() (n int) {
		for r.afford(now, 1) {
			n++
		}
		return n
	}
	if n := took(); n != lineBurst {
		t.Errorf("burst of %d lines, want %d", n, lineBurst)
	}
	now = now.Add(time.Second)
	if n := took(); n != linesPerSecond {
		t.Errorf("%d lines after a second, want %d", n, linesPerSecond)
	}
	now = now.Add(time.Hour)
	if n := took(); n != lineBurst {
		t.Errorf("%d lines after an hour, want a burst of %d", n, lineBurst)
	}
}
