package slot_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestRequestThroughEachVersion(t *testing.T) {
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			r := newRig(t, nil)
			control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
			if err := control.configure(r.config(func(c *slotproto.Config) { c.Version = version })); err != nil {
				t.Fatal(err)
			}
			status := control.awaitReady(1)
			if status.Slot != "a" || status.Revision != "r1" || status.Version != version || status.Desired != 1 || status.RSS == 0 {
				t.Errorf("status %+v", status)
			}
			if got, err := data.call("echo", args{"value": "grüß"}); err != nil || got != `"grüß"` {
				t.Errorf("got %s, %v", got, err)
			}
			_, err := data.call("fail", args{"text": "no"})
			wants(t, err, pool.PythonError)
			if !err.Sent {
				t.Error("the failure of a handler isn't marked as sent")
			}
		})
	}
}

func TestPreload(t *testing.T) {
	for name, tc := range map[string]struct {
		env     string
		forked  bool
		refused string
	}{
		"forked":  {"", true, ""},
		"refused": {"FIXTURE_CHILD", false, "child process"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
			if err := control.configure(r.config(func(c *slotproto.Config) {
				c.Size, c.Worker.Preload = 2, slotproto.PreloadZygote
				if tc.env != "" {
					c.Worker.Env = []slotproto.EnvVar{{Name: tc.env, Value: filepath.Join(t.TempDir(), "pid")}}
				}
			})); err != nil {
				t.Fatal(err)
			}
			status := control.awaitReady(2)
			if !strings.Contains(status.ForkRefused, tc.refused) || (status.ForkRefused == "") != tc.forked {
				t.Errorf("forks are refused because of %q; want %q in it", status.ForkRefused, tc.refused)
			}
			imported, err := data.call("imported_in", args{})
			pid, failure := data.call("pid", args{})
			if err != nil || failure != nil || (imported != pid) != tc.forked {
				t.Errorf("worker %s had its module imported in %s (%v, %v); want it forked: %v", pid, imported, err, failure, tc.forked)
			}
		})
	}
}

func TestPreloadThatIsUnknownIsRefused(t *testing.T) {
	r := newRig(t, nil)
	err := r.connect(slotproto.Control, "i").configure(r.config(func(c *slotproto.Config) { c.Worker.Preload = "Warm" }))
	wants(t, err, pool.InvalidPayload)
	if !strings.Contains(err.Message, "Warm") {
		t.Errorf("message %q doesn't name it", err.Message)
	}
}

func TestP46_IdleSlotIsNotAvailable(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	_, err := data.call("echo", args{"value": 1})
	wants(t, err, pool.NotAvailable)
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	pid := control.awaitReady(1).Workers[0].PID
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Worker = nil })); err != nil {
		t.Fatal(err)
	}
	control.await("no worker", func(s slotproto.Status) bool { return s.Revision == "" && s.Destroyed == s.Spawned })
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("worker %d lives in an idle slot", pid)
	}
	_, err = data.call("echo", args{"value": 1})
	wants(t, err, pool.NotAvailable)
	if err.Sent || !strings.Contains(err.Message, "tested") {
		t.Errorf("sent %v, message %q", err.Sent, err.Message)
	}
}

// TestP91_LiveSwitch changes version under load, back and forth: each request has its one right answer.
func TestP91_LiveSwitch(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	cfg := r.config(func(c *slotproto.Config) { c.Size = 2 })
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(2)
	file := filepath.Join(t.TempDir(), "marks")
	var callers sync.WaitGroup
	var done atomic.Int64
	stop := make(chan struct{})
	for n := range 4 {
		data := r.connect(slotproto.Data, "i")
		callers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				want := fmt.Sprintf(`"%d/%d"`, n, i)
				if got, err := data.call("sleep", args{"ms": 5, "value": fmt.Sprintf("%d/%d", n, i)}); err != nil || got != want {
					t.Errorf("request %s got %s, %v", want, got, err)
				}
				if _, err := data.call("mark", args{"path": file}); err != nil {
					t.Errorf("mark: %v", err)
				}
				done.Add(1)
			}
		})
	}
	for i := range 4 {
		cfg.Revision, cfg.Version = fmt.Sprint("s", i), []pool.Version{pool.V1, pool.V2}[i%2]
		if err := control.configure(cfg); err != nil {
			t.Fatal(err)
		}
		control.await("switch done", func(s slotproto.Status) bool {
			return s.Revision == cfg.Revision && s.Starting == 0 && s.Spawned-s.Destroyed == 2
		})
	}
	close(stop)
	callers.Wait()
	if marks := countLines(t, file); marks != int(done.Load()) || marks == 0 {
		t.Errorf("%d operations were done for %d requests", marks, done.Load())
	}
}

