// Package guard puts a retry and a breaker around a pool. Each is a pool.Pool itself, and operations run in parallel
// through both as the pool lets them.
//
// It promises at most once: an operation of which a byte has reached a worker is sent again only if its caller has
// marked it (see Idempotent), and then it may run several times. Exactly once is promised nowhere.
//
// A slot has New around each of its pools.
//
// What it doesn't do: it moves no request to another pool, and it retries no refusal. A queue is the place to wait, and
// from a pool that isn't available a request goes to the other slot at once, which the router sees to. Nor does it retry
// what ran out of time: of that there is too little left.
package guard

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// New puts both around a pool that has these limits: each attempt passes the breaker. name is the WorkerPool's.
func New(p pool.Pool, name string, limits pool.Limits, log *slog.Logger) *Retry {
	return NewRetry(NewBreaker(p, name, BreakerPolicy{}, System{}, log), limits, RetryPolicy{}, System{}, log)
}

// Clock is the time that a guard goes by.
type Clock interface {
	Now() time.Time
	// Sleep returns after d, or with the context's error if that ends first.
	Sleep(ctx context.Context, d time.Duration) error
}

// System is the machine's clock.
type System struct{}

// Now implements Clock.
func (System) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (System) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type idempotent struct{}

// Idempotent marks the operation that runs with this context as one that may run more than once.
func Idempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotent{}, true)
}

func isIdempotent(ctx context.Context) bool {
	marked, _ := ctx.Value(idempotent{}).(bool)
	return marked
}

// critical is the level above Error.
const critical = slog.LevelError + 4

// upgradedAt is the attempt from which on a failure is one level more severe.
const upgradedAt = 4

// Severity is how loudly to tell of a failure: by its category, and one level louder from the fourth attempt on.
func Severity(c pool.Category, attempt int) slog.Level {
	level := critical
	switch c {
	case pool.RequestError:
		level = slog.LevelInfo
	case pool.TimeoutError, pool.ResourceError:
		level = slog.LevelWarn
	case pool.CommunicationError:
		level = slog.LevelError
	case pool.SystemError:
	}
	if attempt >= upgradedAt {
		level = min(critical, level+4)
	}
	return level
}

// failure is the *pool.Error in err; nil when there is none.
func failure(err error) *pool.Error {
	if err == nil {
		return nil // and nothing is allocated
	}
	var e *pool.Error
	errors.As(err, &e)
	return e
}
