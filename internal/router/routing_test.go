package router

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// burst sends n requests from 8 callers, and returns how many each slot answered.
func (r *rig) burst(n int, header ...string) (a, b int) {
	r.t.Helper()
	var left, fromA, fromB atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				switch reply := r.post("x", "{}", header...); reply.slot() {
				case "a":
					fromA.Add(1)
				case "b":
					fromB.Add(1)
				default:
					r.t.Errorf("lost a request: %d %s", reply.code, reply.body)
				}
			}
		})
	}
	wg.Wait()
	return int(fromA.Load()), int(fromB.Load())
}

func TestO15_ShareIsExact(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	for i, weight := range []uint32{1000, 2500, 25, 10_000, 0, 1000} {
		r.apply(at(snapshot(weight), 1, uint64(i+1)))
		before := r.revisionFigures("r2").Requests
		_, b := r.burst(1000)
		if share := int(weight / 10); b != share && b != share+1 { // 25 is 2.5 of 1000
			t.Errorf("weight %d: %d of 1000 requests went to the canary", weight, b)
		}
		if counted := r.revisionFigures("r2").Requests - before; counted != uint64(b) {
			t.Errorf("weight %d: %d requests counted for the canary, %d were answered by it", weight, counted, b)
		}
	}
}

func TestO17_WeightZero(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	r.burst(95) // half a request is owed
	r.apply(at(snapshot(0), 1, 1))
	before := len(r.b.Calls())
	r.burst(500)
	if n := len(r.b.Calls()) - before; n != 0 {
		t.Errorf("%d requests reached the canary at weight 0", n)
	}
}

func TestO17_WeightZeroHoldsWhenTheStableIsAway(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Limits.CheckoutMs = 100 }), nil)
	r.a.Stop()
	a := r.post("x", "{}")
	if a.code != 503 || a.failure.Type != "pool_not_available" || !strings.Contains(a.failure.Message, "slot a (v1)") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if n := len(r.b.Calls()); n != 0 {
		t.Errorf("%d requests reached the canary at weight 0", n)
	}
	if got := r.revisionFigures("r1"); got.Unavailable != 1 || got.Infrastructure != 0 {
		t.Errorf("counted for the stable as %+v", got)
	}
}

