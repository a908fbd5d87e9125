package slot

import (
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

const (
	failureWindow = time.Second
	maxKinds      = 64      // of failures that are told apart within a window; all others share one count
	maxStack      = 2 << 10 // bytes of the stack that an entry has
	maxBatch      = 16 << 10
)

// failureKind tells failures apart. There is no text of an exception in it, nor in any entry: that may hold an argument.
type failureKind struct {
	command   string
	reason    pool.Type
	exception string
	place     string // where in the module it happened
}

// otherKinds is what failures count as once there are maxKinds.
var otherKinds = failureKind{command: "(others)"}

// failureCounts decides which failures are logged: the first of each kind in a window, and of those that go on how many
// there were. It is a function of what fails, and of when windows end.
type failureCounts map[failureKind]int // those that weren't logged in this window

// note counts a failure and reports whether it is logged.
func (c failureCounts) note(kind failureKind) bool {
	_, known := c[kind]
	switch {
	case known:
		c[kind]++
		return false
	case len(c) >= maxKinds:
		c[otherKinds]++
		return false
	}
	c[kind] = 0
	return true
}

// end ends the window and returns its counts. A kind that goes on isn't logged in full again until it has paused for a
// whole window.
func (c failureCounts) end() map[failureKind]int {
	counts := map[failureKind]int{}
	for kind, n := range c {
		delete(c, kind)
		if n > 0 {
			counts[kind] = n
		}
	}
	for kind := range counts {
		if kind != otherKinds {
			c[kind] = 0
		}
	}
	return counts
}

// failureLog writes the failures of one pool's requests to the slot's log.
type failureLog struct {
	log *slog.Logger

	mu     sync.Mutex
	counts failureCounts // guarded by mu
	timer  *time.Timer   // guarded by mu: of the window's end; nil: no window is open
	closed bool          // guarded by mu
}

func newFailureLog(log *slog.Logger) *failureLog {
	return &failureLog{log: log, counts: failureCounts{}}
}

// note takes the end of a request. What is the caller's own doing isn't logged, nor is what load refuses.
func (f *failureLog) note(command string, failure *pool.Error) {
	if !worthLogging(failure) {
		return
	}
	places := placesOf(failure)
	kind := failureKind{command: command, reason: failure.Type}
	kind.exception, _ = failure.Context["exception"].(string)
	if len(places) > 0 {
		kind.place = places[0]
	}
	if !f.count(kind) {
		return
	}
	attributes := append(kind.attributes(), "worker", failure.Context["worker"])
	if failure.Infrastructure() { // whose text is the pool's own
		attributes = append(attributes, "error", failure.Message)
	}
	if len(places) > 0 {
		attributes = append(attributes, "stack", stackOf(places))
	}
	f.log.Warn("request failed", attributes...)
}

// count reports whether a failure is logged. Those that aren't are told of when the window ends.
func (f *failureLog) count(kind failureKind) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil && !f.closed {
		f.timer = time.AfterFunc(failureWindow, f.endWindow)
	}
	return f.counts.note(kind)
}

func (f *failureLog) endWindow() {
	f.mu.Lock()
	counts := f.counts.end()
	f.timer = nil
	if len(counts) > 0 && !f.closed {
		f.timer = time.AfterFunc(failureWindow, f.endWindow)
	}
	f.mu.Unlock()
	for kind, n := range counts {
		f.log.Warn("more requests failed in the same way", append(kind.attributes(), "requests", n)...)
	}
}

// close writes what is still to be told. No request is noted after it.
func (f *failureLog) close() {
	f.mu.Lock()
	f.closed = true
	timer := f.timer
	f.mu.Unlock()
	if timer != nil && timer.Stop() {
		f.endWindow()
	}
}

func (k failureKind) attributes() []any {
	attributes := []any{"command", k.command}
	for _, a := range []struct{ key, value string }{{"type", string(k.reason)}, {"exception", k.exception}, {"place", k.place}} {
		if a.value != "" {
			attributes = append(attributes, a.key, a.value)
		}
	}
	return attributes
}

// worthLogging reports whether the module failed, a service that it calls, or the infrastructure.
func worthLogging(e *pool.Error) bool {
	return e.Infrastructure() || e.Type == pool.PythonError || e.Type == pool.UpstreamError
}

// batchFailure is what a batch counts as although it was answered: the first of its calls' failures of that type, which
// is looked for in a small result only.
func batchFailure(reply *pool.Reply) *pool.Error {
	var result struct {
		Outputs []struct {
			Error *pool.Error `json:"error"`
		} `json:"outputs"`
	}
	if len(reply.Payload) <= maxBatch && json.Unmarshal(reply.Payload, &result) == nil {
		for _, output := range result.Outputs {
			if output.Error != nil && output.Error.Type == reply.Failed {
				return output.Error
			}
		}
	}
	return pool.NewError(pool.CommunicationError, reply.Failed, "a call of a batch failed")
}

// step is a line of a traceback, or of a stack, that says where; anything else may be code, or an exception's text.
var step = regexp.MustCompile(`(?m)^  File "([^"\n]{1,500})", line (\d{1,9}), in ([^\s"]{1,200})$`)

// placesOf returns where the handler was, the most recent call first, the module's own before those of libraries.
func placesOf(e *pool.Error) []string {
	text, is := e.Context["traceback"].(string)
	if !is {
		text, _ = e.Context["stack"].(string)
	}
	var places []string
	for _, found := range step.FindAllStringSubmatch(text, -1) {
		places = append(places, found[1]+":"+found[2]+" in "+found[3])
	}
	return places
}

func stackOf(places []string) string {
	text := strings.Join(places, "\n")
	if len(text) > maxStack {
		text = text[:strings.LastIndexByte(text[:maxStack], '\n')+1] + "… (cut)"
	}
	return text
}
