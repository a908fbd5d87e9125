package worker_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// BenchmarkPayload is where DefaultMemoryFrom comes from: payloads by pipe and by memory, in each direction. All on one
// core (taskset --cpu-list 1), or the figures are those of wake-ups across cores. cpu-ns/op is the time that both
// processes have used, in which other load shows less.
func BenchmarkPayload(b *testing.B) {
	for _, size := range []int{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, 4 << 20} {
		for _, command := range []string{"take", "give", "echo"} {
			for transport, from := range map[string]int{"pipe": math.MaxInt, "memory": 4 << 10} {
				b.Run(fmt.Sprintf("%s/%dKB/%s", command, size>>10, transport), func(b *testing.B) {
					w := opaque(b, from)
					payload := bytes.Repeat([]byte("x"), size)
					if command == "give" {
						payload = fmt.Append(nil, size)
					}
					b.ResetTimer()
					before := cpuTime(b, os.Getpid()) + cpuTime(b, w.PID())
					for b.Loop() {
						out := w.RoundTrip(b.Context(), worker.Call{Command: command, Payload: payload, Deadline: time.Now().Add(patience)})
						if out.Err != nil {
							b.Fatal(out.Err)
						}
					}
					used := cpuTime(b, os.Getpid()) + cpuTime(b, w.PID()) - before
					b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
				})
			}
		}
	}
}

// cpuTime is what all threads of a process have used.
func cpuTime(t testing.TB, pid int) (total time.Duration) {
	t.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("the CPU time of process %d: %v", pid, err)
	}
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		first, _, _ := strings.Cut(string(data), " ")
		nanoseconds, _ := strconv.ParseInt(first, 10, 64)
		total += time.Duration(nanoseconds)
	}
	return total
}

// opaqueSpec makes workers of the module opaque. Call it before a Host is opened.
func opaqueSpec(t testing.TB) worker.Spec {
	t.Helper()
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	spec := pooltest.Spec(t)
	spec.Module, spec.WorkingDir = "opaque", here
	return spec
}

// opaque returns such a worker, with a Host of its own.
func opaque(t testing.TB, memoryFrom int) *worker.Worker {
	t.Helper()
	spec := opaqueSpec(t)
	spec.MemoryFrom = memoryFrom
	host, err := worker.NewHost(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Close(); err != nil {
			t.Error(err)
		}
	})
	return launched(t, host, &spec)
}

// launched returns a worker that is ready, and is ended with the test.
func launched(t testing.TB, host *worker.Host, spec *worker.Spec) *worker.Worker {
	t.Helper()
	w, err := worker.Launch(host, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill(worker.ReasonClosed)
		<-w.Gone()
	})
	if err := w.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}
