package router

import (
	"context"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	total, owed := 0, 0.0
	for i, weight := range []uint32{1000, 2500, 25, 10_000, 0, 1000} {
		r.apply(at(snapshot(weight), 1, uint64(i+1)))
		before := r.revisionFigures("r2").Requests
		_, b := r.burst(1000)
		owed, total = owed+float64(weight)/10, total+b // 25 is 2.5 of 1000
		if math.Abs(float64(total)-owed) >= 1 {
			t.Errorf("weight %d: %d of 1000 requests went to the canary, %d in all, want %.1f", weight, b, total, owed)
		}
		if counted := r.revisionFigures("r2").Requests - before; counted != uint64(b) {
			t.Errorf("weight %d: %d requests counted for the canary, %d were answered by it", weight, counted, b)
		}
	}
}

// TestO15_EachCommandHasItsShare: whatever order they come in; programs and batches are requests of their command.
func TestO15_EachCommandHasItsShare(t *testing.T) {
	r := newRig(t, snapshot(1000), map[string]slottest.Handler{
		"summarize": func(context.Context, slottest.Call) (string, error) { return `{"outputs": []}`, nil },
	})
	if a := r.send("POST", "/v1/programs", strings.NewReader(`{"id": "p", "command": "plan"}`)); a.code != 201 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	canary := map[string]int{}
	for range 30 {
		for command, paths := range map[string][]string{
			"embed": {"/v1/commands/embed"}, "summarize": {"/v1/commands/summarize", "/v1/commands/summarize/batch"},
			"plan": {"/v1/programs/p/execute", "/v1/commands/plan"},
		} {
			for _, path := range paths {
				a := r.send("POST", path, strings.NewReader("{}"))
				if a.code != 200 {
					t.Fatalf("%s: %d %s", path, a.code, a.body)
				}
				if a.header.Get("Workerpool-Revision") == "r2" {
					canary[command]++
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"embed": 3, "summarize": 6, "plan": 6}, canary); diff != "" {
		t.Errorf("a tenth of each command's requests, at the canary (-want +got):\n%s", diff)
	}
}

// TestO15_PairsInTurn: each user calls embed, then summarize; at weight 50 the canary gets half of both.
func TestO15_PairsInTurn(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	canary := map[string]int{}
	for range 20 {
		for _, command := range []string{"embed", "summarize"} {
			if r.post(command, "{}").slot() == "b" {
				canary[command]++
			}
		}
	}
	if canary["embed"] != 10 || canary["summarize"] != 10 {
		t.Errorf("of 20 requests each the canary got %v", canary)
	}
}

func TestO17_WeightZero(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	r.burst(95) // half a request is owed, or has been given already
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
	for pair := range 4 {
		if one, other := r.post("x", "{}").slot(), r.post("x", "{}").slot(); one+other != "ab" && one+other != "ba" {
			t.Errorf("the %d. two requests went to slots %q and %q, want one to each", pair+1, one, other)
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
		for tenth := range 3 {
			canary := 0
			for range 10 {
				r.post("x", "{}", "Workerpool-Version", "v1")
				if r.post("x", "{}").slot() == "b" {
					canary++
				}
			}
			if canary != 1 {
				t.Errorf("of ten requests, the %d. time, %d went to the canary, want 1", tenth+1, canary)
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
	entered := make(chan string)
	r := newRig(t, snapshot(5000), map[string]slottest.Handler{
		"die": func(_ context.Context, call slottest.Call) (string, error) {
			entered <- call.Revision
			time.Sleep(50 * time.Millisecond) // longer than Stop needs to close the connections
			return `"late"`, nil
		},
	})
	go func() { map[string]*slottest.Slot{"r1": r.a, "r2": r.b}[<-entered].Stop() }()
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
