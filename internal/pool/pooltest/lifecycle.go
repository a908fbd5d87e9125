package pooltest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

var lifecycle = map[string]story{
	"TestP2_StartsOverlap": func(b *bench) {
		b.limits.Size = 8
		b.spec.Env = append(b.spec.Env, "FIXTURE_RENDEZVOUS="+b.TempDir()+":8")
		b.start().awaitReady(8) // never, if one start waited for the end of another
	},

	"TestP6_BadInterpreter": func(b *bench) {
		b.spec.Python = "/nonexistent/python"
		boot := b.start().awaitBoot()
		if !strings.Contains(boot.Message, "/nonexistent/python") {
			b.Errorf("message %q doesn't name the interpreter", boot.Message)
		}
	},

	"TestP6_BadModule": func(b *bench) {
		b.spec.Module = "no_such_module"
		s := b.start()
		if boot := s.awaitBoot(); !strings.Contains(boot.Message, "no_such_module") {
			b.Errorf("message %q doesn't name the module", boot.Message)
		}
		begin := time.Now()
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.ResourceError, pool.NotAvailable)
		if waited := time.Since(begin); waited > 2*time.Second || !strings.Contains(err.Message, "no_such_module") {
			b.Errorf("refused after %s with %q; want at once, with the reason", waited, err.Message)
		}
	},

	"TestP7_InitTimeoutKillsGroup": func(b *bench) {
		file := filepath.Join(b.TempDir(), "child")
		b.spec.Env = append(b.spec.Env, "FIXTURE_CHILD="+file, "FIXTURE_IMPORT_SLEEP=600")
		b.spec.InitTimeout, b.unforkable = 2*time.Second, true
		s := b.start()
		child := 0
		b.until("child of the module", func() bool { child = readPID(file); return child != 0 })
		b.until("child killed with its group", func() bool { return !alive(child) })
		s.await("failure counted", func(st pool.Stats) bool { return st.Exits["boot"] > 0 })
		if boot := s.awaitBoot(); !strings.Contains(boot.Message, "after 2s") || !strings.Contains(boot.Message, "spec.timeouts.start") {
			b.Errorf("message %q lacks the limit, or the field that sets it", boot.Message)
		}
	},

	"TestP8_DeterministicBootFailure": func(b *bench) {
		b.limits.Size = 2
		b.spec.Module = "broken"
		s := b.start()
		boot := s.awaitBoot()
		if boot.Reason != "WorkerBootFailed" || !strings.Contains(boot.Traceback, "raise RuntimeError") || !boot.Next.After(time.Now().Add(-time.Minute)) {
			b.Errorf("boot failure %+v; want WorkerBootFailed, the module's own line, the next try", boot)
		}
		before := s.Stats().Spawned
		time.Sleep(2 * time.Second) // the span whose starts are counted
		if more := s.Stats().Spawned - before; more > 3 {
			b.Errorf("%d more starts within 2 s: a hot loop", more)
		}
	},

	"TestP9_ShutdownEndsQueuedSparesRunning": func(b *bench) {
		s := b.ready()
		running, queued := s.async("sleep", args{"ms": 500, "value": "kept"}), make(chan result, 1)
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		go func() { queued <- s.result("echo", args{"value": 1}) }()
		s.await("one queued", func(st pool.Stats) bool { return st.Queued == 1 })
		s.end()
		if r := <-running; r.err != nil || r.value != "kept" {
			b.Errorf("running operation ended with %v, %v; want its result", r.value, r.err)
		}
		s.wants((<-queued).err, pool.ResourceError, pool.NotAvailable)
		_, err := s.call("echo", args{"value": 1})
		s.wants(err, pool.ResourceError, pool.NotAvailable)
		if left := children(b); len(left) > 0 {
			b.Errorf("children %v are left", left)
		}
	},

	"TestP10_ShutdownDuringStart": func(b *bench) {
		b.limits.Size = 3
		b.spec.Env = append(b.spec.Env, "FIXTURE_IMPORT_SLEEP=600")
		s := b.start()
		processes := b.limits.Size
		if b.forked {
			processes = 1 // whose import they all wait for
		}
		s.await("processes", func(pool.Stats) bool { return len(children(b)) == processes })
		s.end()
		if left := children(b); len(left) > 0 {
			b.Errorf("children %v are left", left)
		}
	},

	"TestP12_ShutdownIdempotentAndBounded": func(b *bench) {
		s := b.ready()
		hung := s.async("burn", nil)
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		begin := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(b.Context(), 300*time.Millisecond)
				defer cancel()
				if err := s.Close(ctx); err != nil {
					b.Errorf("Close: %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took > 2*time.Second {
			b.Errorf("took %s with a grace of 300 ms", took)
		}
		s.wants((<-hung).err, pool.ResourceError, pool.NotAvailable)
	},
}

func (s *subject) awaitBoot() pool.BootFailure {
	s.Helper()
	var boot *pool.BootFailure
	s.await("boot failure reported", func(st pool.Stats) bool { boot = st.Boot; return boot != nil })
	return *boot
}

type result struct {
	value any
	err   *pool.Error
}

func (s *subject) result(command string, a args) result {
	v, err := s.call(command, a)
	return result{v, err}
}

// async runs a command in the background.
func (s *subject) async(command string, a args) <-chan result {
	ch := make(chan result, 1)
	go func() { ch <- s.result(command, a) }()
	return ch
}

// readPID returns the number in a file; 0 while there is none.
func readPID(path string) int {
	data, _ := os.ReadFile(path)
	pid, _ := strconv.Atoi(string(data))
	return pid
}
