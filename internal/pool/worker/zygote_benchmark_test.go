package worker_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// BenchmarkStart measures starts of workers, one after the other, of a module with many imports and some data, and
// the memory of eight of them: the proportional set size, in which a shared page counts in parts, and what is
// private. The zygote's own memory is in neither.
func BenchmarkStart(b *testing.B) {
	for name, launch := range map[string]func(*nursery) (*worker.Worker, error){
		"fork":  func(n *nursery) (*worker.Worker, error) { return n.zygote.Launch() },
		"spawn": func(n *nursery) (*worker.Worker, error) { return worker.Launch(n.host, &n.spec) },
	} {
		b.Run(name, func(b *testing.B) {
			n := newNursery(b, "FORKABLE_HEAVY=1")
			start := func() *worker.Worker {
				w, err := launch(n)
				if err != nil {
					b.Fatal(err)
				}
				if err := w.Ready(b.Context()); err != nil {
					b.Fatal(err)
				}
				return w
			}
			end := func(w *worker.Worker) {
				w.Kill(worker.ReasonClosed)
				<-w.Gone()
			}
			end(start()) // the zygote's own start, and a warm page cache
			b.ResetTimer()
			for range b.N {
				w := start()
				b.StopTimer()
				end(w)
				b.StartTimer()
			}
			b.StopTimer()
			const together = 8
			workers := make([]*worker.Worker, together)
			for i := range workers {
				workers[i] = start()
			}
			pss, private := 0.0, 0.0
			for _, w := range workers {
				p, own := memory(b, w.PID())
				pss, private = pss+p, private+own
			}
			b.ReportMetric(pss/together, "PSS-MiB/worker")
			b.ReportMetric(private/together, "private-MiB/worker")
			for _, w := range workers {
				end(w)
			}
		})
	}
}

// memory is what a process takes, in MiB.
func memory(t testing.TB, pid int) (pss, private float64) {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Pss:":
			pss = kib / 1024
		case "Private_Clean:", "Private_Dirty:":
			private += kib / 1024
		}
	}
	return pss, private
}
