//go:build long

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

func TestMillionRequests(t *testing.T) {
	pooltest.MillionRequests(t, func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		return serial.New(ctx, name, l, limits, log)
	})
}
