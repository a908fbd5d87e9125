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
		running := s.occupy()
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.TimeoutError, pool.CheckoutTimeout)
		if !strings.Contains(err.Message, name) {
			b.Errorf("message %q doesn't name the pool", err.Message)
		}
		running.release()
	},

	"TestP24_QueueTimeoutLeavesQueueAndWorker": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		s.limits.Checkout = 50 * time.Millisecond
		s.Configure(s.limits)
		running := s.occupy()
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.TimeoutError, pool.CheckoutTimeout)
		if st := s.Stats(); st.Queued != 0 || st.Busy != 1 {
			b.Errorf("queued %d, busy %d after a queue timeout; want 0, 1", st.Queued, st.Busy)
		}
		running.release()
		s.limits.Checkout = b.patience
		s.Configure(s.limits)
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d", pid, again)
		}
	},

	"TestP110_HandlerSeesItsDeadline": func(b *bench) {
		b.limits.Operation = time.Hour
		s := b.ready()
		left := func(within time.Duration) float64 {
			v, err := s.callAs(b.Context(), "remaining", nil, time.Now().Add(within))
			seconds, ok := v.(float64)
			if err != nil || !ok {
				b.Fatalf("remaining: %v, %v", v, err)
			}
			return seconds
		}
		if own := left(30 * time.Second); own > 30 || own < 30-patience.Seconds() {
			b.Errorf("the handler of a request with 30 s sees %.3f s", own)
		}
		if operation := left(2 * time.Hour); operation > 3600 || operation < 3600-patience.Seconds() {
			b.Errorf("the handler of a request with 2 h, under an operation timeout of 1 h, sees %.3f s", operation)
		}
	},

	"TestP26_PastDeadlineIsNotExecuted": func(b *bench) {
		s := b.ready()
		file := filepath.Join(b.TempDir(), "mark")
		_, err := s.callAs(b.Context(), "mark", args{"path": file}, time.Now().Add(-time.Second))
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		running := s.occupy()
		_, err = s.callAs(b.Context(), "mark", args{"path": file}, time.Now().Add(50*time.Millisecond))
		s.wants(err, pool.TimeoutError, pool.DeadlineExceeded)
		running.release()
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
		b.limits.Operation = time.Second
		s := b.ready()
		running := s.occupy()
		begin := time.Now()
		const all = 400 * time.Millisecond
		next := make(chan result, 1)
		go func() {
			v, err := s.callAs(b.Context(), "sleep", args{"ms": 60000}, begin.Add(all))
			next <- result{v, err}
		}()
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		time.Sleep(time.Until(begin.Add(all / 2))) // half of the budget is spent on waiting
		running.release()
		s.wants((<-next).err, pool.TimeoutError, pool.CommandTimeout)
		if took := time.Since(begin); took < all || took >= all+b.limits.Operation/2 {
			b.Errorf("took %s; the budget for waiting and operation was %s", took, all)
		}
	},

	"TestP83_CallerGoneBeforeHandOver": func(b *bench) {
		s := b.ready()
		running := s.occupy()
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan *pool.Error, 1)
		go func() {
			_, err := s.callAs(ctx, "echo", args{"value": 1}, time.Time{})
			ended <- err
		}()
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		cancel()
		err := <-ended
		s.wants(err, pool.RequestError, pool.Cancelled)
		if err.Sent || s.Stats().Queued != 0 {
			b.Errorf("sent %v, queued %d; want false, 0", err.Sent, s.Stats().Queued)
		}
		running.release()
		s.awaitReady(1)
		if n := s.Stats().Spawned; n != 1 {
			b.Errorf("%d workers started; the one that was handed nothing is as good as before", n)
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
		b.until("finally block of the handler", func() bool { _, err := os.Stat(file); return err == nil })
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
	b.until("hung worker killed", func() bool { return !alive(pid) })
	s.limits.Operation = b.patience
	s.Configure(s.limits)
	if again := s.pid(); again == pid {
		b.Error("the hung worker serves again")
	}
}

// occupation is an operation that holds a worker until it is released.
type occupation struct {
	*subject
	file   string
	result <-chan result
}

// occupy returns when one worker is busy.
func (s *subject) occupy() *occupation {
	s.Helper()
	o := &occupation{subject: s, file: filepath.Join(s.TempDir(), "release")}
	o.result = s.async("hold", args{"path": o.file})
	s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
	return o
}

// release lets the operation end, and checks that it ends well.
func (o *occupation) release() {
	o.Helper()
	if err := os.WriteFile(o.file, nil, 0o600); err != nil {
		o.Fatal(err)
	}
	if r := <-o.result; r.err != nil || r.value != "held" {
		o.Errorf("the running operation ended with %v, %v", r.value, r.err)
	}
}
