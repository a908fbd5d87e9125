package pooltest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var timeouts = map[string]story{
	"TestP23_CheckoutTimeout": func(b *bench) {
		b.limits.Checkout = time.Millisecond
		s := b.ready()
		running := s.occupy(400)
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.TimeoutError, pool.CheckoutTimeout)
		if !strings.Contains(err.Message, name) {
			b.Errorf("message %q doesn't name the pool", err.Message)
		}
		s.succeeded(running)
	},

	"TestP24_QueueTimeoutLeavesQueueAndWorker": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		s.limits.Checkout = 50 * time.Millisecond
		s.Configure(s.limits)
		running := s.occupy(300)
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.TimeoutError, pool.CheckoutTimeout)
		if st := s.Stats(); st.Queued != 0 || st.Busy != 1 {
			b.Errorf("queued %d, busy %d after a queue timeout; want 0, 1", st.Queued, st.Busy)
		}
		s.succeeded(running)
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d", pid, again)
		}
	},

	"TestP26_PastDeadlineIsNotExecuted": func(b *bench) {
		s := b.ready()
		file := filepath.Join(b.TempDir(), "mark")
		_, err := s.callAs(b.Context(), "mark", args{"path": file}, time.Now().Add(-time.Second))
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		running := s.occupy(300)
		_, err = s.callAs(b.Context(), "mark", args{"path": file}, time.Now().Add(50*time.Millisecond))
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		s.succeeded(running)
		s.must("echo", args{"value": "a turn later"})
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			b.Errorf("a request past its deadline was executed (%v)", err)
		}
	},

	"TestP27_LateReply": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		late := 0
		for i := range 30 {
			// The reply is under way, there, or not, when the deadline comes.
			_, err := s.callAs(b.Context(), "sleep", args{"ms": 10, "value": i}, time.Now().Add(time.Duration(8+i%5)*time.Millisecond))
			if err != nil {
				late++
			}
			if got := s.must("echo", args{"value": -i}); got != float64(-i) {
				b.Fatalf("run %d got %v, the reply of another request", i, got)
			}
		}
		if late == 0 {
			b.Error("no operation timed out: the test has shown nothing")
		}
	},

	"TestP28_OneBudget": func(b *bench) {
		b.limits.Checkout, b.limits.Operation = 300*time.Millisecond, 400*time.Millisecond
		s := b.ready()
		running := s.occupy(250)
		begin := time.Now()
		_, err := s.call("sleep", args{"ms": 5000})
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		if took := time.Since(begin); took > 900*time.Millisecond {
			b.Errorf("took %s; queue + operation is 700 ms", took)
		}
		s.succeeded(running)
		s.awaitReady(1)
		begin = time.Now()
		_, err = s.callAs(b.Context(), "sleep", args{"ms": 5000}, time.Now().Add(100*time.Millisecond))
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		if took := time.Since(begin); took > 300*time.Millisecond {
			b.Errorf("took %s with a deadline after 100 ms", took)
		}
	},

	"TestP29_CancelledOperation": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		file := filepath.Join(b.TempDir(), "cleanup")
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan *pool.Error, 1)
		go func() {
			_, err := s.callAs(ctx, "careful", args{"ms": 60000, "path": file}, time.Time{})
			ended <- err
		}()
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		time.Sleep(50 * time.Millisecond) // into the handler: nothing tells from outside
		cancel()
		s.wants(<-ended, pool.RequestError, pool.Cancelled)
		await(b.T, "finally block of the handler", func() bool { _, err := os.Stat(file); return err == nil })
		if again := s.pid(); again == pid {
			b.Error("a worker that was interrupted is used again")
		}
	},

	"TestP30_HungInC": func(b *bench) { b.hangs("burn") },

	"TestP30_Stopped": func(b *bench) { b.hangs("freeze") },
}

// hangs shows that a worker which hears nothing is replaced at the deadline.
func (b *bench) hangs(command string) {
	b.limits.Operation = 300 * time.Millisecond
	s := b.ready()
	pid := s.pid()
	_, err := s.call(command, nil)
	s.wants(err, pool.TimeoutError, pool.CommandTimeout)
	if want := "after 300ms"; !strings.Contains(err.Message, want) {
		b.Errorf("message %q lacks %q", err.Message, want)
	}
	await(b.T, "hung worker killed", func() bool { return !alive(pid) })
	s.limits.Operation = patience
	s.Configure(s.limits)
	if again := s.pid(); again == pid {
		b.Error("the hung worker serves again")
	}
}

// occupy makes one worker busy and returns when it is.
func (s *subject) occupy(ms int) <-chan result {
	s.Helper()
	running := s.async("sleep", args{"ms": ms, "value": "slept"})
	s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
	return running
}

func (s *subject) succeeded(running <-chan result) {
	s.Helper()
	if r := <-running; r.err != nil || r.value != "slept" {
		s.Errorf("the running operation ended with %v, %v", r.value, r.err)
	}
}
