package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// TestWhatNeverRanSpeaksAgainstNoVersion: nor does what ran out of its request's time because that had waited.
func TestWhatNeverRanSpeaksAgainstNoVersion(t *testing.T) {
	failure := func(category pool.Category, errorType pool.Type, sent bool, context ...any) *pool.Error {
		e := pool.NewError(category, errorType, "told to")
		for i := 0; i < len(context); i += 2 {
			e = e.With(context[i].(string), context[i+1])
		}
		e.Sent = sent
		return e
	}
	ranOut := failure(pool.TimeoutError, pool.CommandTimeout, true, pool.LimitedBy, pool.ByDeadline)
	limits := limits{checkout: 2 * time.Second, operation: 5 * time.Second}
	for name, test := range map[string]struct {
		err     *pool.Error
		budget  time.Duration
		service time.Duration
		want    outcome
	}{
		"a deadline in the queue":          {failure(pool.TimeoutError, pool.DeadlineExceeded, false), time.Second, 0, expired},
		"a deadline before it was sent":    {failure(pool.TimeoutError, pool.DeadlineExceeded, false), 0, 0, expired},
		"no worker within checkout":        {failure(pool.TimeoutError, pool.CheckoutTimeout, false), 0, 0, shed},
		"a queue that is full":             {failure(pool.ResourceError, pool.QueueFull, false), 0, 0, shed},
		"an open breaker":                  {pool.NewBreakerOpen("p", time.Second), 0, 0, shed},
		"a pool that stops":                {pool.NewShuttingDown("p"), 0, 0, unavailable},
		"workers that aren't there yet":    {pool.NewBroken("p", &pool.BootFailure{}), 0, 0, unavailable},
		"a slot that is away":              {failure(pool.ResourceError, pool.NotAvailable, false), 0, 0, unavailable},
		"a pool that cut it short":         {failure(pool.ResourceError, pool.NotAvailable, true), 0, time.Second, infrastructure},
		"the pool's operation timeout":     {failure(pool.TimeoutError, pool.CommandTimeout, true, pool.LimitedBy, pool.ByOperation), 6 * time.Second, 5 * time.Second, timedOut},
		"a short deadline, all of it run":  {ranOut, time.Second, 990 * time.Millisecond, timedOut},
		"a short deadline, half of it run": {ranOut, time.Second, 500 * time.Millisecond, expired},
		"the pool's limits, after a wait":  {ranOut, 0, 3 * time.Second, expired},
		"a slot that gave no answer":       {failure(pool.TimeoutError, pool.CommandTimeout, true), time.Second, 0, timedOut},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(Config{Logger: slog.New(slog.DiscardHandler)})
			r.table.Store(&table{limits: limits})
			c := &call{budget: test.budget, start: time.Now()}
			got, _ := r.judgeFailure(c, nil, slotclient.Reply{Service: test.service}, outcomeOf("", test.err), test.err, time.Now())
			if got != test.want {
				t.Errorf("counted as %d, want %d", got, test.want)
			}
			if blamed := test.want == timedOut || test.want == infrastructure; got.executed() != blamed {
				t.Errorf("it is the version's doing: %v", got.executed())
			}
		})
	}
}

// TestOperatorIsToldWhatNeverRan as shed, which it leaves out of every rate.
func TestOperatorIsToldWhatNeverRan(t *testing.T) {
	f := figures{revision: "r1"}
	f.ends[succeeded], f.ends[shed], f.ends[expired], f.ends[unavailable] = 1, 2, 3, 4
	f.apart = f.ends
	c := revisionCounters(&f)
	if c.GetRequests() != 10 || c.GetShed() != 9 || c.GetUnmatched().GetShed() != 9 || c.GetTimeouts()+c.GetInfrastructure() > 0 {
		t.Errorf("%v", c)
	}
	if st := revisionStatus(&f); st.Shed != 2 || st.Expired != 3 || st.Unavailable != 4 {
		t.Errorf("%+v", st)
	}
}

