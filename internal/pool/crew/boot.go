package crew

import (
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Back-off between failed starts: doubling, ± a quarter, without end: what is broken may be mended outside.
const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 30 * time.Second
	jitter     = 0.25
	// provenAfter is how long a member must live, unless it has served a request, for its start to count as good.
	provenAfter = 10 * time.Second
	// unlikeFailures is how many rounds of failures, each for another reason, are reported as a state.
	unlikeFailures = 3
	maxTraceback   = 4 << 10 // bytes
)

// reasonBootFailed is the state's name, as conditions show it.
const reasonBootFailed = "WorkerBootFailed"

// bootLog remembers failed starts. A failure is a start that never got ready, or a member that ended by itself
// before it had done or survived anything.
type bootLog struct {
	rounds    int // failures in a row, those of starts that ran side by side counting as one
	attempts  int
	last      worker.BootError
	alike     int // failures in a row with last's text
	failedAt  time.Time
	notBefore time.Time
	failing   bool // cleared by the next member that gets ready
	crashing  bool // the failures are of members that had been ready
	report    *pool.BootFailure
}

// failed counts a failure of a start that began at started. random is in [0, 1).
func (b *bootLog) failed(err worker.BootError, ready bool, started, now time.Time, random float64) {
	b.attempts++
	if err == b.last {
		b.alike++
	} else {
		b.last, b.alike = err, 1
	}
	if b.rounds == 0 || !started.Before(b.failedAt) {
		b.rounds++
		b.notBefore = now.Add(delay(b.rounds, random))
	}
	b.failedAt, b.failing, b.crashing = now, true, ready
	if b.alike >= 2 || b.rounds >= unlikeFailures {
		b.report = &pool.BootFailure{
			Reason: reasonBootFailed, Message: err.Message, Traceback: head(err.Traceback, maxTraceback),
			Attempts: b.attempts, Next: b.notBefore, Crashing: ready,
		}
	}
}

// ready notes that a member got ready. Members that crash as soon as they are ready stay reported until one is
// proven.
func (b *bootLog) ready() {
	b.failing, b.notBefore = false, time.Time{}
	if !b.crashing {
		b.report = nil
	}
}

// proven forgets everything.
func (b *bootLog) proven() { *b = bootLog{} }

// delay before round n + 1, n ≥ 1.
func delay(n int, random float64) time.Duration {
	d := maxDelay
	if n < 16 {
		d = min(maxDelay, firstDelay<<(n-1))
	}
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*random))
}

// head keeps what comes first: a traceback starts with the user's own frame.
func head(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
