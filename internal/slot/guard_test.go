package slot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// serving is a slot with so many workers, and a client of it.
func serving(t *testing.T, version pool.Version, size int) (r *rig, control, data *client) {
	t.Helper()
	r = newRig(t, nil)
	control, data = r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Version, c.Size = version, size })); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(size)
	return r, control, data
}

// callMarked is call of a request that may run more than once.
func (c *client) callMarked(command string, a any, budget time.Duration) (string, *pool.Error) {
	c.Helper()
	c.id++
	c.send(frame.Frame{
		Kind: frame.Request, ID: c.id, Flags: frame.FlagIdempotent, Meta: []byte(command), Payload: c.json(a), Budget: budget,
	})
	return c.reply(c.id)
}

func TestP52_OnlyWhatIsMarkedIsSentAgain(t *testing.T) {
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			_, control, data := serving(t, version, 2)
			plain, marked, often := filepath.Join(t.TempDir(), "plain"), filepath.Join(t.TempDir(), "marked"), filepath.Join(t.TempDir(), "often")

			_, err := data.call("exit_at_first", args{"path": plain})
			wants(t, err, pool.PortExited)
			if n := countLines(t, plain); n != 1 || !err.Sent || err.Context["attempts"] != nil {
				t.Errorf("executed %d times, sent %v, context %v; want once, sent, no attempts", n, err.Sent, err.Context)
			}

			got, err := data.callMarked("exit_at_first", args{"path": marked}, 0)
			if err != nil || got != "2" {
				t.Errorf("a marked request got %s, %v; want the result of its second execution", got, err)
			}

			_, err = data.callMarked("exit_at_first", args{"path": often, "times": 9}, 0)
			wants(t, err, pool.PortExited)
			if n := countLines(t, often); n != 3 || !err.Sent || err.Context["attempts"] != 3.0 {
				t.Errorf("executed %d times, sent %v, context %v; want 3 attempts, sent", n, err.Sent, err.Context)
			}
			if s := control.awaitReady(2); s.Crashed != 5 {
				t.Errorf("%d crashes are counted; want each of 5", s.Crashed)
			}
		})
	}
}

// TestP28_AttemptsShareOneBudget: each lasts less than the budget, all together more.
func TestP28_AttemptsShareOneBudget(t *testing.T) {
	_, _, data := serving(t, pool.V2, 2)
	const budget = 150 * time.Millisecond
	path, begin := filepath.Join(t.TempDir(), "marks"), time.Now()
	_, err := data.callMarked("exit_at_first", args{"path": path, "times": 9}, budget)
	if err == nil || !err.Sent {
		t.Fatalf("got %v; want a failure of what was sent", err)
	}
	if n, took := countLines(t, path), time.Since(begin); n > 2 || took > budget+time.Second {
		t.Errorf("executed %d times in %s; the third could begin only after the budget of %s", n, took, budget)
	}
}

func TestP52_NeitherErrorsNorTimeoutsAreTriedAgain(t *testing.T) {
	_, control, data := serving(t, pool.V2, 1)
	_, err := data.callMarked("fail", args{"text": "no"}, 0)
	wants(t, err, pool.PythonError)
	_, err = data.callMarked("sleep", args{"ms": 60000}, 200*time.Millisecond)
	wants(t, err, pool.CommandTimeout)
	if err.Context["attempts"] != nil {
		t.Errorf("context %v", err.Context)
	}
	control.awaitReady(1)
}

// TestP53_BreakerOfASlot: it opens at the fifth crash in a row, lets three probes through after its wait, in parallel, and
// closes.
func TestP53_BreakerOfASlot(t *testing.T) {
	r, control, data := serving(t, pool.V2, 4)
	crash := func(c *client) *pool.Error { _, err := c.call("end", args{"how": "os._exit"}); return err }
	for range 4 {
		wants(t, crash(data), pool.PortExited)
	}
	if got, err := data.call("echo", args{"value": 1}); err != nil || got != "1" {
		t.Fatalf("after four crashes: %s, %v", got, err)
	}
	for range 5 {
		wants(t, crash(data), pool.PortExited)
	}
	opened := time.Now()
	err := crash(data)
	if wants(t, err, pool.NotAvailable); err.Sent || !err.IsBreakerOpen() {
		t.Fatalf("refused with sent %v, context %v; want unsent, by the breaker", err.Sent, err.Context)
	}
	ms, _ := err.Context["retry_after_ms"].(float64)
	if ms <= 0 || ms > 10_000 {
		t.Errorf("it asks to wait %v ms; want what is left of 10 s", ms)
	}
	control.awaitReady(4)
	time.Sleep(time.Until(opened.Add(10 * time.Second)))

	path := filepath.Join(t.TempDir(), "go")
	probes := make([]*client, 3)
	ids := make([]uint64, len(probes))
	for i := range probes {
		probes[i] = r.connect(slotproto.Data, "i")
		ids[i] = probes[i].begin("hold", args{"path": path})
	}
	r.awaitBusy(len(probes)) // all at once
	if _, err := data.call("echo", args{"value": 1}); err == nil || !err.IsBreakerOpen() {
		t.Errorf("beside three probes: %v; want a refusal", err)
	}
	if _, err := r.connect(slotproto.Data, "i").call("mark", args{"path": path}); err == nil || !err.IsBreakerOpen() {
		t.Errorf("beside three probes: %v; want a refusal", err)
	}
	touch(t, path)
	for i, c := range probes {
		if got, err := c.reply(ids[i]); err != nil || got != `"held"` {
			t.Errorf("a probe got %s, %v", got, err)
		}
	}
	for i := range 4 {
		if got, err := data.call("echo", args{"value": i}); err != nil || got != strconv.Itoa(i) {
			t.Errorf("closed: %s, %v", got, err)
		}
	}
}

// TestP53_ErrorsOfHandlersAndTimeoutsDontOpenTheBreaker, which is for lost workers.
func TestP53_ErrorsOfHandlersAndTimeoutsDontOpenTheBreaker(t *testing.T) {
	_, control, data := serving(t, pool.V2, 1)
	for i := range 6 {
		_, err := data.call("fail", args{"text": fmt.Sprint(i)})
		wants(t, err, pool.PythonError)
	}
	for range 6 {
		data.id++
		data.send(frame.Frame{Kind: frame.Request, ID: data.id, Meta: []byte("sleep"), Payload: data.json(args{"ms": 60000}), Budget: 100 * time.Millisecond})
		_, err := data.reply(data.id)
		wants(t, err, pool.CommandTimeout)
		control.awaitReady(1)
	}
	if got, err := data.call("echo", args{"value": 1}); err != nil || got != "1" {
		t.Errorf("after failures that say nothing of the pool: %s, %v", got, err)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
