package guard

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/checkout"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
)

const wait = 10 * time.Second // a breaker's, by default

func TestP53_WhatCounts(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want verdict
	}{
		{nil, healthy},
		{crash, broken},
		{timeout, silent},
		{sent(pool.CommunicationError, pool.DecodeError), broken},
		{sent(pool.SystemError, pool.Internal), broken},
		{raised, healthy},
		{sent(pool.CommunicationError, pool.UpstreamError), healthy},
		{sent(pool.RequestError, pool.CallerError), healthy},
		{full, silent},
		{gaveUp, silent},
		{unsent(pool.TimeoutError, pool.CheckoutTimeout), silent},
		{context.Canceled, silent},
	} {
		if got := judge(tc.err); got != tc.want {
			t.Errorf("%v is judged %d, want %d", tc.err, got, tc.want)
		}
	}
}

// TestP53_Breaker reads each script from the left: s, i, q are an operation that succeeds, that the infrastructure
// fails, or that says nothing; "(" lets one through, ")" ends the oldest such with success, "!" with a failure; w is
// the breaker's wait. An operation that is refused is expected in capitals: S, and "[" for one to be let through.
func TestP53_Breaker(t *testing.T) {
	for name, script := range map[string]string{
		"opens at the fifth":                    "iiiiiS",
		"not at the fourth":                     "iiiis",
		"a success resets":                      "iiiisiiiis",
		"who says nothing doesn't reset":        "iiiiqiS",
		"half-open after its wait":              "iiiiiSws",
		"at most three probes at once":          "iiiiiw((([",
		"and then closes":                       "iiiiiw((([)))((((",
		"closes at three successes":             "iiiiiwsssiiii(",
		"two don't close it":                    "iiiiiwssi[",
		"a failed probe opens it again":         "iiiiiwiSws",
		"a failed probe among good ones":        "iiiiiw(()![w(",
		"a probe that says nothing frees a way": "iiiiiw((q([",
		"the late end of an old operation":      "(iiiii)Sw((([",
		"its late failure":                      "(iiiiiw!sss",
		"an old probe doesn't close it":         "iiiiiw((!)[w((([",
	} {
		t.Run(name, func(t *testing.T) {
			s := switchState{policy: BreakerPolicy{}.withDefaults()}
			now := t0
			var inside []uint64
			for i, c := range script {
				at := script[:i+1]
				switch c {
				case 'w':
					now = now.Add(wait)
				case ')', '!':
					s.ended(inside[0], map[rune]verdict{')': healthy, '!': broken}[c], now)
					inside = inside[1:]
				default:
					era, _, ok := s.admit(now)
					if refused := c == 'S' || c == '['; ok == refused {
						t.Fatalf("after %q admitted is %v", at, ok)
					}
					if c == '(' {
						inside = append(inside, era)
					} else if ok {
						s.ended(era, map[rune]verdict{'s': healthy, 'i': broken, 'q': silent}[c], now)
					}
				}
			}
		})
	}
}

// Whatever happens in whatever order: an open breaker lets nobody through, a half-open one at most three at once, and
// its figures never go wrong.
func TestP53_NeverMoreThanThreeProbes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := switchState{policy: BreakerPolicy{}.withDefaults()}
		now, inside := t0, []uint64{}
		r.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) {
				if era, _, ok := s.admit(now); ok {
					inside = append(inside, era)
				}
			},
			"end": func(r *rapid.T) {
				if len(inside) == 0 {
					r.Skip("nobody is inside")
				}
				i := rapid.IntRange(0, len(inside)-1).Draw(r, "which")
				s.ended(inside[i], verdict(rapid.IntRange(0, 2).Draw(r, "verdict")), now)
				inside = append(inside[:i], inside[i+1:]...)
			},
			"wait": func(r *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(r, "s")) * time.Second) },
			"": func(r *rapid.T) {
				probes := 0
				for _, era := range inside {
					if s.open && era == s.era {
						probes++
					}
				}
				if probes > 3 || s.open && (probes != s.probing || s.successes > 2) || !s.open && s.failures > 4 {
					r.Fatalf("%d probes with %+v", probes, s)
				}
			},
		})
	})
}

