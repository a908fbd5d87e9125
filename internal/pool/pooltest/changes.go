package pooltest

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var changes = map[string]story{
	"TestP92_ScaleDownSparesBusy": func(b *bench) {
		b.limits.Size = 3
		s := b.ready()
		running := s.occupy()
		s.limits.Size = 1
		s.Configure(s.limits)
		s.await("idle ones retired", func(st pool.Stats) bool { return st.Exits["retired"] == 2 })
		running.release()
		s.awaitReady(1)
		if st := s.Stats(); st.Exits["retired"] != 2 || st.Crashed != 0 || st.Desired != 1 {
			b.Errorf("exits %v, crashed %d, desired %d; want 2 retired, 0, 1", st.Exits, st.Crashed, st.Desired)
		}
		s.limits.Size = 4
		s.Configure(s.limits)
		s.awaitReady(4)
	},

	"TestConfigureSparesWhatWaits": func(b *bench) {
		s := b.ready()
		running := s.occupy()
		waiting := s.async("sleep", args{"ms": 0, "value": "slept"})
		s.await("one waiting", func(st pool.Stats) bool { return st.Queued == 1 })
		s.limits.QueueLimit, s.limits.Operation = 0, s.limits.Operation-time.Millisecond
		s.Configure(s.limits)
		if st := s.Stats(); st.Queued != 1 || st.Limits != s.limits {
			b.Errorf("queued %d, limits %+v after Configure; want 1, %+v", st.Queued, st.Limits, s.limits)
		}
		running.release()
		s.succeeded(waiting)
	},

	"TestP94_P97_CountersMove": func(b *bench) {
		b.limits.Operation = 200 * time.Millisecond
		b.limits.QueueLimit = 0
		s := b.ready()
		s.must("echo", args{"value": 1})
		_, _ = s.call("fail", args{"text": "x"})
		_, _ = s.call("freeze", nil)
		s.awaitReady(1)
		_, _ = s.call("end", args{"how": "os._exit"})
		s.awaitReady(1)
		s.limits.Operation = b.patience
		s.Configure(s.limits)
		running := s.occupy()
		_, _ = s.call("echo", args{"value": 1})
		running.release()
		st := s.Stats()
		for what, n := range map[string]uint64{
			"Errors": st.Errors, "Timeouts": st.Timeouts, "Infrastructure": st.Infrastructure, "Shed": st.Shed, "Crashed": st.Crashed,
			"Exits[timeout]": st.Exits["timeout"], "Exits[exit 0]": st.Exits["exit 0"],
		} {
			if n != 1 {
				b.Errorf("%s is %d, want 1", what, n)
			}
		}
		if st.Requests != 6 || st.Wait.Count != 6 || st.Service.Count != 5 || st.Spawned != 3 || st.Destroyed != 2 || st.Start.Count != 3 {
			b.Errorf("requests %d, waits %d, services %d, spawned %d, destroyed %d, starts %d; want 6, 6, 5, 3, 2, 3",
				st.Requests, st.Wait.Count, st.Service.Count, st.Spawned, st.Destroyed, st.Start.Count)
		}
		if w := st.Workers[0]; w.Requests != 1 || w.RSS == 0 || w.PID == 0 || w.ID == "" {
			b.Errorf("worker %+v", w)
		}
	},
}

var serialOnly = map[string]story{
	"TestP13_OneAtATimeInOrder": func(b *bench) {
		b.limits.Size, b.limits.Overflow = 3, 2
		s, release, order := b.gated(3)
		ended := make(chan *pool.Error)
		for i := range 10 {
			go func() { ended <- s.do(b.Context(), byte(i)) }()
			s.await("submitted", func(st pool.Stats) bool { return st.Queued+st.Busy == i+1 })
		}
		if st := s.Stats(); st.Busy != 1 || st.Overflow != 0 {
			b.Errorf("busy %d, overflow %d; want 1, 0", st.Busy, st.Overflow)
		}
		close(release)
		for range 10 {
			if err := <-ended; err != nil {
				b.Errorf("do: %v", err)
			}
		}
		order.check(b, 10)
	},
}
