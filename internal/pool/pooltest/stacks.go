package pooltest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// hanging is what becomes of operations that don't end by themselves: where they were is told, then they are ended.
var hanging = map[string]story{
	"TestP30_StackOfASleep":          func(b *bench) { b.hanging().tellsStack("nap", "deeper", "nap") },
	"TestP30_StackOfABusyLoop":       func(b *bench) { b.hanging().tellsStack("loop_in_python", "loop_in_python") },
	"TestP30_StackOfADeafHandler":    func(b *bench) { b.hanging().tellsStack("swallow", "swallow") },
	"TestP30_StackOfASuspendedTask":  func(b *bench) { b.hanging().tellsStack("suspended", "wait", "suspended") },
	"TestP30_StackOfAHeldUpLoop":     func(b *bench) { b.hanging().tellsStack("hold_up", "hold_up") },
	"TestP30_StackOfAStoppedProcess": func(b *bench) { b.hanging().tellsNoStack("freeze", "(none: the worker is stopped)") },

	"TestP30_StackOfALoopInC": func(b *bench) {
		s := b.hanging()
		if b.shared { // it runs in a thread, and lets no other do anything
			s.tellsNoStack("loop_in_c", "(none: another call holds up the worker's interpreter)")
			return
		}
		s.tellsStack("loop_in_c", "loop_in_c")
	},

	"TestP54_StackHoldsNoValues": func(b *bench) {
		s := b.hanging()
		const secret = "sk-very-secret"
		s.limits.Operation = b.patience
		s.Configure(s.limits)
		_, err := s.callAs(b.Context(), "secretive", args{"key": secret}, time.Now().Add(hangs))
		if text := fmt.Sprint(err, err.Context); strings.Contains(text, secret) {
			b.Errorf("a value is in the error: %s", text)
		}
	},

	"TestP28_StackTakesNoLongerThanItsBound": func(b *bench) {
		s := b.hanging()
		for _, command := range []string{"freeze", "loop_in_c"} {
			begin := time.Now()
			_, err := s.callAs(b.Context(), command, nil, begin.Add(hangs))
			s.wants(err, pool.TimeoutError, pool.CommandTimeout)
			if took := time.Since(begin); took > hangs+500*time.Millisecond {
				b.Errorf("%s: the error came after %s; the deadline was %s, and a stack takes 50 ms at most", command, took, hangs)
			}
			s.awaitReady(1)
		}
	},

	"TestP29_StackOfACancelledOperationIsLogged": func(b *bench) {
		s := b.hanging()
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan *pool.Error, 1)
		go func() {
			_, err := s.callAs(ctx, "nap", nil, time.Time{})
			ended <- err
		}()
		s.await("one running", func(st pool.Stats) bool { return st.Busy == 1 })
		time.Sleep(100 * time.Millisecond) // into the handler: nothing tells from outside
		cancel()
		s.wants(<-ended, pool.RequestError, pool.Cancelled)
		b.until("the stack in the log", func() bool {
			return b.logs.matching(func(l line) bool { return strings.Contains(l.attributes["stack"].String(), "in deeper") }) == 1
		})
	},
}

// hangs is when what hangs is given up: it has begun by then.
const hangs = 300 * time.Millisecond

// hanging starts a pool of one worker with handlers that hang.
func (b *bench) hanging() *subject {
	b.Helper()
	b.spec.Module = "hang"
	return b.ready()
}

// tellsStack checks that the error of a handler which hangs names functions of its module, the most recent call first,
// and the line that is marked with the handler's name.
func (s *subject) tellsStack(command string, functions ...string) {
	s.Helper()
	stack := s.stackOf(command)
	at := 0
	for i, function := range functions {
		call := ", in " + function + "\n"
		if i == 0 {
			call = fmt.Sprintf("/hang.py\", line %d, in %s\n", s.lineOf(command), function)
		}
		found := strings.Index(stack[at:]+"\n", call)
		if found < 0 {
			s.Errorf("the stack of %s lacks %q, in this order:\n%s", command, call, stack)
			return
		}
		at += found + len(call) - 1
	}
	if strings.Contains(stack, "poolworker") {
		s.Errorf("the machinery is in the stack of %s:\n%s", command, stack)
	}
}

func (s *subject) tellsNoStack(command, why string) {
	s.Helper()
	if stack := s.stackOf(command); stack != why {
		s.Errorf("the stack of %s is %q, want %q", command, stack, why)
	}
}

// stackOf has a handler run out of time and returns the stack in its error; again, should the machine have been too busy
// for the worker to tell it.
func (s *subject) stackOf(command string) (stack string) {
	s.Helper()
	s.until("a stack", func() bool {
		s.awaitReady(1)
		_, err := s.callAs(s.Context(), command, nil, time.Now().Add(hangs))
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		stack, _ = err.Context["stack"].(string)
		return !strings.Contains(stack, "gave none within")
	})
	return stack
}

// lineOf finds the line of the module that ends with a mark.
func (s *subject) lineOf(mark string) int {
	_, file, _, _ := runtime.Caller(0)
	source, err := os.ReadFile(filepath.Join(filepath.Dir(file), "testdata", "hang.py"))
	if err != nil {
		s.Fatal(err)
	}
	for i, text := range strings.Split(string(source), "\n") {
		if strings.HasSuffix(text, "  # "+mark) {
			return i + 1
		}
	}
	s.Fatalf("no line of hang.py is marked %s", mark)
	return 0
}

// ladder is how a worker of its own is ended in the midst of an operation.
var ladder = map[string]story{
	"TestP30_EachStepHasItsTime": func(b *bench) {
		s := b.hanging()
		path := filepath.Join(b.TempDir(), "seen")
		_, err := s.callAs(b.Context(), "deaf", args{"path": path}, time.Now().Add(hangs))
		s.wants(err, pool.TimeoutError, pool.CommandTimeout)
		b.until("its worker ended", func() bool { return s.Stats().Exits["timeout"] == 1 })
		seen := map[string]float64{}
		text, _ := os.ReadFile(path)
		for entry := range strings.Lines(string(text)) {
			what, value, _ := strings.Cut(strings.TrimSpace(entry), " ")
			if seen[what], _ = strconv.ParseFloat(value, 64); value == "of the grandchild" {
				seen[what] = 1
			}
		}
		asked, ended := seen["KeyboardInterrupt"], seen["SystemExit"]
		if asked == 0 || ended-asked < 0.2 || ended-asked > 1 {
			b.Errorf("SIGINT at %.3f, SIGTERM at %.3f; want the latter a quarter of a second later; seen:\n%s", asked, ended, text)
		}
		if seen["SIGTERM"] == 0 {
			b.Errorf("what the handler had started wasn't told to end; seen:\n%s", text)
		}
		pid := int(seen["up"])
		if pid == 0 {
			b.Fatalf("the handler hasn't started anything; seen:\n%s", text)
		}
		b.until("what the handler had started is gone", func() bool { return !alive(pid) })
	},
}
