package pooltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var failures = map[string]story{
	"TestP44_PythonExceptionKeepsWorker": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		_, err := s.call("fail", args{"text": "out of ideas"})
		s.wants(err, pool.CommunicationError, pool.PythonError)
		if !strings.Contains(err.Message, "ValueError: out of ideas") {
			b.Errorf("message %q lacks the exception's text", err.Message)
		}
		if again := s.pid(); again != pid {
			b.Errorf("worker %d was replaced by %d", pid, again)
		}
	},

	"TestP45_FourPartsAlways": func(b *bench) {
		// callAs checks the four parts of every failure of every story; here is one of each origin.
		s := b.ready()
		for _, failing := range []func() *pool.Error{
			func() *pool.Error { _, err := s.call("fail", args{"text": "x"}); return err },
			func() *pool.Error { _, err := s.call("nothing", nil); return err },
			func() *pool.Error { _, err := s.call("end", args{"how": "os._exit"}); return err },
			func() *pool.Error { _, err := s.callAs(b.Context(), "echo", nil, time.Now()); return err },
		} {
			if err := failing(); err == nil {
				b.Error("succeeded; want a failure")
			}
		}
	},

	"TestP47_UnknownCommand": func(b *bench) {
		s := b.ready()
		_, err := s.call("nothing", nil)
		s.wants(err, pool.RequestError, pool.UnknownCommand)
		if err.Message != "Unknown command: nothing" {
			b.Errorf("message %q", err.Message)
		}
	},

	"TestP48_HalfFail": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if i%2 == 0 {
					if _, err := s.call("fail", args{"text": fmt.Sprint(i)}); err == nil || !strings.Contains(err.Message, fmt.Sprint(i)) {
						b.Errorf("failure %d got %v", i, err)
					}
					return
				}
				if v, err := s.call("echo", args{"value": i}); err != nil || v != float64(i) {
					b.Errorf("echo %d got %v, %v", i, v, err)
				}
			})
		}
		all.Wait()
		if st := s.Stats(); st.Errors != 20 || st.Requests != 40 || st.Destroyed != 0 {
			b.Errorf("errors %d of %d, workers destroyed %d; want 20 of 40, 0", st.Errors, st.Requests, st.Destroyed)
		}
	},

	"TestP72_KilledWhileIdle": func(b *bench) {
		b.limits.Size = 2
		s := b.ready()
		before := s.Stats()
		kill(b, before.Workers[0].PID)
		s.await("the dead one replaced, without traffic", func(st pool.Stats) bool {
			return st.Ready == 2 && st.Spawned == before.Spawned+1 && st.Crashed == 1 && st.Exits["SIGKILL"] == 1
		})
	},

	"TestP73_KilledWhileBusy": func(b *bench) {
		s := b.ready()
		pid := s.pid()
		running := s.occupy()
		kill(b, pid)
		r := <-running.result
		s.wants(r.err, pool.CommunicationError, pool.PortExited)
		if r.err.Context["signal"] != "SIGKILL" || !r.err.Sent {
			b.Errorf("context %v, sent %v; want signal SIGKILL, sent", r.err.Context, r.err.Sent)
		}
		if again := s.pid(); again == pid {
			b.Error("the dead worker answers")
		}
	},

	"TestP52_NeverSentTwice": func(b *bench) {
		s := b.ready()
		file := filepath.Join(b.TempDir(), "mark")
		_, err := s.call("mark_then_exit", args{"path": file})
		s.wants(err, pool.CommunicationError, pool.PortExited)
		if marks, _ := os.ReadFile(file); string(marks) != "executed\n" || !err.Sent {
			b.Errorf("sent %v, executed:\n%swant true, once", err.Sent, marks)
		}
	},

	"TestP74_KillOneHalfAll": func(b *bench) {
		b.limits.Size = 4
		s := b.ready()
		for _, victims := range []int{1, 2, 4} {
			before := s.Stats().Spawned
			for _, w := range s.Stats().Workers[:victims] {
				kill(b, w.PID)
				b.until("process dead", func() bool { return !alive(w.PID) })
			}
			s.await("ready workers", func(st pool.Stats) bool { // and not those that the pool hasn't missed yet
				return st.Spawned >= before+uint64(victims) && st.Ready == 4 && st.Starting == 0
			})
			for i := range 20 {
				if v := s.must("echo", args{"value": i}); v != float64(i) {
					b.Fatalf("echo %d got %v after %d were killed", i, v, victims)
				}
			}
		}
	},

	"TestP75_ConstantKilling": func(b *bench) {
		b.limits.Size = 2
		b.killing(3*time.Second, 1)
	},

	"TestP80_CrashLoop": func(b *bench) {
		b.spec.Env = append(b.spec.Env, "FIXTURE_DIE_IDLE=0.05")
		s := b.start()
		boot := s.awaitBoot()
		if !strings.Contains(boot.Message, "exited with status 9") {
			b.Errorf("message %q lacks how they end", boot.Message)
		}
		before := s.Stats().Spawned
		time.Sleep(2 * time.Second) // the span whose starts are counted
		if more := s.Stats().Spawned - before; more > 3 {
			b.Errorf("%d more starts within 2 s: a hot loop", more)
		}
	},

	// Only one worker can have what each takes at its start; it serves all the time, and no other one ever starts.
	"TestP80_OneOldSuccessForgivesNothing": func(b *bench) {
		b.limits.Size = 3
		b.spec.Env = append(b.spec.Env, "FIXTURE_ALONE="+filepath.Join(b.TempDir(), "port"))
		s := b.start()
		s.await("one ready", func(st pool.Stats) bool { return st.Ready == 1 })
		s.awaitBoot()
		before := s.Stats().Spawned
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // the span whose starts are counted
			s.must("echo", args{"value": 1})
			if st := s.Stats(); st.Boot == nil || !strings.Contains(st.Boot.Traceback, "flock") {
				b.Fatalf("boot %+v with %d of 3 ready; want the traceback all the time", st.Boot, st.Ready)
			}
		}
		if more := s.Stats().Spawned - before; more > 3 {
			b.Errorf("%d more starts within 2 s: a hot loop", more)
		}
		kill(b, s.pid()) // what it had is free, and the next one starts
		s.await("another one ready", func(st pool.Stats) bool { return st.Ready == 1 && st.Crashed == 1 })
	},
}

func kill(b *bench, pid int) {
	b.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.Fatalf("kill %d: %v", pid, err)
	}
}
