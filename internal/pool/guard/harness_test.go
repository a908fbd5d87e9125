package guard

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var t0 = time.Unix(1_700_000_000, 0)

func in(d time.Duration) time.Time { return t0.Add(d) }

// fakeClock is a clock whose sleeps take no time but its own.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time       // guarded by mu
	slept []time.Duration // guarded by mu
}

func newClock() *fakeClock { return &fakeClock{now: t0} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.slept = c.now.Add(d), append(c.slept, d)
	return ctx.Err()
}

// fakePool answers with what do says, and remembers what it was asked.
type fakePool struct {
	pool.Pool
	do     func(ctx context.Context, n int) error // n counts from 1
	mu     sync.Mutex
	asked  []pool.Request // guarded by mu
	limits pool.Limits    // guarded by mu
}

func (p *fakePool) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	p.mu.Lock()
	p.asked = append(p.asked, req)
	n := len(p.asked)
	p.mu.Unlock()
	if err := p.do(ctx, n); err != nil {
		return pool.Reply{}, err
	}
	return pool.Reply{Payload: []byte("done")}, nil
}

func (p *fakePool) Configure(l pool.Limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l
}

func unsent(c pool.Category, t pool.Type) *pool.Error {
	return pool.NewError(c, t, "m").With("pool", "p")
}

func sent(c pool.Category, t pool.Type) *pool.Error {
	e := unsent(c, t)
	e.Sent = true
	return e
}

var quiet = slog.New(slog.DiscardHandler)

var (
	crash       = sent(pool.CommunicationError, pool.PortExited)
	unsentCrash = unsent(pool.CommunicationError, pool.PortExited)
	timeout     = sent(pool.TimeoutError, pool.CommandTimeout)
	raised      = sent(pool.CommunicationError, pool.PythonError)
	full        = unsent(pool.ResourceError, pool.QueueFull)
	gaveUp      = sent(pool.RequestError, pool.Cancelled)
)
