package worker_test

import (
	"bytes"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

const memoryName = "memfd:workerpool"

// holding counts what a process has of memory: mappings and files.
func holding(t testing.TB, pid int) (maps, files int) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(filepath.Join(dir, "fd", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, _ := os.Readlink(link); strings.Contains(target, memoryName) {
			files++
		}
	}
	return bytes.Count(data, []byte(memoryName)), files
}

func call(command string, payload []byte) worker.Call {
	return worker.Call{Command: command, Payload: payload, Deadline: time.Now().Add(patience)}
}

func echoes(t *testing.T, w *worker.Worker, payload []byte) {
	t.Helper()
	out := w.RoundTrip(t.Context(), call("echo", payload))
	if out.Err != nil || !bytes.Equal(out.Payload, payload) {
		t.Errorf("an echo of %d bytes: %d bytes, %v", len(payload), len(out.Payload), out.Err)
	}
}

// A worker is killed with a large request in its hands, and nothing of the memory is left with the supervisor: neither
// a mapping nor a file. The worker's own went with it.
func TestP113_ReclaimedWhenAWorkerIsKilled(t *testing.T) {
	w := opaque(t, 0)
	echoes(t, w, bytes.Repeat([]byte("a"), 1<<20))
	if maps, files := holding(t, os.Getpid()); maps != 1 || files != 0 {
		t.Errorf("the supervisor has %d mappings, %d files; want 1, 0", maps, files)
	}
	ended := make(chan worker.Outcome)
	go func() { ended <- w.RoundTrip(t.Context(), call("hang", bytes.Repeat([]byte("b"), 8<<20))) }()
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(w.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out := <-ended; out.Err == nil || out.Err.Type != pool.PortExited || out.Discard != worker.ReasonExited {
		t.Errorf("the operation ended with %v, discard %q", out.Err, out.Discard)
	}
	<-w.Gone()
	if maps, files := holding(t, os.Getpid()); maps != 0 || files != 0 {
		t.Errorf("%d mappings, %d files are left", maps, files)
	}
}

// A worker that finds its memory among its files can't cut it short under the supervisor.
func TestP113_AHostileWorkerCantCutItShort(t *testing.T) {
	w := opaque(t, 0)
	out := w.RoundTrip(t.Context(), call("cut", nil))
	if out.Err != nil || string(out.Payload) != "1 refused" {
		t.Errorf("got %q, %v; want one file that can't be cut", out.Payload, out.Err)
	}
	echoes(t, w, bytes.Repeat([]byte("x"), 4<<20))
}

// Where there is no memory, for one reason or another, payloads of any size go by pipe.
func TestP113_WithoutMemoryByPipe(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*worker.Spec)
		warned int
	}{
		"not wanted":              {func(s *worker.Spec) { s.MemoryFrom = math.MaxInt }, 0},
		"payloads are small":      {func(s *worker.Spec) { s.MaxPayload, s.MemoryFrom = 1<<20, 1<<20+1 }, 0},
		"more than can be mapped": {func(s *worker.Spec) { s.MaxPayload = 1 << 50 }, 1},
		"a Python without mmap": {func(s *worker.Spec) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "sitecustomize.py"), []byte("import sys; sys.modules['mmap'] = None"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Env = append(s.Env, "PYTHONPATH="+folder)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			host, err := worker.NewHost(slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil)))
			if err != nil {
				t.Fatal(err)
			}
			spec := opaqueSpec(t)
			tc.change(&spec)
			for range 2 {
				w := launched(t, host, &spec)
				echoes(t, w, bytes.Repeat([]byte("x"), 1<<20))
				for _, pid := range []int{os.Getpid(), w.PID()} {
					if maps, files := holding(t, pid); maps != 0 || files != 0 {
						t.Errorf("process %d has %d mappings, %d files", pid, maps, files)
					}
				}
				w.Kill(worker.ReasonClosed)
				<-w.Gone()
			}
			if err := host.Close(); err != nil {
				t.Error(err)
			}
			if n := log.count("payloads of any size go through pipes"); n != tc.warned {
				t.Errorf("warned %d times, want %d; the log:\n%s", n, tc.warned, &log)
			}
		})
	}
}

func TestP113_ForkedWorkersHaveMemoryOfTheirOwn(t *testing.T) {
	n := newNursery(t)
	n.spec.MemoryFrom = 1
	workers := n.workers(2)
	for i, w := range workers {
		var got string
		want := strings.Repeat(strconv.Itoa(i), 100_000)
		if w.call("echo", map[string]any{"value": want}, &got); got != want {
			t.Errorf("worker %d answered %d bytes", i, len(got))
		}
		if maps, _ := holding(t, w.PID()); maps != 1 {
			t.Errorf("worker %d has %d mappings; want 1", i, maps)
		}
	}
	if maps, files := holding(t, n.zygote.PID()); maps != 0 || files != 0 {
		t.Errorf("the zygote has kept %d mappings, %d files of its workers'", maps, files)
	}
}
