package serial_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/serial"
)

func makeV1(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	return serial.New(ctx, name, l, limits, log)
}

func TestContract(t *testing.T) { pooltest.Run(t, pool.V1, makeV1) }

func TestContractWithForkedWorkers(t *testing.T) { pooltest.RunForked(t, pool.V1, makeV1) }

func BenchmarkPool(b *testing.B) { pooltest.Benchmark(b, makeV1) }