// TestErrorsNameWhatLimitedTheRequest: advice that doesn't apply is worse than none.
func TestErrorsNameWhatLimitedTheRequest(t *testing.T) {
	l := limits{checkout: time.Second, operation: 5 * time.Second}
	budget := pool.NewBudget(pool.Request{Deadline: time.Now().Add(time.Second)}, pool.Limits{Operation: 5 * time.Second}, time.Now())
	whole := pool.NewBudget(pool.Request{}, pool.Limits{Checkout: time.Second, Operation: 5 * time.Second}, time.Now())
	ranOut := func(b pool.Budget) *pool.Error {
		return b.Explain(pool.NewCommandTimeout("p", "w", "x", time.Second), time.Now())
	}
	for name, test := range map[string]struct {
		budget time.Duration
		err    *pool.Error
		says   string
		not    string
	}{
		"the operation, by the caller":                        {time.Second, ranOut(budget), "make it faster or give it more (Workerpool-Deadline: 1s)", "spec.timeouts"},
		"the operation, by the pool":                          {0, ranOut(whole), "make it faster or raise spec.timeouts.operation", "Workerpool-Deadline"},
		"the operation, by the pool, under a longer deadline": {time.Minute, ranOut(whole), "raise spec.timeouts.operation", "Workerpool-Deadline"},
		"the operation, after a body that came slowly":        {0, ranOut(budget), "(timeouts.checkout and timeouts.operation)", "raise spec"},
		"the queue, by the caller":                            {1500 * time.Millisecond, pool.NewDeadlineExceeded("p"), "give it more time (Workerpool-Deadline: 1.5s)", "timeouts."},
		"the queue, by the pool":                              {0, pool.NewDeadlineExceeded("p"), "(timeouts.checkout and timeouts.operation)", "Workerpool-Deadline"},
		"the queue, by its checkout":                          {0, pool.NewCheckoutTimeout("p", time.Second), "(timeouts.checkout)", "Workerpool-Deadline"},
		"the way to the slot":                                 {time.Second, pool.NewError(pool.TimeoutError, pool.DeadlineExceeded, "the deadline had passed"), "(Workerpool-Deadline: 1s)", "timeouts."},
	} {
		t.Run(name, func(t *testing.T) {
			c := &call{budget: test.budget}
			var e *pool.Error
			if !errors.As(c.outOfTime(l, test.err), &e) || !strings.Contains(e.Message, test.says) || strings.Contains(e.Message, test.not) {
				t.Errorf("%v; want it to say %q, not %q", e, test.says, test.not)
			}
		})
	}
}

// TestFailuresAreLoggedOnceASecond by their kind, and without what requests hold.
func TestFailuresAreLoggedOnceASecond(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"crash": func(context.Context, slottest.Call) (string, error) {
			e := pool.NewError(pool.CommunicationError, pool.PortExited, "worker a-1 exited with status 9")
			e.Sent = true
			return "", e
		},
		"boot": func(context.Context, slottest.Call) (string, error) {
			return "", pool.NewBroken("p", &pool.BootFailure{Message: "KeyError: " + secret, Attempts: 3})
		},
		"raise": func(context.Context, slottest.Call) (string, error) {
			e := pool.NewError(pool.CommunicationError, pool.PythonError, "ValueError: %s", secret)
			e.Sent = true
			return "", e
		},
	})
	began := time.Now()
	for range 20 {
		for _, command := range []string{"crash", "boot", "raise"} {
			r.post(command, `{"a": "`+secret+`"}`)
		}
	}
	logs, seconds := r.logs.String(), int(time.Since(began).Seconds())+1
	for _, kind := range []string{`"type":"port_exited"`, `"type":"pool_not_available"`} {
		if n := strings.Count(logs, kind); n < 1 || n > seconds {
			t.Errorf("%s is logged %d times in %d s", kind, n, seconds)
		}
	}
	if strings.Contains(logs, secret) || strings.Contains(logs, "python_error") || !strings.Contains(logs, "exited with status 9") {
		t.Errorf("the log:\n%s", logs)
	}
	f, now := faults{}, time.Now()
	for i := range 5 {
		if _, due := f.due("kind", now); due != (i == 0) {
			t.Errorf("%d is logged: %v", i, due)
		}
	}
	if _, due := f.due("other", now); !due {
		t.Error("another kind isn't logged")
	}
	if n, due := f.due("kind", now.Add(time.Second)); !due || n != 4 {
		t.Errorf("a second later: %v, with %d suppressed", due, n)
	}
	for i := range 2 * maxFaultKinds {
		f.due(fmt.Sprint(i), now)
	}
	if len(f.kinds) > maxFaultKinds {
		t.Errorf("%d kinds are kept", len(f.kinds))
	}
}

// BenchmarkElsewhere is what no success pays for any more.
func BenchmarkElsewhere(b *testing.B) {
	r := New(Config{Logger: slog.New(slog.DiscardHandler)})
	to := &target{slot: r.slots["a"], revision: "r1"}
	r.table.Store(&table{stable: to, canary: &target{slot: r.slots["b"], revision: "r2"}, weight: 1000})
	c := &call{}
	for b.Loop() {
		r.elsewhere(to, stable, c)
	}
}

// TestASuccessAsksForNoOtherSlot: a table without a stable would panic.
func TestASuccessAsksForNoOtherSlot(t *testing.T) {
	entered, changedTable := make(chan struct{}), make(chan struct{})
	r := newRig(t, snapshot(0), map[string]slottest.Handler{
		"x": func(context.Context, slottest.Call) (string, error) {
			close(entered)
			<-changedTable
			return `"a"`, nil
		},
	})
	go func() {
		<-entered
		r.table.Store(&table{}) // without a stable: who asks it for another slot panics
		close(changedTable)
	}()
	before := r.table.Load()
	if a := r.post("x", "{}"); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	r.table.Store(before)
}
