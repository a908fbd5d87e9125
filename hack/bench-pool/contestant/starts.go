package contestant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// starts is a rig that starts workers of a module with a heap of 100 MB.
type starts struct {
	host   *worker.Host
	zygote *worker.Zygote // nil: workers are spawned
	launch func() (*worker.Worker, error)
}

func startForks(ctx context.Context, s Setup) (rig, error) { return startStarts(ctx, s, true) }

func startSpawns(ctx context.Context, s Setup) (rig, error) { return startStarts(ctx, s, false) }

// startStarts has ended a first worker when it returns: the zygote has imported the module, or the page cache has it.
func startStarts(ctx context.Context, s Setup, fork bool) (rig, error) {
	host, err := worker.NewHost(slog.Default())
	if err != nil {
		return nil, err
	}
	spec := s.spec(workers{module: "bench_heap"})
	r := &starts{host: host, launch: func() (*worker.Worker, error) { return worker.Launch(host, &spec) }}
	if fork {
		r.zygote = worker.NewZygote(host, &spec, slog.Default())
		r.launch = r.zygote.Launch
	}
	w, err := r.start(ctx)
	if err == nil && fork && r.zygote.Refused() != "" {
		err = fmt.Errorf("workers aren't forked: %s", r.zygote.Refused())
	}
	if err != nil {
		_ = r.close(ctx)
		return nil, err
	}
	end(w)
	return r, nil
}

func (r *starts) start(ctx context.Context) (*worker.Worker, error) {
	w, err := r.launch()
	if err != nil {
		return nil, err
	}
	if err := w.Ready(ctx); err != nil {
		end(w)
		return nil, err
	}
	return w, nil
}

func end(w *worker.Worker) {
	w.Kill(worker.ReasonClosed)
	<-w.Gone()
}

// starts starts so many workers, one after the other, and weighs them when all are up and have served a call.
func (r *starts) starts(ctx context.Context, p Payload, workers int) (table.Figures, error) {
	var up []*worker.Worker
	defer func() {
		for _, w := range up {
			end(w)
		}
	}()
	var took []time.Duration
	begin := time.Now()
	for range workers {
		from := time.Now()
		w, err := r.start(ctx)
		if err != nil {
			return table.Figures{}, err
		}
		took, up = append(took, time.Since(from)), append(up, w)
	}
	all := time.Since(begin)
	var private []float64
	for _, w := range up {
		out := w.RoundTrip(ctx, worker.Call{Command: "echo", Payload: p.Arguments, Deadline: time.Now().Add(patience)})
		if out.Err != nil {
			return table.Figures{}, out.Err
		}
		own, err := privateMemory(w.PID())
		if err != nil {
			return table.Figures{}, err
		}
		private = append(private, own)
	}
	slices.Sort(took)
	slices.Sort(private)
	return table.Figures{
		Count: workers, Rate: float64(workers) / all.Seconds(), P50: quantile(took, 0.50), P99: quantile(took, 0.99),
		Private: private[(len(private)-1)/2],
	}, nil
}

// privateMemory is what a process shares with no other, in bytes: its unique set size.
func privateMemory(pid int) (bytes float64, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && (fields[0] == "Private_Clean:" || fields[0] == "Private_Dirty:") {
			kib, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				return 0, err
			}
			bytes += kib * 1024
		}
	}
	return bytes, nil
}

// caller is for rigs that are called.
func (r *starts) caller(context.Context, string, Payload, int) (Caller, error) {
	return nil, errors.New("workers that are only started serve no load")
}

func (r *starts) close(context.Context) error {
	if r.zygote != nil {
		r.zygote.Close()
	}
	return r.host.Close()
}