func TestSameConfigurationChangesNothing(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	for range 3 {
		if err := control.configure(r.config(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if s := control.awaitReady(1); s.Spawned != 1 {
		t.Errorf("%d workers started for one configuration given three times", s.Spawned)
	}
}

func TestP92_LimitsChangeLive(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	var pids []int
	for _, size := range []int{1, 3, 2} {
		if err := control.configure(r.config(func(c *slotproto.Config) { c.Size = size })); err != nil {
			t.Fatal(err)
		}
		s := control.awaitReady(size)
		if s.Desired != size {
			t.Errorf("desired %d, want %d", s.Desired, size)
		}
		if len(pids) == 1 && s.Workers[0].PID != pids[0] {
			t.Error("growing replaced the worker that was there")
		}
		pids = pids[:0]
		for _, w := range s.Workers {
			pids = append(pids, w.PID)
		}
	}
}

// TestP86_RecyclingChangesLive: the running worker is measured by a limit that came after it.
func TestP86_RecyclingChangesLive(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	cfg := r.config(nil)
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	before := control.awaitReady(1)
	cfg.Recycle.MaxRequests = 1
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := data.call("echo", args{"value": 1}); err != nil {
		t.Fatal(err)
	}
	control.await("another worker, and no other pool", func(s slotproto.Status) bool {
		return s.Ready == 1 && s.Spawned == 2 && s.Destroyed == 1 && s.Crashed == 0 && s.Workers[0].PID != before.Workers[0].PID
	})
	cfg.Recycle.MaxAge = -time.Second
	if err := control.configure(cfg); err == nil || !strings.Contains(err.Message, "worker.recycle") {
		t.Errorf("a negative limit: %v, want a refusal that names it", err)
	}
}

// TestP98_FiguresOfASlot: what workers hold is summed up, and the CPU time of one that has ended isn't lost.
func TestP98_FiguresOfASlot(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	cfg := r.config(func(c *slotproto.Config) { c.Size = 2 })
	if err := control.configure(cfg); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(2)
	if _, err := data.call("spin", args{"ms": 300}); err != nil {
		t.Fatal(err)
	}
	control.await("the figures of both", func(s slotproto.Status) bool {
		var memory uint64
		var fds int
		for _, w := range s.Workers {
			memory, fds = memory+w.PSS+w.Swap, fds+w.FDs
		}
		return len(s.Workers) == 2 && s.Workers[1].PSS > 0 && s.Memory == memory && s.FDs == fds && fds >= 10 && s.CPU >= 0.3
	})
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Worker = nil })); err != nil {
		t.Fatal(err)
	}
	control.await("the CPU time alone left", func(s slotproto.Status) bool {
		return s.Destroyed == 2 && s.Memory == 0 && s.FDs == 0 && s.CPU >= 0.3
	})
}

func TestSizeIsCappedByTheContainer(t *testing.T) {
	r := newRig(t, func(o *slot.Options) { o.MaxWorkers = 2 })
	control := r.connect(slotproto.Control, "i")
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Size = 4 })); err != nil {
		t.Fatal(err)
	}
	if s := control.awaitReady(2); !s.Capped || s.Desired != 2 || s.MaxWorkers != 2 {
		t.Errorf("capped %v, desired %d, max %d; want true, 2, 2", s.Capped, s.Desired, s.MaxWorkers)
	}
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Size = 2 })); err != nil {
		t.Fatal(err)
	}
	control.await("not capped", func(s slotproto.Status) bool { return !s.Capped })
}

