package slotclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const (
	// replyGrace is how long after a request's deadline the slot's own answer is awaited: it ends the operation
	// at the deadline and says how. Only a slot that hangs needs longer.
	replyGrace = 2 * time.Second
	// maxIdle connections are kept between requests, each for idleTime after its last use.
	maxIdle  = 32
	idleTime = 30 * time.Second
	// copyLimit is the largest reply that is copied out of its connection's buffer, in bytes.
	copyLimit = 64 << 10
	// leastBudget is what a frame can say: less would be 0, which means that there is no deadline.
	leastBudget = time.Microsecond
)

// Request is one operation. The payload isn't kept after Do.
type Request struct {
	Command string
	Payload []byte
	Program *pool.Program // nil: a plain command
	// Session and ProgramID are for the handler to see.
	Session, ProgramID string
	Batch              bool // see pool.Request
	Idempotent         bool // it may run more than once
	// Affinity to the worker that served the session last.
	Affinity pool.AffinityMode

	Deadline time.Time // of the whole: waiting and operation; must be set
	// Stream and Idle are as in pool.Request. An item that wasn't taken in time, or with an error, is the end of the stream.
	Stream pool.Stream
	Idle   time.Duration
	// Recall, once closed, makes Client.Recall take the request back. nil: never.
	Recall <-chan struct{}
}

// Reply is a result. The payload is the caller's to keep; of a Stream it is the number of its items.
type Reply struct {
	Payload []byte
	Service time.Duration // inside the worker; 0: the slot didn't say
	Failed  pool.Type     // see pool.Reply
}

// ErrUnreachable is what an error of Do is (errors.Is) when the request never left the router: the slot's container
// isn't there, or isn't configured yet. The *pool.Error in it (errors.As) says more.
var ErrUnreachable = errors.New("slot unreachable")

type unreachableError struct{ cause *pool.Error }

func (e *unreachableError) Error() string        { return e.cause.Error() }
func (e *unreachableError) Unwrap() error        { return e.cause }
func (e *unreachableError) Is(target error) bool { return target == ErrUnreachable }

// dataConn carries one request at a time.
type dataConn struct {
	nc      *net.UnixConn
	r       *frame.Reader
	w       *frame.Writer
	session *session // that it belongs to: it dies with it
	used    time.Time
	at      int // in Client.busy, while it is there; guarded by the Client's mu
}

// Do sends one request to the slot and waits for its end. A failure is always a *pool.Error (errors.As) whose Sent
// tells whether the operation can have had an effect. When ctx ends first, the slot is told to cancel.
func (c *Client) Do(ctx context.Context, req Request) (Reply, error) {
	conn, err := c.checkout(ctx, req.Deadline)
	if err != nil {
		return Reply{}, c.notOpened(ctx, req, err)
	}
	id := c.ids.Add(1)
	defer c.recallable(id, req.Recall)()
	stop := context.AfterFunc(ctx, func() { _ = conn.nc.SetDeadline(time.Unix(1, 0)) })
	reply, clean, err := c.exchange(ctx, conn, id, req, c.ahead(conn.session, req.Program))
	if clean && notHeld(err) { // the same request again, so that a cancel of it is one whenever it comes
		reply, clean, err = c.exchange(ctx, conn, id, req, introduce(req.Program))
	}
	if err != nil && clean && ctx.Err() == nil {
		err = c.unlessAbandoned(req, err)
	}
	if stop() && clean {
		c.checkin(conn)
	} else {
		c.discard(conn, id)
	}
	return reply, err
}

// exchange writes the request, after what goes ahead of it, and reads its reply. Clean: the stream is in step, and the
// connection can be used again. Otherwise the slot may still be at work on the request.
func (c *Client) exchange(ctx context.Context, conn *dataConn, id uint64, req Request, ahead []*frame.Frame) (_ Reply, clean bool, _ error) {
	remaining := time.Until(req.Deadline)
	if remaining <= 0 {
		return Reply{}, true, c.tooLate(req)
	}
	err := conn.nc.SetDeadline(req.Deadline.Add(replyGrace))
	if ctx.Err() != nil { // its cancel may have come before the line above
		return Reply{}, true, c.cancelled(req, false)
	}
	if recalled(req.Recall) { // before Recall could know of it
		return Reply{}, true, c.recalled()
	}
	if err == nil {
		err = conn.w.Write(append(ahead, requestFrame(&req, id, remaining))...)
	}
	if err != nil {
		return Reply{}, false, c.writeFailed(ctx, req, err)
	}
	var f frame.Frame
	if err := c.receive(ctx, conn, id, &req, &f); err != nil {
		return Reply{}, false, c.readFailed(ctx, req, err)
	}
	clean = conn.r.Buffered() == 0
	if clean && len(f.Payload) > copyLimit {
		// The reader and its large buffer go with the reply: no copy, and an idle connection doesn't pin it.
		conn.r = frame.NewReader(conn.nc, c.opts.MaxPayload)
	} else {
		f.Payload = bytes.Clone(f.Payload)
	}
	return c.decode(&f, id, clean)
}

