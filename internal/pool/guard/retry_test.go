package guard

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestP51_Severity(t *testing.T) {
	for _, tc := range []struct {
		category      pool.Category
		first, fourth slog.Level
	}{
		{pool.RequestError, slog.LevelInfo, slog.LevelWarn},
		{pool.TimeoutError, slog.LevelWarn, slog.LevelError},
		{pool.ResourceError, slog.LevelWarn, slog.LevelError},
		{pool.CommunicationError, slog.LevelError, critical},
		{pool.SystemError, critical, critical},
	} {
		for attempt, want := range map[int]slog.Level{1: tc.first, 3: tc.first, 4: tc.fourth, 9: tc.fourth} {
			if got := Severity(tc.category, attempt); got != want {
				t.Errorf("attempt %d with %s has severity %s, want %s", attempt, tc.category, got, want)
			}
		}
	}
}

func TestP52_DelaysAreBounded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := RetryPolicy{
			First: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(r, "first")),
			Most:  time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(r, "most")),
		}.withDefaults()
		n := rapid.IntRange(1, 1000).Draw(r, "attempt")
		nominal := min(float64(p.Most), math.Ldexp(float64(p.First), n-1))
		got := float64(p.delay(n, rapid.Float64Range(0, 0.999999).Draw(r, "random")))
		if got < 0.75*nominal-1 || got > 1.25*nominal {
			r.Fatalf("delay after attempt %d is %s; want %s ± 25 %%", n, time.Duration(got), time.Duration(nominal))
		}
	})
	low, high := RetryPolicy{}.withDefaults().delay(1, 0), RetryPolicy{}.withDefaults().delay(1, 0.999999)
	if low != 75*time.Millisecond || high < 124*time.Millisecond {
		t.Errorf("the first delay is from %s to %s; want 75 ms to 125 ms", low, high)
	}
}

func TestP52_WhatIsRetried(t *testing.T) {
	for name, tc := range map[string]struct {
		attempt
		want time.Duration // 0: no other attempt
	}{
		"a crash before anything was sent": {attempt{number: 1, err: unsentCrash}, 100 * time.Millisecond},
		"its second time":                  {attempt{number: 2, err: unsentCrash}, 200 * time.Millisecond},
		"its third and last":               {attempt{number: 3, err: unsentCrash}, 0},
		"a crash of what was sent":         {attempt{number: 1, err: crash}, 0},
		"a timeout of what was sent":       {attempt{number: 1, err: timeout}, 0},
		"a crash, idempotent":              {attempt{number: 1, err: crash, idempotent: true}, 100 * time.Millisecond},
		"a timeout, idempotent":            {attempt{number: 1, err: timeout, idempotent: true}, 0},
		"a pool that isn't available":      {attempt{number: 1, err: unsent(pool.ResourceError, pool.NotAvailable), idempotent: true}, 0},
		"an exception":                     {attempt{number: 1, err: raised, idempotent: true}, 0},
		"a full queue":                     {attempt{number: 1, err: full, idempotent: true}, 0},
		"a caller who gave up":             {attempt{number: 1, err: gaveUp, idempotent: true}, 0},
		"a reply that is too large":        {attempt{number: 1, err: sent(pool.CommunicationError, pool.FrameTooLarge), idempotent: true}, 0},
		"no time is left":                  {attempt{number: 1, err: unsentCrash, deadline: in(100 * time.Millisecond)}, 0},
		"just enough time is left":         {attempt{number: 1, err: unsentCrash, deadline: in(101 * time.Millisecond)}, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.deadline.IsZero() {
				tc.deadline = in(time.Hour)
			}
			d, again := RetryPolicy{}.withDefaults().next(tc.attempt, t0, 0.5)
			if again != (tc.want > 0) || again && d != tc.want {
				t.Errorf("again %v after %s; want %s", again, d, tc.want)
			}
		})
	}
}

