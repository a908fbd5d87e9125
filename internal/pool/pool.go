// Package pool defines what a pool of Python workers is: the interface that V1 (serial) and V2 (checkout) share,
// their settings, figures and errors. It knows nothing of Kubernetes, of HTTP, or of how a worker is started.
package pool

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/histogram"
)

// Version names a pool implementation as users write it.
type Version string

// The two implementations.
const (
	V1 Version = "v1" // serial: one operation at a time, first come, first served
	V2 Version = "v2" // checkout: callers check workers out and run in parallel
)

// Request is one operation. The payload is opaque to the pool.
type Request struct {
	ID      uint64 // unique within the caller's connection to the slot; 0 when there is none
	Command string
	Payload []byte
	Program *Program // whose body's members stand where the payload has none; nil: a plain command
	// Session and ProgramID are what the handler is told of the request, ids; "": anonymous, and a plain command.
	Session, ProgramID string
	// Batch: the payload is {"inputs": [..]}, arguments of many calls, which one worker makes one after the other; the
	// reply's is {"outputs": [..]}, in their order, each {"result": ..} or {"error": ..} of the call's own.
	Batch bool
	// Deadline is the end of the whole budget: waiting and operation together. Zero: checkout + operation
	// timeouts from now.
	Deadline time.Time
	// Affinity is which worker the request wants; the zero value: any.
	Affinity Affinity
	// Stream wants the result's items one by one; nil: the result whole. A Batch's answer is one item.
	Stream Stream
	// Idle is how long the worker of a Stream may send nothing while its caller waits for more; the time in which Stream
	// runs doesn't count. 0: as long as the Deadline lets it.
	Idle time.Duration
	// Recall, once closed, takes the request back (NewRecalled) as long as it waits for a worker; one that a worker has
	// goes on. nil: never.
	Recall <-chan struct{}
}

// Stream takes one item of a result, as JSON; chunk is its own only until it returns. It is called in the items' order,
// never twice at a time, and never after Do has returned. The operation keeps its worker for as long as it takes, and the
// handler waits, so it must return soon after ctx has ended, which is at the operation's deadline at the latest. An error
// cancels the operation.
type Stream func(ctx context.Context, chunk []byte) error

// Reply is a worker's result. The payload is the caller's to keep; of a Stream it is the number of its items.
type Reply struct {
	Payload []byte
	Wait    time.Duration // from submission to hand-over of a worker
	Service time.Duration // from first byte sent to last byte received
	// Failed is what a batch counts as although it was answered: the type of its worst failed output, PythonError before
	// UpstreamError before CallerError, which stands for whatever is the caller's. "": none failed, or it isn't a batch.
	Failed Type
}

// Limits are the settings that change on a live pool.
type Limits struct {
	Size       int // workers kept
	Overflow   int // extra workers under load (V2 only; V1 reports it as inactive)
	QueueLimit int // requests that may wait; size + overflow + queueLimit + 1 is refused at once
	// Concurrency is how many requests one worker serves at the same time (V2 only; under V1, where it is inactive, as
	// many may be inside as under V2). 0: 1. It belongs to the workers: on a live pool it must stay what it was.
	Concurrency int
	Checkout    time.Duration
	Operation   time.Duration
	Drain       time.Duration
	Start       time.Duration // of a worker, from its process to ready; what enforces it is the launcher. 0: worker.DefaultInitTimeout
	Recycle     Recycle
	Heartbeat   Heartbeat
	// Lazy: a worker is started when a request waits and no other is about to take it, never before; one that has
	// ended isn't replaced until then.
	Lazy bool
}

// Places are how many requests can have a worker, when there are as many as size and overflow allow.
func (l Limits) Places() int { return (l.Size + l.Overflow) * max(1, l.Concurrency) }

// Recycle says when a worker is replaced although nothing is wrong with it. No operation fails for it: a busy worker
// ends after its operation. Each is an upper bound; workers that start together don't go together, as each goes up to
// a fifth earlier, by a part of its own (MaxMemory apart). 0: never.
type Recycle struct {
	MaxRequests int           `json:"maxRequests,omitempty"` // that one worker serves; never one more
	MaxAge      time.Duration `json:"maxAge,omitempty"`      // since it was ready
	MaxIdle     time.Duration `json:"maxIdle,omitempty"`     // without a request
	MaxMemory   uint64        `json:"maxMemory,omitempty"`   // bytes of its process group's own: private memory and swap
}