func requestFrame(req *Request, id uint64, remaining time.Duration) *frame.Frame {
	call := frame.Call{
		Command: req.Command, Session: req.Session, Program: req.ProgramID, Batch: req.Batch, Affinity: string(req.Affinity),
		Idempotent: req.Idempotent, Stream: req.Stream != nil, Idle: req.Idle,
	}
	if req.Program != nil {
		call.Hash = req.Program.Hash
	}
	return &frame.Frame{
		Kind: frame.Request, ID: id, Budget: max(remaining, leastBudget), Flags: call.Flags(), Meta: call.Meta(), Payload: req.Payload,
	}
}

// decode judges a reply. A frame that bears another id, or is followed by more, leaves the stream out of step.
func (c *Client) decode(f *frame.Frame, id uint64, inStep bool) (_ Reply, clean bool, _ error) {
	switch {
	case f.Kind == frame.Error && f.ID == 0: // the slot couldn't read the request
		return Reply{}, false, decodeError(f.Payload)
	case f.ID != id:
		return Reply{}, false, c.failure(pool.ResponseMismatch, "slot %s answered request %d instead of %d", c.opts.Name, f.ID, id)
	case f.Kind == frame.Result:
		return Reply{Payload: f.Payload, Service: f.Budget, Failed: pool.FailedOutputs(f.Meta)}, inStep, nil
	case f.Kind == frame.Error:
		e := decodeError(f.Payload)
		e.Sent = f.Flags&frame.FlagSent != 0
		return Reply{Service: f.Budget}, inStep, e
	}
	return Reply{}, false, c.failure(pool.DecodeError, "slot %s answered with a frame of kind %d", c.opts.Name, f.Kind)
}

// checkout returns a connection that is open and holds nothing unread; a new one has until deadline to open.
func (c *Client) checkout(ctx context.Context, deadline time.Time) (*dataConn, error) {
	for {
		conn, s := c.pop()
		if s == nil {
			return nil, c.unreachable()
		}
		if conn == nil {
			return c.open(ctx, s, deadline)
		}
		if untouched(conn.nc) {
			return conn, nil
		}
		c.mu.Lock()
		c.freeLocked(conn)
		c.mu.Unlock()
		_ = conn.nc.Close()
	}
}

// pop takes the most recently used idle connection, nil when there is none; the session is nil while the slot
// doesn't serve.
func (c *Client) pop() (*dataConn, *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.servingLocked() {
		return nil, nil
	}
	last := len(c.idle) - 1
	if last < 0 {
		return nil, c.session
	}
	conn := c.idle[last]
	c.idle[last] = nil
	c.idle = c.idle[:last]
	c.busyLocked(conn)
	return conn, c.session
}

func (c *Client) open(ctx context.Context, s *session, deadline time.Time) (*dataConn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	nc, r, w, err := c.dial(ctx, slotproto.Data, s.number)
	if err != nil {
		return nil, err
	}
	conn := &dataConn{nc: nc, r: r, w: w, session: s}
	c.mu.Lock()
	c.busyLocked(conn)
	c.mu.Unlock()
	return conn, nil
}

// busyLocked notes a connection that gets a request; the caller must hold mu.
func (c *Client) busyLocked(conn *dataConn) {
	conn.at = len(c.busy)
	c.busy = append(c.busy, conn)
}

// freeLocked undoes it; the caller must hold mu.
func (c *Client) freeLocked(conn *dataConn) {
	last := len(c.busy) - 1
	c.busy[conn.at] = c.busy[last]
	c.busy[conn.at].at = conn.at
	c.busy[last] = nil
	c.busy = c.busy[:last]
}

// checkin keeps conn for the next request, unless its session is over or enough are kept.
func (c *Client) checkin(conn *dataConn) {
	conn.used = time.Now()
	c.mu.Lock()
	c.freeLocked(conn)
	keep := conn.session == c.session && len(c.idle) < maxIdle
	if keep {
		c.idle = append(c.idle, conn)
	}
	c.mu.Unlock()
	if !keep {
		_ = conn.nc.Close()
	}
}

// discard closes conn and tells the slot, which may be at work on the request, to stop.
func (c *Client) discard(conn *dataConn, id uint64) {
	c.mu.Lock()
	c.freeLocked(conn)
	s := c.session
	c.mu.Unlock()
	if s != nil && s == conn.session { // else the slot has cancelled it
		s.cancel(id)
	}
	_ = conn.nc.Close()
}