func TestP53_RefusesWithAReason(t *testing.T) {
	p, clock := &fakePool{do: func(context.Context, int) error { return crash }}, newClock()
	b := NewBreaker(p, "p", BreakerPolicy{}, clock, quiet)
	for range 5 {
		if _, err := b.Do(t.Context(), pool.Request{}); failure(err) != crash {
			t.Fatalf("got %v; want the pool's own failure", err)
		}
	}
	_, err := b.Do(t.Context(), pool.Request{})
	e := failure(err)
	if e == nil || e.Type != pool.NotAvailable || e.Sent || !e.IsBreakerOpen() || e.Context["retry_after_ms"] != wait.Milliseconds() || e.Context["pool"] != "p" {
		t.Errorf("refused with %+v; want pool_not_available, unsent, with the time to wait", e)
	}
	if len(p.asked) != 5 {
		t.Errorf("%d operations reached the pool; want 5", len(p.asked))
	}
}

// TestP53_DoesntSerialise has eight operations inside at once; none could end if one had to wait for another.
func TestP53_DoesntSerialise(t *testing.T) {
	const n = 8
	var together sync.WaitGroup
	together.Add(n)
	p := &fakePool{do: func(context.Context, int) error {
		together.Done()
		together.Wait()
		return nil
	}}
	b := NewBreaker(p, "p", BreakerPolicy{}, newClock(), quiet)
	r := NewRetry(b, pool.Limits{Operation: time.Hour}, RetryPolicy{}, newClock(), slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := r.Do(t.Context(), pool.Request{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestP53_ProbesUnderContention submits a thousand at once to a half-open breaker.
func TestP53_ProbesUnderContention(t *testing.T) {
	release := make(chan struct{})
	p, clock := &fakePool{}, newClock()
	p.do = func(_ context.Context, n int) error {
		if n <= 5 {
			return crash
		}
		<-release
		return nil
	}
	b := NewBreaker(p, "p", BreakerPolicy{}, clock, quiet)
	for range 5 {
		_, _ = b.Do(t.Context(), pool.Request{})
	}
	_ = clock.Sleep(t.Context(), wait)
	var refused atomic.Int64
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			if _, err := b.Do(t.Context(), pool.Request{}); err != nil && refused.Add(1) == 997 {
				close(release) // all but three probes were refused while these were held
			}
		})
	}
	all.Wait()
	if got := refused.Load(); got != 997 {
		t.Errorf("%d refused; want all but three", got)
	}
}

// A guarded pool keeps the contract. Here is what a guard could break.
func TestGuardedPoolKeepsTheContract(t *testing.T) {
	guarded := func(ctx context.Context, name string, l crew.Launch, limits pool.Limits, log *slog.Logger) pool.Pool {
		return New(checkout.New(ctx, name, l, limits, log), name, limits, log)
	}
	for _, title := range []string{
		"TestP14_Parallel", "TestP17_NeverSharedByTwoCallers", "TestP18_FirstComeFirstServed", "TestP25_GivingUpAtHandOver",
		"TestP28_OneBudget", "TestP29_CancelledOperation", "TestP31_BoundedQueueIsExact", "TestP44_PythonExceptionKeepsWorker",
		"TestP45_FourPartsAlways", "TestP48_HalfFail", "TestP52_NeverSentTwice", "TestP12_ShutdownIdempotentAndBounded",
		"TestConfigureSparesWhatWaits",
	} {
		t.Run(title, func(t *testing.T) {
			for _, failure := range pooltest.Check(t, pool.V2, title, guarded, 0) {
				t.Error(failure)
			}
		})
	}
}