func TestCanaryGetsNothingBeforeItHasBeenReady(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" }), nil)
	r.b.Unready(true)
	if err := r.Apply(t.Context(), at(snapshot(5000), 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, b := r.burst(101); b != 0 {
		t.Errorf("%d requests went to a canary without workers", b)
	}
	r.b.Unready(false)
	r.until(func() bool { return r.slots["b"].Ready("r2") })
	if _, b := r.burst(100); b != 50 {
		t.Errorf("%d of its first 100 requests went to the canary, want 50", b)
	}
}

// TestO15_CanaryThatIsNotServingDoesNotCount: a restarted slot that has workers, and hasn't taken its configuration from
// this router yet, gets no requests and counts none.
func TestO15_CanaryThatIsNotServingDoesNotCount(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	r.b.Deaf(true)
	r.b.Stop()
	r.until(func() bool { return !r.slots["b"].Serving() })
	r.b.Start()
	r.until(func() bool {
		r.b.Report()
		return r.slots["b"].Ready("r2")
	})
	if slot := r.post("x", "{}").slot(); slot != "a" {
		t.Errorf("slot %q answered while b isn't configured, want a", slot)
	}
	r.b.Deaf(false)
	r.b.Stop() // the router asks again once it has a new connection
	r.b.Start()
	r.until(func() bool { return r.slots["b"].Serving() && r.slots["b"].Ready("r2") })
	for i, want := range []string{"a", "b", "a", "b"} {
		if slot := r.post("x", "{}").slot(); slot != want {
			t.Errorf("request %d went to slot %q, want %q", i+1, slot, want)
		}
	}
}

func TestStableThatNeverWasUpIsWaitedFor(t *testing.T) {
	r := newRig(t, nil, nil)
	r.a.Stop()
	if err := r.Router.start(snapshot(1000)); err != nil {
		t.Fatal(err)
	}
	r.until(func() bool { return r.slots["b"].Ready("r2") })
	answered := make(chan string)
	go func() { answered <- r.post("x", "{}").slot() }()
	r.until(func() bool { return r.waiting.Load() == 1 })
	r.a.Start()
	if slot := <-answered; slot != "a" {
		t.Errorf("slot %q answered, want a", slot)
	}
}

func TestVersionIsAskedFor(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	if _, b := r.burst(20, "Workerpool-Version", "v2"); b != 20 {
		t.Errorf("%d of 20 requests for v2 were answered by it", b)
	}
	if a, _ := r.burst(20, "Workerpool-Version", "v1"); a != 20 {
		t.Errorf("%d of 20 requests for v1 were answered by it", a)
	}
	if n := r.revisionFigures("r1").Requests + r.revisionFigures("r2").Requests; n != 0 {
		t.Errorf("%d tests are in the figures that a rollout is decided by", n)
	}
	t.Run("and doesn't count in the split", func(t *testing.T) {
		r.apply(at(snapshot(1000), 1, 1))
		for i := 1; i <= 30; i++ {
			r.post("x", "{}", "Workerpool-Version", "v1")
			want := "a"
			if i%10 == 0 {
				want = "b"
			}
			if got := r.post("x", "{}").slot(); got != want {
				t.Errorf("request %d went to slot %q, want %q", i, got, want)
			}
		}
	})
	t.Run("and isn't there", func(t *testing.T) {
		r.apply(at(changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" }), 1, 2))
		a := r.post("x", "{}", "Workerpool-Version", "v2")
		if a.code != 409 || a.failure.Type != string(VersionNotServed) || !strings.Contains(a.failure.Message, "serves v1 now") {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	t.Run("and leaves while it is waited for", func(t *testing.T) {
		r := newRig(t, snapshot(0), nil)
		r.b.Stop()
		r.until(func() bool { return !r.slots["b"].Serving() })
		answered := make(chan *answer)
		go func() { answered <- r.post("x", "{}", "Workerpool-Version", "v2") }()
		r.until(func() bool { return r.waiting.Load() == 1 })
		r.apply(at(changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" }), 1, 1))
		if a := <-answered; a.code != 409 || a.failure.Type != string(VersionNotServed) {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	t.Run("and is away", func(t *testing.T) {
		r.a.Stop()
		a := r.post("x", "{}", "Workerpool-Version", "v1", "Workerpool-Deadline", "50ms")
		if a.code != 503 || a.failure.Type != "pool_not_available" {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
}

func TestSlotRestartLosesNoWaitingRequest(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.a.Stop()
	r.until(func() bool { return !r.slots["a"].Serving() })
	const callers = 20
	answers := make(chan *answer, callers)
	for range callers {
		go func() { answers <- r.post("x", "{}") }()
	}
	r.until(func() bool { return r.waiting.Load() == callers })
	r.a.Start()
	for range callers {
		if a := <-answers; a.slot() != "a" {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	if n := len(r.b.Calls()); n > 0 {
		t.Errorf("%d requests went to the canary at weight 0", n)
	}
}

func TestSlotAwayGoesToTheOther(t *testing.T) {
	t.Run("canary away", func(t *testing.T) {
		r := newRig(t, snapshot(5000), nil)
		r.b.Stop()
		r.until(func() bool { return !r.slots["b"].Serving() })
		if a, _ := r.burst(100); a != 100 {
			t.Errorf("the stable answered %d of 100", a)
		}
		r.b.Start()
		r.until(func() bool { return r.slots["b"].Ready("r2") })
		if _, b := r.burst(100); b != 50 {
			t.Errorf("after its return the canary got %d of 100, want 50", b)
		}
	})
	t.Run("stable away", func(t *testing.T) {
		r := newRig(t, snapshot(1000), nil)
		r.a.Stop()
		r.until(func() bool { return !r.slots["a"].Serving() })
		if _, b := r.burst(100); b != 100 {
			t.Errorf("the canary, which has a weight, answered %d of 100", b)
		}
	})
}

func TestSlotThatTurnsAwayLeavesItToTheOther(t *testing.T) {
	refuse := false
	var mu sync.Mutex
	r := newRig(t, snapshot(5000), map[string]slottest.Handler{
		"x": func(_ context.Context, call slottest.Call) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			if call.Revision == "r2" && refuse {
				return "", pool.NewError(pool.ResourceError, pool.NotAvailable, "its workers don't start")
			}
			return map[string]string{"r1": `"a"`, "r2": `"b"`}[call.Revision], nil
		},
	})
	mu.Lock()
	refuse = true
	mu.Unlock()
	if a, _ := r.burst(100); a != 100 {
		t.Errorf("the stable answered %d of 100", a)
	}
	got := r.revisionFigures("r2")
	if got.Requests != 50 || got.Unavailable != 50 {
		t.Errorf("the 50 that the canary turned away are counted as %+v", got)
	}
	if got := r.revisionFigures("r1"); got.Requests != 100 || got.Infrastructure != 0 {
		t.Errorf("the stable's 100 successes are counted as %+v", got)
	}
}

// TestTriesAtAnUnreachableSlotDoNotCount: a slot that takes no connection for a while, and then turns the request away,
// still leaves it to the other.
func TestTriesAtAnUnreachableSlotDoNotCount(t *testing.T) {
	r := newRig(t, snapshot(1), map[string]slottest.Handler{
		"x": func(_ context.Context, call slottest.Call) (string, error) {
			if call.Revision == "r1" {
				return "", pool.NewError(pool.ResourceError, pool.NotAvailable, "its workers don't start")
			}
			return `"b"`, nil
		},
	})
	away := r.a.Socket + ".away"
	if err := os.Rename(r.a.Socket, away); err != nil {
		t.Fatal(err)
	}
	deaf, err := net.Listen("unix", r.a.Socket)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan *answer)
	go func() { answered <- r.post("x", "{}") }()
	for range 2 * maxAttempts {
		conn, err := deaf.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	if err := os.Rename(away, r.a.Socket); err != nil {
		t.Fatal(err)
	}
	deaf.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = deaf.Close()
	if a := <-answered; a.slot() != "b" {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestNothingThatWasSentIsSentAgain(t *testing.T) {
	entered := make(chan struct{})
	r := newRig(t, snapshot(5000), map[string]slottest.Handler{
		"die": func(context.Context, slottest.Call) (string, error) {
			close(entered)
			time.Sleep(50 * time.Millisecond) // longer than Stop needs to close the connections
			return `"late"`, nil
		},
	})
	go func() { <-entered; r.a.Stop() }()
	a := r.post("die", "{}")
	if a.code != 502 || a.failure.Type != "port_exited" {
		t.Errorf("%d %s", a.code, a.body)
	}
	if n := len(r.a.Calls()) + len(r.b.Calls()); n != 1 {
		t.Errorf("the request was sent %d times", n)
	}
}

func TestUnconfiguredRouterSaysSo(t *testing.T) {
	r := newRig(t, nil, nil)
	a := r.post("x", "{}", "Workerpool-Deadline", "20ms")
	if a.code != 503 || !strings.Contains(a.failure.Message, "no configuration yet") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := r.send(http.MethodGet, "/v1/status", http.NoBody); !strings.Contains(a.body, `"configured":false`) {
		t.Errorf("status %s", a.body)
	}
	answered := make(chan *answer)
	go func() { answered <- r.post("x", "{}") }()
	r.apply(at(snapshot(0), 1, 1))
	if a := <-answered; a.slot() != "a" {
		t.Errorf("a request that came before the configuration got %d %s", a.code, a.body)
	}
}
