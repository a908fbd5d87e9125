package worker

import (
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// Reason is why a worker was ended, or can't be used again.
type Reason string

// Reasons.
const (
	ReasonRetired   Reason = "retired"   // not needed any more
	ReasonRecycled  Reason = "recycled"  // replaced although nothing is wrong with it
	ReasonClosed    Reason = "closed"    // its pool ends
	ReasonTimeout   Reason = "timeout"   // an operation took all its time
	ReasonCancelled Reason = "cancelled" // its caller gave up
	ReasonProtocol  Reason = "protocol"  // it broke the protocol
	ReasonBoot      Reason = "boot"      // it didn't become ready
	ReasonExited    Reason = "exited"    // it ended by itself
	ReasonHung      Reason = "hung"      // it had nothing to do and didn't answer
)

// interruptGrace is the time between the interrupt of an operation and SIGTERM, and then that to SIGKILL.
const interruptGrace = 250 * time.Millisecond

// termGrace is the time between SIGTERM and SIGKILL of a worker that was asked to end before.
const termGrace = time.Second

// rung is one step of a kill ladder: an act, and how long it may take to work.
type rung struct {
	act  func()
	wait time.Duration
}

// Retire ends an idle worker politely: Shutdown and end of input, then SIGTERM, then SIGKILL, each with a timer of
// its own. It returns at once.
func (w *Worker) Retire(r Reason) {
	w.descend(r, []rung{
		{w.sayShutdown, w.grace()},
		{func() { w.proc.signalGroup(syscall.SIGTERM) }, termGrace},
		{func() { w.proc.signalGroup(syscall.SIGKILL) }, 0},
	})
}

// Interrupt ends a worker that is in the middle of an operation which nobody waits for any more: SIGINT, so that
// Python's finally blocks run, then SIGTERM, which also reaches processes that it has started, then SIGKILL. The interrupt
// can race the operation's end and can be swallowed, so a worker that was sent one is never used again. It returns at once.
func (w *Worker) Interrupt(r Reason) {
	w.descend(r, []rung{
		{w.sayInterrupt, interruptGrace},
		{func() { w.proc.signalGroup(syscall.SIGTERM) }, interruptGrace},
		{func() { w.proc.signalGroup(syscall.SIGKILL) }, 0},
	})
}

// Kill ends the process group now. Safe beside everything else. It returns at once.
func (w *Worker) Kill(r Reason) {
	w.ending.CompareAndSwap(nil, &r)
	w.proc.signalGroup(syscall.SIGKILL)
}

// Discard ends a worker in the way that fits why it can't be used again.
func (w *Worker) Discard(r Reason) {
	switch r {
	case ReasonTimeout, ReasonCancelled:
		w.Interrupt(r)
	case ReasonRetired, ReasonRecycled, ReasonClosed:
		w.Retire(r)
	case ReasonExited:
		w.proc.signalGroup(syscall.SIGKILL)
	default:
		w.Kill(r)
	}
}

// Ending tells why the worker was asked to end; false while nobody has asked.
func (w *Worker) Ending() (Reason, bool) {
	if r := w.ending.Load(); r != nil {
		return *r, true
	}
	return "", false
}

// descend walks down the ladder until the process has ended. A second call changes nothing.
func (w *Worker) descend(r Reason, ladder []rung) {
	if !w.ending.CompareAndSwap(nil, &r) {
		return
	}
	go func() {
		for _, step := range ladder {
			step.act()
			timer := time.NewTimer(step.wait)
			select {
			case <-w.proc.done:
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}()
}

func (w *Worker) sayShutdown() {
	_ = w.requests.SetWriteDeadline(time.Now().Add(termGrace))
	_ = w.writer.Write(&frame.Frame{Kind: frame.Shutdown, Generation: w.generation})
	_ = w.requests.Close()
}

func (w *Worker) sayInterrupt() {
	w.proc.signal(syscall.SIGINT)
	_ = w.requests.Close()
	_ = w.replies.Close() // one that hangs in a write of what nobody reads would be deaf to the rest
}

func (w *Worker) grace() time.Duration {
	if w.spec.Grace > 0 {
		return w.spec.Grace
	}
	return DefaultGrace
}
