package contestant

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/serial"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// patience with anything that takes a moment when all is well.
const patience = time.Minute

// pooled is V1 or V2 with worker processes of python/poolworker.
type pooled struct {
	pool.Pool
	host   *worker.Host
	opaque bool
}

func startV1(ctx context.Context, s Setup) (rig, error) {
	return startPool(ctx, s, workers{module: "bench_handlers"}, func(l crew.Launch, limits pool.Limits) pool.Pool {
		return serial.New(ctx, "bench", l, limits, slog.Default())
	})
}

func startV2(ctx context.Context, s Setup) (rig, error) {
	return startCheckout(ctx, s, workers{module: "bench_handlers"})
}

// startOpaqueV2 is V2 with workers that hand the bytes of a request to the handler and its bytes back: what the pool
// itself costs, without any codec.
func startOpaqueV2(ctx context.Context, s Setup) (rig, error) {
	return startCheckout(ctx, s, workers{module: "bench_opaque"})
}

// startOpaquePipeV2 is the same without shared memory.
func startOpaquePipeV2(ctx context.Context, s Setup) (rig, error) {
	return startCheckout(ctx, s, workers{module: "bench_opaque", memoryFrom: math.MaxInt})
}

// startStandardV2 is V2 where Python has nothing but its standard library.
func startStandardV2(ctx context.Context, s Setup) (rig, error) {
	return startCheckout(ctx, s, workers{module: "bench_handlers", env: []string{"POOLWORKER_CODEC=json"}})
}

// workers is in what those of one pool differ from another's.
type workers struct {
	module     string
	env        []string
	memoryFrom int // see worker.Spec
}

// startBatchV2 is V2 whose calls are batches, of as many inputs as multiprocessing.Pool.map puts into a chunk of 1024 for 4
// workers.
func startBatchV2(ctx context.Context, s Setup) (rig, error) {
	r, err := startCheckout(ctx, s, workers{module: "bench_handlers"})
	if err != nil {
		return nil, err
	}
	return &batched{r.(*pooled)}, nil
}

// batchInputs are those of one call.
const batchInputs = 64

type batched struct{ *pooled }

func (b *batched) inputs() int { return batchInputs }

func (b *batched) caller(ctx context.Context, command string, p Payload, _ int) (Caller, error) {
	one := func(prefix, item, suffix string) []byte {
		return []byte(prefix + strings.Repeat(","+item, batchInputs)[1:] + suffix)
	}
	many := Payload{
		Arguments: one(`{"inputs":[`, string(p.Arguments), `]}`), Result: one(`{"outputs":[`, `{"result":`+string(p.Result)+`}`, `]}`),
	}
	return b.prepare(ctx, pool.Request{Command: command, Payload: many.Arguments, Batch: true}, many.Result)
}

func startCheckout(ctx context.Context, s Setup, w workers) (rig, error) {
	return startPool(ctx, s, w, func(l crew.Launch, limits pool.Limits) pool.Pool {
		return checkout.New(ctx, "bench", l, limits, slog.Default())
	})
}

// spec makes workers in PythonDir.
func (s Setup) spec(w workers) worker.Spec {
	return worker.Spec{
		Pool: "bench", Slot: "a", Marker: filepath.Join(s.Scratch, "a.sock"), Python: s.Python, PythonDir: s.PoolDir,
		WorkingDir: s.PythonDir, Module: w.module, Env: append(os.Environ(), w.env...), InitTimeout: patience,
		MemoryFrom: w.memoryFrom,
	}
}

func startPool(ctx context.Context, s Setup, w workers, build func(crew.Launch, pool.Limits) pool.Pool) (rig, error) {
	host, err := worker.NewHost(slog.Default())
	if err != nil {
		return nil, err
	}
	spec := s.spec(w)
	launch := func() (crew.Worker, error) {
		w, err := worker.Launch(host, &spec)
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	p := &pooled{host: host, opaque: w.module == "bench_opaque"}
	p.Pool = build(launch, pool.Limits{Size: s.Workers, QueueLimit: 4096, Checkout: patience, Operation: patience, Drain: patience})
	if err := p.awaitReady(ctx, s.Workers); err != nil {
		_ = p.close(ctx)
		return nil, err
	}
	return p, nil
}

func (p *pooled) awaitReady(ctx context.Context, workers int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		stats := p.Stats()
		switch {
		case stats.Ready == workers:
			return nil
		case stats.Boot != nil:
			return fmt.Errorf("%s\n%s", stats.Boot.Message, stats.Boot.Traceback)
		}
		select {
		case <-p.Changed():
		case <-ctx.Done():
			return fmt.Errorf("%d of %d workers are ready: %w", stats.Ready, workers, context.Cause(ctx))
		}
	}
}

func (p *pooled) caller(ctx context.Context, command string, payload Payload, _ int) (Caller, error) {
	if p.opaque {
		payload = opaque(payload)
	}
	return p.prepare(ctx, pool.Request{Command: command, Payload: payload.Arguments}, payload.Result)
}

// prepare returns what sends a request, after it has been answered once as is wanted.
func (p *pooled) prepare(ctx context.Context, request pool.Request, want []byte) (Caller, error) {
	reply, err := p.Do(ctx, request)
	if err != nil {
		return nil, err
	}
	if err := differ(reply.Payload, want); err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ int) (time.Duration, error) {
		reply, err := p.Do(ctx, request)
		return reply.Wait, err
	}, nil
}

func (p *pooled) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := p.Close(ctx)
	if closeErr := p.host.Close(); err == nil {
		err = closeErr
	}
	return err
}
