package guard

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// RetryPolicy says how often and after how long. A zero field has its default.
type RetryPolicy struct {
	Attempts int           // all together; 3
	First    time.Duration // before the second attempt, then doubling; 100 ms
	Most     time.Duration // before any attempt, jitter apart; 5 s
}

// jitter is how far a delay is from its nominal value at most, as a fraction.
const jitter = 0.25

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts <= 0 {
		p.Attempts = 3
	}
	if p.First <= 0 {
		p.First = 100 * time.Millisecond
	}
	if p.Most <= 0 {
		p.Most = 5 * time.Second
	}
	return p
}

// delay before the attempt that follows the given one, 1 being the first. random is in [0, 1).
func (p RetryPolicy) delay(attempt int, random float64) time.Duration {
	d := min(p.First, p.Most)
	for i := 1; i < attempt && d < p.Most; i++ {
		d += min(d, p.Most-d) // doubled, without an overflow
	}
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*random))
}

// retriable tells whether another attempt may be made at all after e: a worker was lost, and the operation hasn't been
// sent or may run twice.
func retriable(e *pool.Error, idempotent bool) bool {
	switch e.Type {
	case pool.PortExited, pool.ResponseMismatch, pool.DecodeError:
		return idempotent || !e.Sent
	default:
		return false
	}
}

// attempt is what a retry's decision depends on.
type attempt struct {
	number     int // 1 is the first
	err        *pool.Error
	idempotent bool
	deadline   time.Time // of all attempts together
}

// next decides whether another attempt follows, and after how long. One that could begin only after the deadline
// doesn't follow.
func (p RetryPolicy) next(a attempt, now time.Time, random float64) (time.Duration, bool) {
	if a.number >= p.Attempts || !retriable(a.err, a.idempotent) {
		return 0, false
	}
	d := p.delay(a.number, random)
	return d, now.Add(d).Before(a.deadline)
}

// Retry is a pool whose failed operations are tried again within their one budget.
type Retry struct {
	pool.Pool
	policy RetryPolicy
	clock  Clock
	log    *slog.Logger
	budget atomic.Int64 // ns: checkout + operation, for requests without deadline
}

// NewRetry guards a pool that has these limits.
func NewRetry(p pool.Pool, limits pool.Limits, policy RetryPolicy, clock Clock, log *slog.Logger) *Retry {
	r := &Retry{Pool: p, policy: policy.withDefaults(), clock: clock, log: log}
	r.setBudget(limits)
	return r
}

func (r *Retry) setBudget(l pool.Limits) { r.budget.Store(int64(l.Checkout + l.Operation)) }

// Configure implements pool.Pool.
func (r *Retry) Configure(limits pool.Limits) {
	r.setBudget(limits)
	r.Pool.Configure(limits)
}

// Do runs one operation, in up to as many attempts as the policy has. Between two of them it holds neither a worker nor a
// place in the queue. The error says how many there were; it is that of the last one that was sent, if any was, as only
// that tells what can have happened.
func (r *Retry) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	if req.Deadline.IsZero() {
		req.Deadline = r.clock.Now().Add(time.Duration(r.budget.Load()))
	}
	var told pool.Reply
	var last *pool.Error // what told belongs to
	for n := 1; ; n++ {
		reply, err := r.Pool.Do(ctx, req)
		e := failure(err)
		if e == nil {
			return reply, err
		}
		if last == nil || e.Sent || !last.Sent {
			told, last = reply, e
		}
		if !r.waitAfter(ctx, req, e, n) {
			return told, counted(last, n)
		}
	}
}

// waitAfter returns when another attempt is due after the n-th, which failed with e; false: there is none. A stream may have
// given its caller some of its items, so that one isn't tried again once it was sent.
func (r *Retry) waitAfter(ctx context.Context, req pool.Request, e *pool.Error, n int) bool {
	a := attempt{number: n, err: e, idempotent: isIdempotent(ctx) && req.Stream == nil, deadline: req.Deadline}
	d, again := r.policy.next(a, r.clock.Now(), rand.Float64())
	if !again {
		return false
	}
	r.log.Log(ctx, Severity(e.Category, n), "operation is tried again",
		"command", req.Command, "category", e.Category, "type", e.Type, "attempt", n, "delay", d)
	return r.clock.Sleep(ctx, d) == nil
}

// counted adds how many attempts there were, if there were several.
func counted(e *pool.Error, attempts int) *pool.Error {
	if attempts == 1 {
		return e
	}
	return e.With("attempts", attempts)
}