func TestP8_BootFailureIsAStateOfTheSlot(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*slotproto.Config)
		want   string
	}{
		"a module that fails":       {func(c *slotproto.Config) { c.Worker.Module = "broken" }, "broken"},
		"P114_no such interpreter":  {func(c *slotproto.Config) { c.Worker.Python = "/nowhere/python" }, "/nowhere/python"},
		"a folder that isn't there": {func(c *slotproto.Config) { c.Worker.WorkingDir = "/nowhere" }, "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
			if err := control.configure(r.config(tc.change)); err != nil {
				t.Fatal(err)
			}
			s := control.await("boot failure", func(s slotproto.Status) bool { return s.Boot != nil })
			if s.Boot.Reason != "WorkerBootFailed" || !strings.Contains(s.Boot.Message, tc.want) {
				t.Errorf("boot %+v", s.Boot)
			}
			_, err := data.call("echo", args{"value": 1})
			wants(t, err, pool.NotAvailable)
			if err := control.configure(r.config(nil)); err != nil {
				t.Fatal(err)
			}
			if s := control.awaitReady(1); s.Boot != nil {
				t.Errorf("boot %+v after a good configuration", s.Boot)
			}
		})
	}
}

// TestP7_TheStartLimitChangesLive: a start that takes too long is told with the limit, and the next one has the new limit.
func TestP7_TheStartLimitChangesLive(t *testing.T) {
	for _, preload := range []slotproto.Preload{"", slotproto.PreloadZygote} {
		t.Run("preload "+string(preload), func(t *testing.T) {
			r := newRig(t, nil)
			control := r.connect(slotproto.Control, "i")
			slow := func(limit time.Duration) slotproto.Config {
				return r.config(func(c *slotproto.Config) {
					c.Start, c.Worker.Preload = limit, preload
					c.Worker.Env = []slotproto.EnvVar{{Name: "FIXTURE_IMPORT_SLEEP", Value: "1.5"}, {Name: "FIXTURE_IMPORT_SAY", Value: "loading\x1b[1m weights"}}
				})
			}
			if err := control.configure(slow(time.Second)); err != nil {
				t.Fatal(err)
			}
			control.await("how the start gets on", func(s slotproto.Status) bool {
				return s.Startup != nil && !s.Startup.Since.IsZero() && s.Startup.Limit == time.Second && s.Startup.Line == "loading[1m weights"
			})
			control.await("failure", func(s slotproto.Status) bool {
				return s.Boot != nil && strings.Contains(s.Boot.Message, "after 1s") && strings.Contains(s.Boot.Message, "spec.timeouts.start")
			})
			if err := control.configure(slow(patience)); err != nil {
				t.Fatal(err)
			}
			if s := control.awaitReady(1); s.Revisions[0].Destroyed == 0 || s.Startup != nil {
				t.Errorf("%+v, startup %+v; want the pool that there was, with another limit", s.Revisions, s.Startup)
			}
		})
	}
}

func TestP9_CloseLetsRunningRequestsFinish(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	id := data.begin("sleep", args{"ms": 400, "value": "kept"})
	r.awaitBusy(1)
	r.end()
	if got, err := data.reply(id); err != nil || got != `"kept"` {
		t.Errorf("got %s, %v; want the reply", got, err)
	}
}

func TestDrainTimeoutEndsWhatRuns(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(func(c *slotproto.Config) { c.Drain = 100 * time.Millisecond })); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	id := data.begin("burn", args{})
	r.awaitBusy(1)
	begin := time.Now()
	r.end()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %s with a drain timeout of 100 ms", took)
	}
	_, err := data.reply(id)
	wants(t, err, pool.NotAvailable)
}

// TestP95_StatusSaysThatWorkersHang: whatever the slot's only worker was asked took all of its time.
func TestP95_StatusSaysThatWorkersHang(t *testing.T) {
	r := newRig(t, nil)
	if err := r.slot.Configure(t.Context(), r.config(func(c *slotproto.Config) { c.Op = 300 * time.Millisecond })); err != nil {
		t.Fatal(err)
	}
	await := func(what string, wanted func(slotproto.Status) bool) {
		t.Helper()
		for until := time.Now().Add(patience); !wanted(r.slot.Status()); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("waited %s for: %s", patience, what)
			}
		}
	}
	await("a worker", func(st slotproto.Status) bool { return st.Ready == 1 })
	if _, err := r.slot.Do(t.Context(), pool.Request{Command: "freeze", Payload: []byte("{}")}); err == nil || err.Type != pool.CommandTimeout {
		t.Fatalf("freeze: %v; want a command_timeout", err)
	}
	await("unhealthy", func(st slotproto.Status) bool {
		return st.Unhealthy != nil && st.Unhealthy.Reason == pool.ReasonWorkersHung
	})
	await("healthy again, as its successor answers", func(st slotproto.Status) bool {
		return st.Unhealthy == nil && st.Ready == 1 && st.Exits["timeout"] == 1
	})
}
