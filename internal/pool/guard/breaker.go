package guard

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// BreakerPolicy says when a breaker opens and closes. A zero field has its default.
type BreakerPolicy struct {
	Failures int           // of the infrastructure, in a row, that open it; 5
	Wait     time.Duration // from opening to the first probe; 10 s
	Probes   int           // let through at once while it is half-open; 3
	Closes   int           // probes that must succeed for it to close; 3
}

func (p BreakerPolicy) withDefaults() BreakerPolicy {
	if p.Failures <= 0 {
		p.Failures = 5
	}
	if p.Wait <= 0 {
		p.Wait = 10 * time.Second
	}
	if p.Probes <= 0 {
		p.Probes = 3
	}
	if p.Closes <= 0 {
		p.Closes = 3
	}
	return p
}

// verdict is what an operation's end says of the infrastructure.
type verdict uint8

const (
	silent  verdict = iota // nothing: it was refused, cancelled, never sent, or ran out of time
	healthy                // a worker answered, be it with an exception
	broken
)

func judge(err error) verdict {
	e := failure(err)
	switch {
	case err == nil:
		return healthy
	case e == nil:
		return silent
	case e.Type == pool.CommandTimeout: // often the work's own; a rollout compares those, which a breaker would keep from it
		return silent
	case e.Infrastructure():
		return broken
	}
	switch e.Type {
	case pool.PythonError, pool.UpstreamError, pool.CallerError, pool.UnknownCommand:
		return healthy
	default:
		return silent
	}
}

// switchState is a breaker without its pool: a function of what happens and when. Its owner guards it.
//
// Each change of state begins a new era. An operation's end counts only in the era in which it was let through:
// one that began before the breaker opened says nothing about the probes.
type switchState struct {
	policy    BreakerPolicy
	era       uint64
	open      bool
	until     time.Time // while open: no probe before; later it is half-open
	failures  int       // while closed: in a row
	probing   int       // while half-open: probes under way
	successes int       // while half-open
}

// calm reports whether the breaker is closed and has nothing to forget.
func (s *switchState) calm() bool { return !s.open && s.failures == 0 }

// admit lets an operation through and returns its era, or refuses it and returns for how long it should stay away.
func (s *switchState) admit(now time.Time) (era uint64, wait time.Duration, ok bool) {
	switch {
	case !s.open:
		return s.era, 0, true
	case now.Before(s.until):
		return 0, s.until.Sub(now), false
	case s.probing >= s.policy.Probes || s.probing+s.successes >= s.policy.Closes:
		return 0, 0, false
	}
	s.probing++
	return s.era, 0, true
}

// ended counts the end of an operation that was let through in era.
func (s *switchState) ended(era uint64, v verdict, now time.Time) {
	if era != s.era {
		return
	}
	if s.open {
		s.probed(v, now)
		return
	}
	switch v {
	case healthy:
		s.failures = 0
	case broken:
		if s.failures++; s.failures >= s.policy.Failures {
			s.trip(now)
		}
	case silent:
	}
}

func (s *switchState) probed(v verdict, now time.Time) {
	s.probing--
	switch v {
	case healthy:
		if s.successes++; s.successes >= s.policy.Closes {
			*s = switchState{policy: s.policy, era: s.era + 1}
		}
	case broken:
		s.trip(now)
	case silent:
	}
}

func (s *switchState) trip(now time.Time) {
	*s = switchState{policy: s.policy, era: s.era + 1, open: true, until: now.Add(s.policy.Wait)}
}

// Breaker is a pool that refuses operations at once for a while when the infrastructure has failed too often.
type Breaker struct {
	pool.Pool
	name  string
	clock Clock
	log   *slog.Logger

	// mu guards state. No operation runs while it is held.
	mu    sync.Mutex
	state switchState
}

// NewBreaker guards a pool; name is the WorkerPool's, for errors.
func NewBreaker(p pool.Pool, name string, policy BreakerPolicy, clock Clock, log *slog.Logger) *Breaker {
	return &Breaker{Pool: p, name: name, clock: clock, log: log, state: switchState{policy: policy.withDefaults()}}
}

// Do runs one operation, or refuses it with pool_not_available. While nothing fails it doesn't look at the clock.
func (b *Breaker) Do(ctx context.Context, req pool.Request) (pool.Reply, error) {
	era, err := b.admit()
	if err != nil {
		return pool.Reply{}, err
	}
	v := silent // should the pool panic
	defer func() { b.ended(era, v) }()
	reply, failed := b.Pool.Do(ctx, req)
	v = judge(failed)
	return reply, failed
}

func (b *Breaker) admit() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.state.open {
		return b.state.era, nil
	}
	era, wait, ok := b.state.admit(b.clock.Now())
	if ok {
		return era, nil
	}
	return 0, pool.NewBreakerOpen(b.name, max(wait, time.Millisecond))
}

func (b *Breaker) ended(era uint64, v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v != broken && b.state.calm() {
		return
	}
	was := b.state.open
	b.state.ended(era, v, b.clock.Now())
	switch {
	case b.state.open && !was:
		b.log.Warn("breaker opened: operations are refused for a while, as workers were lost one after the other", "wait", b.state.policy.Wait)
	case was && !b.state.open:
		b.log.Info("breaker closed: workers answer again")
	}
}
