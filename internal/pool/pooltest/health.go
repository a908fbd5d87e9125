package pooltest

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// health is what a pool says of workers that don't answer.
var health = map[string]story{
	"TestP95_AllWorkersStoppedWhileIdle": func(b *bench) {
		b.limits.Size = 2
		s, more := b.starting(2)
		before := s.Stats()
		b.stop(before.Workers...)
		st := s.awaitUnhealthy()
		if st.Requests != 0 || st.Exits["hung"] != 2 || st.Crashed != 0 {
			b.Errorf("requests %d, exits %v, crashed %d; want 0, two hung, 0", st.Requests, st.Exits, st.Crashed)
		}
		more()
		s.awaitHealthy()
		s.awaitReady(2)
		s.must("echo", args{"value": 1})
	},

	"TestP95_AllWorkersStoppedWhileBusy": func(b *bench) {
		b.limits.Operation = 500 * time.Millisecond
		s, more := b.starting(1)
		s.must("echo", args{"value": "one that ends well, before"})
		running := s.async("hold", args{"path": "/never"})
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		b.stop(s.Stats().Workers...)
		s.wants((<-running).err, pool.TimeoutError, pool.CommandTimeout)
		s.awaitUnhealthy()
		s.limits.Operation = b.patience
		s.Configure(s.limits)
		waiting := s.async("echo", args{"value": "one that ends well, after"})
		more()
		if r := <-waiting; r.err != nil {
			b.Fatal(r.err)
		}
		s.awaitHealthy()
	},

	"TestP95_OneOfTwoStopped": func(b *bench) {
		b.limits.Size = 2
		s, more := b.starting(2)
		b.stop(s.Stats().Workers[0])
		s.await("the hung one ended", func(st pool.Stats) bool { return st.Exits["hung"] == 1 })
		s.staysHealthy(200 * time.Millisecond)
		more()
		s.awaitReady(2)
	},

	"TestP96_BusyWorkersAreHealthy": func(b *bench) {
		b.limits.Heartbeat = brisk
		s := b.ready()
		pid := s.pid()
		running := s.occupy()
		s.staysHealthy(brisk.Patience + 5*brisk.Every)
		running.release()
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d for an operation that took long", pid, again)
		}
	},

	"TestP96_PingsAreNoRequests": func(b *bench) {
		b.limits.Size, b.limits.Heartbeat = 2, pool.Heartbeat{Every: 20 * time.Millisecond, Patience: b.patience}
		b.limits.Recycle.MaxIdle = time.Second
		pings := &atomic.Int64{}
		s := b.startWith(func() (crew.Worker, error) {
			w, err := b.launch()
			if err != nil {
				return nil, err
			}
			return pinged{w, pings}, nil
		})
		s.awaitUp(2)
		s.await("recycled for having been idle, in spite of pings", func(st pool.Stats) bool { return st.Exits["recycled"] > 0 })
		if st := s.Stats(); st.Requests != 0 || st.Service.Count != 0 || st.Exits["hung"] != 0 || pings.Load() < 10 {
			b.Errorf("requests %d, service %d, exits %v after %d pings; want 0, 0, none hung, at least 10", st.Requests, st.Service.Count, st.Exits, pings.Load())
		}
		for _, w := range s.Stats().Workers {
			if w.Requests != 0 {
				b.Errorf("worker %s counts %d requests", w.ID, w.Requests)
			}
		}
	},
}

// brisk is a heartbeat that a test can wait for.
var brisk = pool.Heartbeat{Every: 100 * time.Millisecond, Patience: time.Second}

// starting makes a pool of n workers, which have no successors until more is called, with a brisk heartbeat.
func (b *bench) starting(n int64) (s *subject, more func()) {
	b.Helper()
	b.limits.Heartbeat = brisk
	open := make(chan struct{})
	var started, opened atomic.Int64
	s = b.startWith(func() (crew.Worker, error) {
		if started.Add(1) > n {
			<-open
		}
		return b.launch()
	})
	more = func() {
		if opened.Add(1) == 1 {
			close(open)
		}
	}
	b.Cleanup(more) // before the pool ends
	s.awaitUp(int(n))
	return s, more
}

// stop has processes hang, as they look to the pool.
func (b *bench) stop(workers ...pool.WorkerStats) {
	b.Helper()
	for _, w := range workers {
		if err := syscall.Kill(w.PID, syscall.SIGSTOP); err != nil {
			b.Fatalf("stop %d: %v", w.PID, err)
		}
	}
}

func (s *subject) awaitUnhealthy() (st pool.Stats) {
	s.Helper()
	s.await("unhealthy", func(now pool.Stats) bool {
		st = now
		return st.Unhealthy != nil
	})
	u := st.Unhealthy
	if u.Reason != pool.ReasonWorkersHung || u.Since.IsZero() || u.Missed == 0 || !strings.Contains(u.Message, "slot's log") {
		s.Errorf("unhealthy says %+v", u)
	}
	return st
}

func (s *subject) awaitHealthy() {
	s.Helper()
	s.await("healthy again", func(st pool.Stats) bool { return st.Unhealthy == nil })
}

// staysHealthy looks for so long.
func (s *subject) staysHealthy(long time.Duration) {
	s.Helper()
	for until := time.Now().Add(long); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if u := s.Stats().Unhealthy; u != nil {
			s.Fatalf("unhealthy without a reason: %+v", u)
		}
	}
}

// pinged counts pings.
type pinged struct {
	crew.Worker
	pings *atomic.Int64
}

func (p pinged) Ping(ctx context.Context, deadline time.Time) worker.Reason {
	p.pings.Add(1)
	return p.Worker.Ping(ctx, deadline)
}
