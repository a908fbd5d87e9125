package pooltest

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var frames = map[string]story{
	"TestP37_UnsolicitedWhileIdle": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		written := filepath.Join(b.TempDir(), "written")
		s.must("unsolicited", args{"after_ms": 50, "path": written})
		b.until("a frame in the pipe", func() bool { return exists(written) })
		if b.shared { // its pipe is read all the time, and perhaps not before the next request is in the other
			b.until("another worker", func() bool {
				again, err := s.call("pid", nil)
				return err == nil && again != float64(pid)
			})
			return
		}
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
		s.end()
		dropped := b.logs.matching(func(l line) bool { return fromWorker(l) && l.message == "worker output dropped" })
		if n := b.logs.matching(fromWorker); n == 0 || n > lines/10 || dropped == 0 {
			b.Errorf("%d of %d lines logged with the worker's id, %d notes of dropped ones; want some, not all, and a note", n, lines, dropped)
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

	"TestP38_OutputDoesntReachTheFrames": func(b *bench) {
		s := b.ready()
		for range 3 {
			if v := s.must("noisy", nil); v != "quiet" {
				b.Errorf("got %v", v)
			}
		}
	},

	"TestP39_NoCommand": func(b *bench) {
		s := b.ready()
		_, err := s.call("", nil)
		s.wants(err, pool.RequestError, pool.UnknownCommand)
	},

	"TestP43_FuzzedEcho": func(b *bench) {
		s := b.ready()
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			want := randomJSON(random, 4)
			if diff := cmp.Diff(want, s.must("echo", args{"value": want})); diff != "" {
				b.Fatalf("echo (-want +got):\n%s", diff)
			}
		}
	},

	"TestP49_SameTexts": func(b *bench) {
		b.limits.QueueLimit = 0
		s := b.ready()
		running := s.occupy()
		_, full := s.call("echo", nil)
		running.release()
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

// randomJSON makes any value that JSON can hold, as encoding/json would decode it.
func randomJSON(r *rand.Rand, depth int) any {
	switch kind := r.IntN(6); {
	case kind == 0:
		return nil
	case kind == 1:
		return r.IntN(2) == 0
	case kind == 2:
		return float64(r.Int64N(1<<53)) - 1<<52
	case kind == 3 || depth == 0:
		return randomText(r)
	case kind == 4:
		list := make([]any, r.IntN(6))
		for i := range list {
			list[i] = randomJSON(r, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range r.IntN(6) {
		object[randomText(r)] = randomJSON(r, depth-1)
	}
	return object
}

func randomText(r *rand.Rand) string {
	const alphabet = "aZ0 \"\\\n\t\x00/<>&äß→漢\U0001f600\u2028"
	letters := []rune(alphabet)
	var b strings.Builder
	for range r.IntN(40) {
		b.WriteRune(letters[r.IntN(len(letters))])
	}
	return b.String()
}
