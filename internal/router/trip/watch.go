package trip

import (
	"fmt"
	"time"
)

const (
	// crashWindow is how far back crashes count.
	crashWindow = 10 * time.Second
	// fewCrashes may be accidents, also in a small slot: somebody's kill -9, a memory limit.
	fewCrashes = 3
	// failuresInRow of requests trip the canary when nothing between them shows that its workers answer.
	failuresInRow = 5
)

// crashesAllowed within crashWindow. More crashes than the slot has workers mean that replacements crash as well: one
// event, like the kernel killing all that there are, is no loop, however large the slot is.
func crashesAllowed(workers int) int { return max(fewCrashes, workers) }

// Watch holds what was seen of one canary. Not safe for concurrent use.
type Watch struct {
	revision string
	workers  int

	crashed uint64 // the slot's counter when it was seen last
	seen    bool   // there is such a last time
	crashes []time.Time
	boot    string // why workers don't start; "": they do
	starts  int    // that failed in a row

	failures    int // in a row
	lastFailure time.Time
	lastError   string
}

// NewWatch begins without suspicion. workers is how many the canary's slot may have, overflow included.
func NewWatch(revision string, workers int) *Watch {
	return &Watch{revision: revision, workers: workers}
}

// Resize follows a change of the slot's workers.
func (w *Watch) Resize(workers int) { w.workers = workers }

// Slot is what the canary's slot reports.
type Slot struct {
	Revision string // that it runs
	Crashed  uint64 // workers of the pool that runs Revision, since that was made
	Boot     string // why workers don't start; "": they do
	Starts   int    // that failed in a row
	Crashing bool   // they do start, and crash before they have done anything
}

// Slot takes a report in. A report of another revision, or of a slot that can't be reached, says nothing. serving: the
// canary is given requests; without them its crashes harm nobody, and are only the mark to count from.
func (w *Watch) Slot(s Slot, serving bool, now time.Time) {
	if s.Revision != w.revision {
		return
	}
	grown := s.Crashed - w.crashed
	if s.Crashed < w.crashed { // the pool was made anew
		grown = s.Crashed
	}
	if !w.seen {
		grown = 0
	}
	w.seen, w.crashed, w.boot, w.starts = true, s.Crashed, "", 0
	if !serving {
		return
	}
	if !s.Crashing || s.Starts > crashesAllowed(w.workers) { // workers killed while idle look alike; see crashesAllowed
		w.boot, w.starts = s.Boot, s.Starts
	}
	for range min(grown, uint64(crashesAllowed(w.workers)+1)) {
		w.crashes = append(w.crashes, now)
	}
	w.forget(now)
}

// forget drops the crashes that are too old or too many to matter.
func (w *Watch) forget(now time.Time) {
	first := max(0, len(w.crashes)-crashesAllowed(w.workers)-1)
	for first < len(w.crashes) && now.Sub(w.crashes[first]) > crashWindow {
		first++
	}
	w.crashes = append(w.crashes[:0], w.crashes[first:]...)
}

// Answered notes that a worker of the canary answered a request, with whatever: its machinery works.
func (w *Watch) Answered() { w.failures = 0 }

// Failed notes that a request that had been sent failed in the pool itself; began is when its worker, or the slot, got
// it. Requests that ran side by side and fail together are one failure: a slot whose container ends takes all of them
// along, and that is one event.
func (w *Watch) Failed(began, now time.Time, what string) {
	if w.failures > 0 && began.Before(w.lastFailure) {
		return
	}
	w.failures++
	w.lastFailure, w.lastError = now, what
}

// Verdict returns why the canary has to go, "" when it hasn't to, and what was seen.
func (w *Watch) Verdict(now time.Time) (Reason, string) {
	w.forget(now)
	switch {
	case len(w.crashes) > crashesAllowed(w.workers):
		return CrashLoop, fmt.Sprintf("workers crashed %d times within %s; more than %d in %s is a loop",
			len(w.crashes), now.Sub(w.crashes[0]).Round(time.Millisecond), crashesAllowed(w.workers), crashWindow)
	case w.boot != "":
		return StartsFailed, fmt.Sprintf("workers don't start (%d tries): %s", w.starts, w.boot)
	case w.failures >= failuresInRow:
		return ConsecutiveFailures, fmt.Sprintf("%d requests in a row failed in the pool itself, and none was answered between them; the last: %s",
			w.failures, w.lastError)
	}
	return "", ""
}
