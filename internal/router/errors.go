package router

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// Types of errors that only the router's HTTP sides have; all are the caller's own (request_error).
const (
	NotFound         pool.Type = "not_found"          // no such path
	MethodNotAllowed pool.Type = "method_not_allowed" // the path wants another method
	InvalidHeader    pool.Type = "invalid_header"     // a Workerpool-* header that can't be read
	VersionNotServed pool.Type = "version_not_served" // Workerpool-Version asks for what no slot runs
	NothingToTrip    pool.Type = "nothing_to_trip"    // there is no canary, or nobody to take its requests
	BodyTimeout      pool.Type = "body_timeout"       // a body that took too long to arrive
)

// statusClientClosed is nginx's number for a caller that went away; nobody is left to read it.
const statusClientClosed = 499

// statuses gives each error type its HTTP status; any other is a bug of ours, and 500.
var statuses = map[pool.Type]int{
	pool.CheckoutTimeout:  http.StatusServiceUnavailable,
	pool.QueueFull:        http.StatusServiceUnavailable,
	pool.WorkerBusy:       http.StatusServiceUnavailable,
	pool.NotAvailable:     http.StatusServiceUnavailable,
	pool.CommandTimeout:   http.StatusGatewayTimeout,
	pool.DeadlineExceeded: http.StatusGatewayTimeout,
	pool.PythonError:      http.StatusInternalServerError,
	pool.Internal:         http.StatusInternalServerError,
	pool.ResponseMismatch: http.StatusBadGateway,
	pool.DecodeError:      http.StatusBadGateway,
	pool.PortExited:       http.StatusBadGateway,
	pool.FrameTooLarge:    http.StatusRequestEntityTooLarge,
	pool.UnknownCommand:   http.StatusNotFound,
	pool.InvalidPayload:   http.StatusBadRequest,
	pool.Cancelled:        statusClientClosed,
	pool.CallerError:      http.StatusBadRequest,
	pool.UpstreamError:    http.StatusBadGateway,
	pool.SessionNotFound:  http.StatusNotFound,
	pool.ProgramNotFound:  http.StatusNotFound,
	pool.DuplicateProgram: http.StatusConflict,
	pool.VersionConflict:  http.StatusConflict,
	pool.InvalidID:        http.StatusBadRequest,
	pool.RecordTooLarge:   http.StatusRequestEntityTooLarge,
	pool.StoreFull:        http.StatusInsufficientStorage,
	pool.StoreUnavailable: http.StatusServiceUnavailable,
	NotFound:              http.StatusNotFound,
	MethodNotAllowed:      http.StatusMethodNotAllowed,
	InvalidHeader:         http.StatusBadRequest,
	VersionNotServed:      http.StatusConflict,
	NothingToTrip:         http.StatusConflict,
	BodyTimeout:           http.StatusRequestTimeout,
}

// statusOf returns the HTTP status for e. A result that is too large is the worker's doing, a request the caller's; and
// what a pool that ends cut short isn't to be sent again as if nothing had run.
func statusOf(e *pool.Error) int {
	if e.Type == pool.FrameTooLarge && e.Category == pool.CommunicationError || e.Type == pool.NotAvailable && e.Sent {
		return http.StatusBadGateway
	}
	if status, known := statuses[e.Type]; known {
		return status
	}
	return http.StatusInternalServerError
}

// errNotOpened is why a router that doesn't run yet has no store.
var errNotOpened = errors.New("it isn't open yet")

// nothingKept: a router without a state folder.
func nothingKept() *pool.Error {
	return pool.NewError(pool.ResourceError, pool.StoreUnavailable,
		"this router keeps no programs and sessions: it was started without a folder for them; give --state-dir")
}

// asPoolError: whatever isn't a *pool.Error is a bug of ours.
func asPoolError(err error) *pool.Error {
	var e *pool.Error
	if errors.As(err, &e) {
		return e
	}
	return pool.NewError(pool.SystemError, pool.Internal, "%v", err)
}

// named adds the pool's name to an error's context.
func (r *Router) named(e *pool.Error) *pool.Error { return e.With("pool", r.cfg.Pool) }

func gaveUp(c *call) *pool.Error {
	return pool.NewError(pool.RequestError, pool.Cancelled, "the caller of %s gave up", c.command)
}

func (r *Router) unconfigured() *pool.Error {
	return r.named(pool.NewError(pool.ResourceError, pool.NotAvailable,
		"pool %s has no configuration yet: neither the operator's nor the pod's own has arrived; see the router's log",
		r.cfg.Pool))
}

// away: nothing came of waiting for a slot.
func (r *Router) away(to *target, c *call) *pool.Error {
	st := to.slot.State()
	problem := noWorkersYet(st.Status.Startup)
	if !st.Reachable {
		problem = st.Problem
	}
	set := byCheckout
	if t := r.table.Load(); c.budget > 0 && c.budget < t.limits.checkout {
		set = byCaller
	}
	return r.named(pool.NewError(pool.ResourceError, pool.NotAvailable,
		"pool %s: waited %s for slot %s (%s), until the end of its time (%s): %s", r.cfg.Pool, pool.Millis(time.Since(c.start)),
		to.slot.Name(), to.version, c.setting(set), problem)).With("slot", to.slot.Name()).With(pool.LimitedBy, c.setting(set))
}

