package pooltest

import (
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var frames = map[string]story{
	"TestP37_UnsolicitedWhileIdle": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		s.must("unsolicited", args{"after_ms": 50})
		time.Sleep(200 * time.Millisecond) // until the frame is in the pipe: nobody is told of it
		if again := s.pid(); again == pid {
			b.Error("the worker is used although something unread was in its pipe")
		}
		if st := s.Stats(); st.Infrastructure != 0 {
			b.Errorf("%d infrastructure failures; the caller had not to notice", st.Infrastructure)
		}
	},

	"TestP41_OutputIsBoundedAndHarmless": func(b *bench) {
		s := b.ready()
		const lines = 50000
		s.must("shout", args{"lines": lines})
		worker := s.Stats().Workers[0].ID
		fromWorker := func(l line) bool { return l.attributes["worker"].String() == worker }
		logged := func() int { return b.logs.matching(fromWorker) }
		await(b.T, "dropped lines reported", func() bool {
			return b.logs.matching(func(l line) bool { return fromWorker(l) && l.message == "worker output dropped" }) > 0 || logged() == 0
		})
		if n := logged(); n == 0 || n > lines/10 {
			b.Errorf("%d of %d lines logged with the worker's id; want some, not all", n, lines)
		}
	},

	"TestP42_RandomBytesFailOnlyTheirOperation": func(b *bench) {
		s := b.ready()
		for _, length := range []int{1, 28, 4096} {
			_, err := s.callAs(b.Context(), "garbage", args{"length": length}, time.Now().Add(time.Second))
			if err == nil || !err.Infrastructure() {
				b.Errorf("%d random bytes: %v; want a failure of the infrastructure", length, err)
			}
			if v := s.must("echo", args{"value": length}); v != float64(length) {
				b.Errorf("after %d random bytes echo got %v", length, v)
			}
		}
	},

	"TestP49_SameTexts": func(b *bench) {
		b.limits.QueueLimit = 0
		s := b.ready()
		running := s.occupy(300)
		_, full := s.call("echo", nil)
		s.succeeded(running)
		_, unknown := s.call("nothing", nil)
		_, raised := s.call("fail", args{"text": "no"})
		_, past := s.callAs(b.Context(), "echo", nil, time.Now())
		_, slow := s.callAs(b.Context(), "sleep", args{"ms": 5000}, time.Now().Add(250*time.Millisecond))
		s.awaitReady(1)
		_, exited := s.call("end", args{"how": "os._exit", "code": 3})
		for _, c := range []struct {
			err  *pool.Error
			want string
		}{
			{full, "resource_error/queue_full: pool tested has 1 worker busy and 0 requests waiting (queueLimit); retry later or raise spec.queueLimit"},
			{unknown, "request_error/unknown_command: Unknown command: nothing"},
			{raised, "communication_error/python_error: ValueError: no"},
			{past, "timeout_error/deadline_exceeded: the request's deadline passed before a worker of pool tested took it, so it wasn't executed; give it more time"},
			{exited, "communication_error/port_exited: worker a-2 of pool tested exited with status 3 during command end and is replaced; its last output is in the slot's log"},
		} {
			if c.err == nil || c.err.Error() != c.want {
				b.Errorf("got  %v\nwant %s", c.err, c.want)
			}
		}
		s.wants(slow, pool.TimeoutError, pool.CommandTimeout)
	},
}