// pruneLocked closes connections that weren't used for idleTime; caller must hold mu. The oldest are first.
func (c *Client) pruneLocked(now time.Time) {
	n := 0
	for n < len(c.idle) && now.Sub(c.idle[n].used) > idleTime {
		_ = c.idle[n].nc.Close()
		n++
	}
	c.idle = append(c.idle[:0], c.idle[n:]...)
	clear(c.idle[len(c.idle):cap(c.idle)])
}

// untouched reports whether nothing has arrived on an idle connection: no late frame, no end of the stream.
func untouched(nc *net.UnixConn) bool {
	raw, err := nc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// notAvailable: the request never left the router.
func (c *Client) notAvailable(err error) error {
	return &unreachableError{pool.NewError(pool.ResourceError, pool.NotAvailable,
		"slot %s takes no requests now: %v", c.opts.Name, err).With("slot", c.opts.Name)}
}

// notOpened: there is no connection for the request. Only what isn't the caller's own doing is the slot's.
func (c *Client) notOpened(ctx context.Context, req Request, err error) error {
	switch {
	case ctx.Err() != nil:
		return c.cancelled(req, false)
	case !time.Now().Before(req.Deadline):
		return c.tooLate(req)
	}
	return c.notAvailable(err)
}

// writeFailed: the slot can't have seen the whole frame, so it ran nothing.
func (c *Client) writeFailed(ctx context.Context, req Request, err error) error {
	switch {
	case ctx.Err() != nil:
		return c.cancelled(req, false)
	case errors.Is(err, frame.ErrTooLarge):
		return pool.NewError(pool.RequestError, pool.FrameTooLarge, "%s: %v", req.Command, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return pool.NewError(pool.TimeoutError, pool.DeadlineExceeded,
			"slot %s didn't take the whole of %s before its deadline", c.opts.Name, req.Command).With("slot", c.opts.Name)
	}
	return c.notAvailable(err)
}

// readFailed: the slot had the request, and what it did with it isn't known.
func (c *Client) readFailed(ctx context.Context, req Request, err error) *pool.Error {
	switch {
	case ctx.Err() != nil:
		return c.cancelled(req, true)
	case errors.Is(err, errUntaken):
		return c.untaken(req)
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := pool.NewError(pool.TimeoutError, pool.CommandTimeout,
			"%s: slot %s gave no answer until %s after the deadline", req.Command, c.opts.Name, pool.Millis(replyGrace))
		e.Sent = true
		return e.With("slot", c.opts.Name)
	case errors.Is(err, net.ErrClosed): // by giveUpLocked
		return c.failure(pool.PortExited,
			"slot %s hangs, and %s that was with it, which may have had an effect, is given up", c.opts.Name, req.Command)
	case errors.Is(err, frame.ErrTooLarge):
		return c.failure(pool.FrameTooLarge, "the result of %s: %v", req.Command, err)
	case errors.Is(err, frame.ErrMalformed):
		return c.failure(pool.DecodeError, "the result of %s: %v", req.Command, err)
	}
	return c.failure(pool.PortExited,
		"slot %s ended while %s was with it, which may have had an effect: %v", c.opts.Name, req.Command, err)
}

// unlessAbandoned returns err, of a request whose caller still waits. If the slot cancelled that, as it does when it loses
// the control connection, the error says so.
func (c *Client) unlessAbandoned(req Request, err error) error {
	var cancelled *pool.Error
	if !errors.As(err, &cancelled) || cancelled.Type != pool.Cancelled {
		return err
	}
	e := c.failure(pool.PortExited, "slot %s lost the router's control connection, and cancelled %s", c.opts.Name, req.Command)
	e.Sent = cancelled.Sent
	return e
}

func (c *Client) failure(t pool.Type, format string, args ...any) *pool.Error {
	e := pool.NewError(pool.CommunicationError, t, "%s", fmt.Sprintf(format, args...))
	e.Sent = true
	return e.With("slot", c.opts.Name)
}

func (c *Client) tooLate(req Request) *pool.Error {
	return pool.NewError(pool.TimeoutError, pool.DeadlineExceeded,
		"the deadline had passed before %s was sent to slot %s", req.Command, c.opts.Name).With("slot", c.opts.Name)
}

func (c *Client) cancelled(req Request, sent bool) *pool.Error {
	e := pool.NewError(pool.RequestError, pool.Cancelled, "the caller of %s gave up", req.Command)
	e.Sent = sent
	return e.With("slot", c.opts.Name)
}
