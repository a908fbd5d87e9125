//go:build long

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

func TestMillionRequests(t *testing.T) {
	pooltest.MillionRequests(t, func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		return checkout.New(ctx, name, l, limits, log)
	})
}
