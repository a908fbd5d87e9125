package checkout_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
)

func makeV2(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	return checkout.New(ctx, name, l, limits, log)
}

func makeShared(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
	return checkout.NewShared(ctx, name, l, limits, log)
}

func TestContract(t *testing.T) { pooltest.Run(t, pool.V2, makeV2) }

func TestContractWithForkedWorkers(t *testing.T) { pooltest.RunForked(t, pool.V2, makeV2) }

func TestContractWithSharedWorkers(t *testing.T) { pooltest.RunShared(t, pool.V2, makeShared) }

func BenchmarkPool(b *testing.B) { pooltest.Benchmark(b, makeV2) }

func BenchmarkBesideWaiters(b *testing.B) { pooltest.BenchmarkBesideWaiters(b, makeV2) }