// Pool is V1, V2, or anything that passes pooltest. All methods are safe for concurrent use.
type Pool interface {
	// Do runs one operation. A failure is always an *Error. When ctx ends first, the operation is cancelled
	// and its worker replaced if it had been sent.
	Do(ctx context.Context, req Request) (Reply, error)
	// Configure applies new limits to the live pool; no operation fails for it.
	Configure(limits Limits)
	// Reset has all workers that there are now replaced, one after the other as in recycling. It returns at once; no
	// operation fails for it.
	Reset()
	// Pause gives no more request a worker, until Resume: requests wait, within the time that they have, and start no
	// workers. It returns when the operations that run have ended, or the pause has; or, paused as well, with ctx's cause.
	Pause(ctx context.Context) error
	// Resume ends a pause: whoever waits is served, first come first. Without one it does nothing.
	Resume()
	// Stats returns a consistent copy of the figures.
	Stats() Stats
	// Changed receives (coalesced) when workers come, get ready or go, and when starts begin or cease to fail; not
	// for each turn from Ready to Busy and back.
	Changed() <-chan struct{}
	// Close refuses new operations, gives those in flight until ctx ends, and leaves no process behind.
	// Idempotent.
	Close(ctx context.Context) error
}

// Stats has one schema for both versions.
type Stats struct {
	Version Version
	Limits  Limits

	Desired, Starting, Ready, Busy, Overflow int // workers; Starting + Ready + Busy = live processes; Overflow ⊆ live
	Queued                                   int
	// Unstarted are the workers of a lazy pool that it starts as soon as requests need them; 0 while starts fail.
	Unstarted int
	// Paused: no request gets a worker before Resume.
	Paused bool

	Requests, Errors, Timeouts, Shed, Cancelled uint64 // since the pool was made; Errors are the worker's own (python_error)
	Infrastructure                              uint64 // crashes, protocol errors
	Spawned, Destroyed, Crashed                 uint64 // workers
	Exits                                       map[string]uint64

	// CPU time of all workers that have been ready, those that have ended too. Grows.
	CPU time.Duration

	Wait, Service, Start *histogram.Histogram

	// Commands are the names that the worker which got ready last reported; nil before the first.
	Commands []string

	// Boot is set while starts fail, also when some workers are ready: until none is missing, or one that was started
	// since has proved good.
	Boot *BootFailure
	// Startup is set while workers are starting or missing.
	Startup *Startup
	// Unhealthy is set while no worker answers, though the processes are there; see Heartbeat.
	Unhealthy *Unhealthy
	// Workers are the live processes.
	Workers []WorkerStats
}

// WorkerStats are the figures of one live process.
type WorkerStats struct {
	ID       string `json:"id"`
	PID      int    `json:"pid"`
	State    string `json:"state"`           // Starting, Ready, Busy
	Codec    string `json:"codec,omitempty"` // of its JSON: json, orjson or msgspec; "" while it starts
	Overflow bool   `json:"overflow,omitempty"`
	Requests uint64 `json:"requests"`
	RSS      uint64 `json:"rssBytes,omitempty"` // of the process itself, now
	// Of the process and its group, as they were a few seconds ago; 0: not read yet, or not to be read.
	PSS  uint64  `json:"pssBytes,omitempty"` // memory, what is shared counted by its part
	USS  uint64  `json:"ussBytes,omitempty"` // memory that it shares with no other process
	Swap uint64  `json:"swapBytes,omitempty"`
	CPU  float64 `json:"cpuSeconds,omitempty"` // since its start, with children that have ended
	FDs  int     `json:"openFDs,omitempty"`
}

// Startup is how workers' starts get on.
type Startup struct {
	Since time.Time     `json:"since,omitzero"` // when the worker began that has been starting longest; zero: none is starting
	Limit time.Duration `json:"limit"`          // of one start, ns
	Line  string        `json:"line,omitempty"` // that this worker printed last
	// Pace says why few of them start at the same time; "": as many as are missing do.
	Pace string `json:"pace,omitempty"`
}

// BootFailure is a state, not an event: why workers don't come up, and when the next try is.
type BootFailure struct {
	Reason    string `json:"reason"`    // WorkerBootFailed
	Message   string `json:"message"`   // one line: what and the way out
	Traceback string `json:"traceback"` // of the user's module, its own frame first; bounded
	Attempts  int    `json:"attempts"`
	// Crashing: they do start, and end before they have done anything; Crashed counts each.
	Crashing bool      `json:"crashing,omitempty"`
	Next     time.Time `json:"next"`
}
