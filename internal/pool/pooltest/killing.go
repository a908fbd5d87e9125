package pooltest

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// blows are what befalls workers at random. A stopped one, which is the rarer as it costs its callers their whole time,
// hears nothing more and is found at a deadline.
var blows = []syscall.Signal{
	syscall.SIGKILL, syscall.SIGKILL, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGSEGV, syscall.SIGSEGV, syscall.SIGSTOP,
}

// killing hits random workers under load for so long. No more requests may fail than they can have been serving, each
// for a reason that fits, and what follows is right.
func (b *bench) killing(span time.Duration, concurrency int) {
	b.Helper()
	b.limits.Operation = 2 * time.Second // what a stopped worker costs; 400 times what a request takes
	s := b.ready()
	l := s.load(4 * concurrency)
	blown := map[string]int64{}
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(50*time.Millisecond + rand.N(50*time.Millisecond)) {
		if blow := blows[rand.IntN(len(blows))]; s.hit(blow) {
			blown[unix.SignalName(blow)]++
		}
	}
	l.end()
	s.wake()
	s.awaitReady(b.limits.Size)
	blown["all"] = blown["SIGKILL"] + blown["SIGSEGV"] + blown["SIGSTOP"]
	b.Logf("%d requests, %d of them failed, with %v", l.done.Load(), l.failed.Load(), blown)
	if failed, most := l.failed.Load(), blown["all"]*int64(concurrency); failed > most || most == 0 || l.done.Load() <= failed {
		b.Errorf("%d of %d failed with %d kills; want at most %d", failed, l.done.Load(), blown["all"], most)
	}
	for i := range 100 {
		if v := s.must("echo", args{"value": i}); v != float64(i) {
			b.Fatalf("afterwards got %v for %d", v, i)
		}
	}
}

// hit sends a signal to a worker that has started, if there is one.
func (s *subject) hit(blow syscall.Signal) bool {
	s.Helper()
	workers := s.Stats().Workers
	if len(workers) == 0 {
		return false
	}
	victim := workers[rand.IntN(len(workers))]
	if victim.State == "Starting" {
		return false
	}
	err := syscall.Kill(victim.PID, blow)
	if err != nil && !errors.Is(err, syscall.ESRCH) { // gone since Stats
		s.Fatalf("%v to worker %d: %v", blow, victim.PID, err)
	}
	return err == nil
}

// wake lets workers go on that were stopped while nobody used them.
func (s *subject) wake() {
	for _, w := range s.Stats().Workers {
		_ = syscall.Kill(w.PID, syscall.SIGCONT)
	}
}

// load is callers that call all the time, and what became of it.
type load struct {
	done, failed atomic.Int64
	stop         chan struct{}
	callers      sync.WaitGroup
}

// load fails the test when a caller gets another's answer, or an error that doesn't say what befell its worker.
func (s *subject) load(callers int) *load {
	l := &load{stop: make(chan struct{})}
	for caller := range callers {
		l.callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				value := strconv.Itoa(caller) + "/" + strconv.Itoa(n)
				switch v, err := s.call("sleep", args{"ms": 5, "value": value}); {
				case err == nil && v != value:
					s.Errorf("got %v for %s", v, value)
				case err != nil:
					l.failed.Add(1)
					if err.Type != pool.PortExited && err.Type != pool.CommandTimeout || strings.Contains(err.Message, "exited with") {
						s.Errorf("a request ended with %v", err)
					}
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

func (l *load) end() {
	close(l.stop)
	l.callers.Wait()
}