// TestP52_Attempts counts what reaches the pool.
func TestP52_Attempts(t *testing.T) {
	for name, tc := range map[string]struct {
		errors     []*pool.Error // of one attempt after the other; then success
		idempotent bool
		attempts   int
		fails      bool
	}{
		"succeeds":                       {nil, false, 1, false},
		"an execute that was sent, once": {[]*pool.Error{crash}, false, 1, true},
		"idempotent, at least once":      {[]*pool.Error{crash}, true, 2, false},
		"unsent, then sent":              {[]*pool.Error{unsentCrash, crash}, false, 2, true},
		"a refusal after a crash":        {[]*pool.Error{crash, full}, true, 2, true},
		"never more than three":          {[]*pool.Error{unsentCrash, unsentCrash, unsentCrash}, false, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &fakePool{do: func(_ context.Context, n int) error {
				if n <= len(tc.errors) {
					return tc.errors[n-1]
				}
				return nil
			}}
			clock := newClock()
			limits := pool.Limits{Checkout: 5 * time.Second, Operation: 30 * time.Second}
			r := NewRetry(p, limits, RetryPolicy{}, clock, slog.New(slog.DiscardHandler))
			ctx := t.Context()
			if tc.idempotent {
				ctx = Idempotent(ctx)
			}
			reply, err := r.Do(ctx, pool.Request{Command: "x"})
			if (err != nil) != tc.fails || !tc.fails && string(reply.Payload) != "done" {
				t.Errorf("got %q, %v; want failure %v", reply.Payload, err, tc.fails)
			}
			if tc.fails && tc.attempts > 1 && failure(err).Context["attempts"] != tc.attempts {
				t.Errorf("context %v; want %d attempts", failure(err).Context, tc.attempts)
			}
			if tc.fails && failure(err).Sent != slices.Contains(tc.errors, crash) {
				t.Errorf("%v tells that it was sent: %v", err, failure(err).Sent)
			}
			if len(p.asked) != tc.attempts || len(clock.slept) != tc.attempts-1 {
				t.Errorf("%d attempts, %d delays; want %d, one less", len(p.asked), len(clock.slept), tc.attempts)
			}
			for _, req := range p.asked {
				if !req.Deadline.Equal(in(35 * time.Second)) {
					t.Errorf("an attempt has until %s; want one budget for all", req.Deadline)
				}
			}
		})
	}
}

// A caller that has had some of a stream's items mustn't get them again.
func TestP52_P109_AStreamThatWasSentIsntTriedAgain(t *testing.T) {
	for err, want := range map[*pool.Error]int{crash: 1, unsentCrash: 3} {
		p := &fakePool{do: func(context.Context, int) error { return err }}
		r := NewRetry(p, pool.Limits{Operation: time.Minute}, RetryPolicy{}, newClock(), slog.New(slog.DiscardHandler))
		_, _ = r.Do(Idempotent(t.Context()), pool.Request{Command: "x", Stream: func(context.Context, []byte) error { return nil }})
		if len(p.asked) != want {
			t.Errorf("%d attempts after %v; want %d", len(p.asked), err, want)
		}
	}
}

func TestP52_CallerGivesUpBetweenAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &fakePool{do: func(context.Context, int) error { cancel(); return unsentCrash }}
	r := NewRetry(p, pool.Limits{Operation: time.Hour}, RetryPolicy{}, newClock(), slog.New(slog.DiscardHandler))
	if _, err := r.Do(ctx, pool.Request{}); failure(err) == nil || len(p.asked) != 1 {
		t.Errorf("%d attempts, %v; want 1, a failure", len(p.asked), err)
	}
}

func TestP28_RetryBudgetFollowsTheLimits(t *testing.T) {
	p := &fakePool{do: func(context.Context, int) error { return nil }}
	r := NewRetry(p, pool.Limits{Checkout: time.Second}, RetryPolicy{}, newClock(), slog.New(slog.DiscardHandler))
	limits := pool.Limits{Checkout: time.Minute, Operation: time.Minute}
	r.Configure(limits)
	own := in(time.Second)
	for _, deadline := range []time.Time{{}, own} {
		if _, err := r.Do(t.Context(), pool.Request{Deadline: deadline}); err != nil {
			t.Fatal(err)
		}
	}
	if p.limits != limits || !p.asked[0].Deadline.Equal(in(2*time.Minute)) || !p.asked[1].Deadline.Equal(own) {
		t.Errorf("limits %+v, deadlines %s and %s; want the new ones, 2 minutes, the request's own", p.limits, p.asked[0].Deadline, p.asked[1].Deadline)
	}
}

func TestSystemClock(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := (System{}).Sleep(ctx, time.Microsecond); err != nil {
		t.Error(err)
	}
	cancel()
	if err := (System{}).Sleep(ctx, time.Hour); err == nil {
		t.Error("slept for an hour")
	}
}
