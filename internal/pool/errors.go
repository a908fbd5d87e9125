package pool

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Category groups errors by who has to act.
type Category string

// Categories of errors.
const (
	TimeoutError       Category = "timeout_error"
	ResourceError      Category = "resource_error"
	CommunicationError Category = "communication_error"
	RequestError       Category = "request_error" // the caller's own
	SystemError        Category = "system_error"  // a bug of ours
)

// Type names one kind of failure within its category.
type Type string

// Types of errors, with their category.
const (
	CheckoutTimeout  Type = "checkout_timeout"   // timeout_error
	CommandTimeout   Type = "command_timeout"    // timeout_error
	DeadlineExceeded Type = "deadline_exceeded"  // timeout_error: the deadline had passed before execution
	QueueFull        Type = "queue_full"         // resource_error
	WorkerBusy       Type = "worker_busy"        // resource_error: the one worker that the request takes
	NotAvailable     Type = "pool_not_available" // resource_error
	PythonError      Type = "python_error"       // communication_error: the handler raised
	ResponseMismatch Type = "response_mismatch"  // communication_error
	DecodeError      Type = "decode_error"       // communication_error: the worker's reply
	PortExited       Type = "port_exited"        // communication_error: the process ended
	FrameTooLarge    Type = "frame_too_large"    // communication_error or request_error
	UnknownCommand   Type = "unknown_command"    // request_error
	InvalidPayload   Type = "invalid_payload"    // request_error: not JSON, or not the command's arguments
	Cancelled        Type = "cancelled"          // request_error: the caller gave up
	Internal         Type = "internal"           // system_error
)

// Types of errors of what the router keeps, programs and sessions.
const (
	SessionNotFound  Type = "session_not_found" // request_error
	ProgramNotFound  Type = "program_not_found" // request_error
	DuplicateProgram Type = "duplicate_program" // request_error: the session has a program of that id
	VersionConflict  Type = "version_conflict"  // request_error: somebody else updated the session meanwhile
	InvalidID        Type = "invalid_id"        // request_error
	RecordTooLarge   Type = "record_too_large"  // request_error
	StoreFull        Type = "store_full"        // resource_error: its limit, or the disk's end
	StoreUnavailable Type = "store_unavailable" // resource_error: its file can't be used
	// ProgramNotHeld (system_error) is what a slot tells its router, and nobody else: send the program's body along.
	ProgramNotHeld Type = "program_not_held"
)

// Types of errors that a handler blames on somebody else. They count against no revision and trip nothing.
const (
	CallerError   Type = "caller_error"   // request_error: poolworker.CallerError, the caller's own
	UpstreamError Type = "upstream_error" // communication_error: poolworker.UpstreamError, of a service that the handler calls
)

// FailedOutputs reads the meta of a Result, which tells of a batch what it counts as; see Reply.Failed. What isn't known
// counts as PythonError.
func FailedOutputs(meta []byte) Type {
	switch t := Type(meta); t {
	case "", CallerError, UpstreamError:
		return t
	default:
		return PythonError
	}
}

// Error has the four parts that every failure shows, with the same text in V1 and V2.
type Error struct {
	Category Category       `json:"category"`
	Type     Type           `json:"type"`
	Message  string         `json:"message"`
	Context  map[string]any `json:"context"`

	// Sent tells whether the first byte had gone to a worker: only then can the operation have had an effect.
	Sent bool `json:"-"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s/%s: %s", e.Category, e.Type, e.Message) }

// With returns a copy whose context also holds key.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Context = maps.Clone(e.Context)
	if c.Context == nil {
		c.Context = map[string]any{}
	}
	c.Context[key] = value
	return &c
}

// Infrastructure reports whether the failure is the pool's own (a crash, a protocol error, a timeout), not the
// handler's or the caller's. Only these count against a worker, and, timeouts apart, towards a breaker and a canary's trip.
func (e *Error) Infrastructure() bool {
	switch e.Type {
	case CommandTimeout, ResponseMismatch, DecodeError, PortExited, Internal:
		return true
	case FrameTooLarge:
		return e.Category == CommunicationError
	default:
		return false
	}
}

// MarshalJSON keeps context present even when it is empty.
func (e *Error) MarshalJSON() ([]byte, error) {
	type plain Error
	p := plain(*e)
	if p.Context == nil {
		p.Context = map[string]any{}
	}
	return json.Marshal(&p)
}

// NewError builds an error with an empty context.
func NewError(c Category, t Type, format string, args ...any) *Error {
	return &Error{Category: c, Type: t, Message: fmt.Sprintf(format, args...), Context: map[string]any{}}
}

// Millis renders a duration in error texts, for example "after 1500ms".
func Millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
