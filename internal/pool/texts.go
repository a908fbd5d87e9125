package pool

import (
	"fmt"
	"time"
)

// The constructors below are the only places where these failures get their text, so that V1 and V2 say the same.

// NewQueueFull refuses a request because as many as size + overflow + queueLimit are inside.
func NewQueueFull(pool string, busy, waiting int, retryAfter time.Duration) *Error {
	e := NewError(ResourceError, QueueFull,
		"pool %s has %s busy and %s waiting (queueLimit); retry later or raise spec.queueLimit",
		pool, count(busy, "worker"), count(waiting, "request"))
	e.Context = map[string]any{
		"pool": pool, "busy": busy, "waiting": waiting, "retry_after_ms": max(1, retryAfter.Milliseconds()),
	}
	return e
}

// NewWorkerBusy refuses a request that takes no worker but its key's, and doesn't wait for that.
func NewWorkerBusy(pool, worker string, retryAfter time.Duration) *Error {
	e := NewError(ResourceError, WorkerBusy,
		"worker %s of pool %s, which served the request's key last, is busy; retry later, or ask for affinity strict, which waits for it, or hint, which takes another",
		worker, pool)
	e.Context = map[string]any{"pool": pool, "worker": worker, "retry_after_ms": max(1, retryAfter.Milliseconds())}
	return e
}

// NewCheckoutTimeout ends a request that no worker became free for.
func NewCheckoutTimeout(pool string, limit time.Duration) *Error {
	e := NewError(TimeoutError, CheckoutTimeout,
		"no worker of pool %s became free within %s (timeouts.checkout); retry later or raise spec.size", pool, Millis(limit))
	e.Context = map[string]any{"pool": pool, "after_ms": limit.Milliseconds()}
	return e
}

// NewDeadlineExceeded ends a request whose own deadline passed before a worker took it.
func NewDeadlineExceeded(pool string) *Error {
	e := NewError(TimeoutError, DeadlineExceeded,
		"the request's deadline passed before a worker of pool %s took it, so it wasn't executed; give it more time", pool)
	e.Context = map[string]any{"pool": pool}
	return e
}

// NewCommandTimeout ends an operation that took all the time it had. Budget.Explain adds what set that.
func NewCommandTimeout(pool, worker, command string, after time.Duration) *Error {
	after = after.Round(time.Millisecond) // of the deadline, which was set a moment before the start
	e := NewError(TimeoutError, CommandTimeout,
		"command %s of pool %s hadn't finished after %s, so its worker is replaced",
		command, pool, Millis(after))
	e.Context = map[string]any{"pool": pool, "worker": worker, "command": command, "after_ms": after.Milliseconds()}
	return e
}

// NewTaskTimeout is NewCommandTimeout in a worker that serves others beside it.
func NewTaskTimeout(pool, worker, command string, after time.Duration) *Error {
	after = after.Round(time.Millisecond)
	e := NewError(TimeoutError, CommandTimeout,
		"command %s of pool %s hadn't finished after %s, so it is cancelled",
		command, pool, Millis(after))
	e.Context = map[string]any{"pool": pool, "worker": worker, "command": command, "after_ms": after.Milliseconds()}
	return e
}

// NewIdleTimeout ends a stream whose worker has sent nothing for so long although its caller waited.
func NewIdleTimeout(pool, worker, command string, idle time.Duration) *Error {
	e := NewError(TimeoutError, CommandTimeout,
		"worker %s of pool %s sent nothing of command %s for %s although its caller waited, so the stream is ended; make it yield "+
			"sooner or give it more time between two items", worker, pool, command, Millis(idle))
	e.Context = map[string]any{"pool": pool, "worker": worker, "command": command, "idle_ms": idle.Milliseconds()}
	return e
}

// NewCancelled ends a request whose caller gave up.
func NewCancelled(pool string) *Error {
	e := NewError(RequestError, Cancelled, "the caller of pool %s gave up before the reply", pool)
	e.Context = map[string]any{"pool": pool}
	return e
}

// NewNotAvailable refuses a request, or ends one that waits, because the pool can't serve it at all; why is a
// sentence's end, for example "is shutting down; retry".
func NewNotAvailable(pool, why string) *Error {
	e := NewError(ResourceError, NotAvailable, "pool %s %s", pool, why)
	e.Context = map[string]any{"pool": pool}
	return e
}

// NewShuttingDown is what requests get from a pool that is being closed.
func NewShuttingDown(pool string) *Error { return NewNotAvailable(pool, "is shutting down; retry") }

// NewRecalled ends a request that its sender took back before a worker had it.
func NewRecalled(pool string) *Error {
	return NewNotAvailable(pool, "gave the request back before a worker had it, as it was asked to; retry")
}

// NewBroken is what requests get at once while no worker can be started.
func NewBroken(pool string, f *BootFailure) *Error {
	return NewNotAvailable(pool, "has no worker, as none can be started: "+f.Message).With("attempts", f.Attempts)
}

// breakerKey is in the context of what an open breaker refuses.
const breakerKey = "breaker"

// NewBreakerOpen refuses a request because the pool has lost workers in too many operations in a row.
func NewBreakerOpen(pool string, retryAfter time.Duration) *Error {
	return NewNotAvailable(pool, "has lost its worker too often in a row and is left alone for a while; retry in "+Millis(retryAfter)).
		With("retry_after_ms", retryAfter.Milliseconds()).With(breakerKey, "open")
}

// IsBreakerOpen reports whether e is such a refusal. It says nothing new of the pool: what it is for has been counted.
func (e *Error) IsBreakerOpen() bool { return e.Type == NotAvailable && e.Context[breakerKey] != nil }

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