// noWorkersYet says of a slot whose workers aren't up how long that may take.
func noWorkersYet(s *pool.Startup) string {
	if s == nil || s.Since.IsZero() {
		return "it has no workers yet"
	}
	return fmt.Sprintf("it has no workers yet: they have been starting since %s, for %s at most (spec.timeouts.start)",
		s.Since.UTC().Format(time.RFC3339), s.Limit)
}

// fullRetryAfter is what a caller should wait that the router refuses for load.
const fullRetryAfter = time.Second

// maxRetryAfter bounds what a slot may tell callers to wait.
const maxRetryAfter = time.Hour

// full: the slot has that many requests already. The slot would say the same, unless the router sends it no more.
func (r *Router) full(to *target, inside int) *pool.Error {
	if to.places == maxPlaces {
		return r.named(pool.NewError(pool.ResourceError, pool.QueueFull,
			"pool %s has %d requests with slot %s, and no slot is sent more at a time; retry later, or have more pods",
			r.cfg.Pool, inside, to.slot.Name())).With("slot", to.slot.Name())
	}
	busy := min(inside, to.workers)
	return pool.NewQueueFull(r.cfg.Pool, busy, inside-busy, fullRetryAfter).With("slot", to.slot.Name())
}

func (r *Router) tooManyWait(limit int) *pool.Error {
	because, wayOut := "as many as it takes (size, overflow and queueLimit)", "raise spec.queueLimit"
	if limit == maxPlaces {
		because, wayOut = "and no slot is sent more at a time", "have more pods"
	}
	return r.named(pool.NewError(pool.ResourceError, pool.QueueFull,
		"pool %s has %d requests waiting for a slot to come back, %s; retry later, or %s", r.cfg.Pool, limit, because, wayOut))
}

// noRoom: the body waited for room until the end of that.
func (r *Router) noRoom(in *intake) *pool.Error {
	category, errorType, wayOut := pool.ResourceError, pool.QueueFull, "retry later"
	if in.roomBy.by == byCaller {
		category, errorType, wayOut = pool.TimeoutError, pool.DeadlineExceeded, "give it more time"
	}
	waited, set := time.Since(in.waiting), in.c.setting(in.roomBy.by)
	return r.named(pool.NewError(category, errorType,
		"waited %s for room for the body of %s (%s), as the router holds large bodies up to its limit of %d bytes; %s, or send a reference to the data",
		pool.Millis(waited), in.c.command, set, r.bodies.limit(), wayOut)).
		With("waited_ms", waited.Milliseconds()).With(pool.LimitedBy, set)
}

// notArrived: the sender took longer than it may.
func (r *Router) notArrived(in *intake) *pool.Error {
	category, errorType, wayOut := pool.RequestError, BodyTimeout, "send it faster, or a reference to the data"
	if in.arriveBy.by == byCaller {
		category, errorType, wayOut = pool.TimeoutError, pool.DeadlineExceeded, "send it faster, or give it more time"
	}
	set := in.c.setting(in.arriveBy.by)
	return r.named(pool.NewError(category, errorType, "the body of %s hadn't arrived after %s (%s), %d bytes of it had; %s",
		in.c.command, pool.Millis(in.arriveBy.at.Sub(in.c.start)), set, len(in.body), wayOut)).With(pool.LimitedBy, set)
}

// tooSlow: the sender was the slowest when others needed room.
func (r *Router) tooSlow(in *intake) *pool.Error {
	return r.named(pool.NewError(pool.RequestError, BodyTimeout,
		"the body of %s came slowest, %d bytes in %s, when another waited for room; send it faster, or later, or a reference to the data",
		in.c.command, len(in.body), pool.Millis(time.Since(in.c.start)))).With("limit", r.bodies.limit())
}

func (r *Router) tooLarge(in *intake) *pool.Error {
	if in.record {
		return bodyTooLarge(in.c.command)
	}
	return r.named(pool.NewError(pool.RequestError, pool.FrameTooLarge,
		"the body of %s is over %d bytes; send less, or a reference to the data", in.c.command, in.most)).With("limit", in.most)
}

func (r *Router) versionNotServed(t *table, wanted pool.Version) *pool.Error {
	there := string(t.stable.version)
	if t.canary != nil {
		there += " and " + string(t.canary.version)
	}
	return r.named(pool.NewError(pool.RequestError, VersionNotServed,
		"%s asks for %s, and pool %s serves %s now", headerVersion, wanted, r.cfg.Pool, there))
}

func pastDeadline(c *call, value string) *pool.Error {
	return pool.NewError(pool.TimeoutError, pool.DeadlineExceeded,
		"the deadline of %s had passed before it was sent (%s: %s)", c.command, headerDeadline, value)
}

// retryAfter is what a caller that was refused for load should wait before its next try; 0: that isn't said. A pool
// that knows how fast it is has said so in the error.
func retryAfter(e *pool.Error) time.Duration {
	switch told := e.Context["retry_after_ms"].(type) {
	case float64: // from a slot, as JSON
		if told > 0 {
			return time.Duration(min(told, maxRetryAfter.Seconds()*1000) * float64(time.Millisecond))
		}
	case int64:
		return time.Duration(told) * time.Millisecond
	}
	if e.Type == pool.QueueFull {
		return fullRetryAfter
	}
	return 0
}
