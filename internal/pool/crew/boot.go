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
	// forgetAfter is how long the last failure is a state when no start is wanted any more that could show anything.
	forgetAfter = time.Minute
	// unlikeFailures is how many rounds of failures, each for another reason, are reported as a state.
	unlikeFailures = 3
	// fewCrashes of young members may be accidents, also in a small crew.
	fewCrashes   = 3
	maxTraceback = 4 << 10 // bytes
)

// reasonBootFailed is the state's name, as conditions show it.
const reasonBootFailed = "WorkerBootFailed"

// bootLog remembers failed starts. A failure is a start that never got ready, or a member that ended by itself
// before it had done or survived anything. Only a start that began after the last failure can show that starts work
// again: what runs already was started before whatever is wrong now.
type bootLog struct {
	rounds    int // failures in a row, those of starts that ran side by side counting as one
	fruitless int // rounds since a member last got ready
	attempts  int
	last      worker.BootError
	alike     int // failures in a row with last's text
	failedAt  time.Time
	notBefore time.Time
	failing   bool        // no start that began after the last failure has got ready
	crashing  bool        // the failures are of members that had been ready
	crashes   []time.Time // the last ones of young members that had nothing to do, at most most
	most      int         // so many within provenAfter are no accidents
	crash     string      // what became of the last of them
	report    *pool.BootFailure
}

// failure is a start that failed.
type failure struct {
	err      worker.BootError
	started  time.Time
	crashing bool // it had got ready
	crowded  bool // others started beside it, and it may work without them
}

// failed counts a failure. random is in [0, 1).
func (b *bootLog) failed(f failure, now time.Time, random float64) {
	b.attempts++
	if f.err == b.last {
		b.alike++
	} else {
		b.last, b.alike = f.err, 1
	}
	if b.rounds == 0 || !f.started.Before(b.failedAt) {
		b.rounds++
		b.fruitless++
		b.notBefore = now.Add(delay(b.rounds, random))
	}
	b.failedAt, b.failing, b.crashing = now, true, f.crashing
	if b.tells(f.crowded) || b.report != nil {
		b.report = &pool.BootFailure{
			Reason: reasonBootFailed, Message: f.err.Message, Traceback: head(f.err.Traceback, maxTraceback),
			Attempts: b.attempts, Next: b.notBefore, Crashing: f.crashing,
		}
	}
}

// tells reports whether the failures are a state by now. Those of a crowd aren't before one fails without it.
func (b *bootLog) tells(crowded bool) bool {
	if crowded {
		return b.fruitless >= 2
	}
	return b.alike >= 2 || b.rounds >= unlikeFailures
}

// ready notes that a member got ready whose start began at started. The failures stay reported until no member is
// missing (settle), or one has proved good.
func (b *bootLog) ready(started time.Time) {
	b.fruitless = 0
	if !started.Before(b.failedAt) {
		b.failing, b.notBefore = false, time.Time{}
	}
}

// provenBy reports whether a member shows that starts work again.
func (b *bootLog) provenBy(started, readyAt time.Time, served bool, now time.Time) bool {
	return !started.Before(b.failedAt) && (served || now.Sub(readyAt) >= provenAfter)
}

// proven forgets all failures.
func (b *bootLog) proven() { *b = bootLog{crashes: b.crashes, most: b.most, crash: b.crash} }

// settle ends the report once no start is wanted or under way (idle): when the last one worked, or when the one that
// failed is long ago and nobody misses it. The back-off stays as it is. It returns when it is to be called again; zero:
// when something has happened.
func (b *bootLog) settle(idle bool, now time.Time) (again time.Time) {
	switch forget := b.failedAt.Add(forgetAfter); {
	case !idle || b.report == nil && !b.failing:
	case !b.failing && !b.crashing:
		b.report = nil
	case forget.After(now):
		return forget
	default:
		b.failing, b.report = false, nil
	}
	return time.Time{}
}

// crashed notes the end of a young member that had nothing to do, in a crew of so many.
func (b *bootLog) crashed(what string, size int, now time.Time) {
	most := max(fewCrashes, size) + 1
	first := max(0, len(b.crashes)+1-most)
	b.crashes, b.crash, b.most = append(b.crashes[first:len(b.crashes):len(b.crashes)], now), what, most
}

// state is what there is to report; nil: nothing. Members that served and crashed all the same, more often than by
// accident, have no back-off, as they are of use; they are a state.
func (b *bootLog) state(now time.Time) *pool.BootFailure {
	switch n := len(b.crashes); {
	case b.report != nil:
		report := *b.report
		return &report
	case n > 0 && n == b.most && now.Sub(b.crashes[0]) <= provenAfter:
		return &pool.BootFailure{Reason: reasonBootFailed, Message: b.crash, Attempts: n, Crashing: true}
	}
	return nil
}

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
