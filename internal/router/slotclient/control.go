package slotclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/backoff"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const (
	// handshakeTimeout bounds connect and Hello.
	handshakeTimeout = 2 * time.Second
	// writeTimeout bounds a frame on the control connection: a slot that doesn't read for so long is lost.
	writeTimeout = 2 * time.Second
	// A slot's restart takes about a second, most of it the kubelet's; looking for it is cheap.
	minRedial, maxRedial = 20 * time.Millisecond, 500 * time.Millisecond
)

// Run keeps a control connection to the slot until ctx ends, then closes every connection.
func (c *Client) Run(ctx context.Context) {
	redial := backoff.Backoff{Min: minRedial, Max: maxRedial}
	for number := uint64(1); ctx.Err() == nil; number++ {
		err := c.runSession(ctx, number, &redial)
		c.endSession(ctx, err)
		redial.Wait(ctx)
	}
}

// session is one control connection.
type session struct {
	client *Client
	number uint64 // of the control connection, for the slot
	nc     net.Conn
	r      *frame.Reader

	configured bool                   // guarded by client.mu: the slot accepted a configuration in this session
	silence    string                 // guarded by client.mu: of the control connection, if there is one; see noteSilence
	deaf       string                 // guarded by client.mu: why requests wouldn't be answered, if it is known
	programs   *pool.Recent[struct{}] // guarded by client.mu: by hash, which the slot was sent in this session

	wmu  sync.Mutex // held while writing, and while choosing what to write, so that the newest config goes last
	w    *frame.Writer
	told uint64 // guarded by wmu: number of the configuration that was written last
}

// runSession connects, sends the configuration that there is, and listens until the connection ends.
func (c *Client) runSession(ctx context.Context, number uint64, redial *backoff.Backoff) error {
	nc, r, w, err := c.dial(ctx, slotproto.Control, number)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	redial.Reset()
	s := &session{client: c, number: number, nc: nc, r: r, w: w, programs: pool.NewRecent[struct{}](maxSent, maxSent)}
	c.mu.Lock()
	c.session, c.lastErr = s, nil
	c.broadcastLocked()
	c.mu.Unlock()
	c.opts.Logger.Info("slot connected")
	s.sendConfig()
	ctx, stop := context.WithCancel(ctx)
	var pings sync.WaitGroup
	pings.Go(func() { s.ping(ctx) })
	defer pings.Wait()
	defer stop()
	return s.listen()
}

// endSession forgets the session and every data connection that belonged to it, and logs each new reason once.
func (c *Client) endSession(ctx context.Context, err error) {
	if c.forget(err) && ctx.Err() == nil {
		c.opts.Logger.Warn("slot not reachable, trying again", "error", err)
	}
}

// forget ends the session for a reason, and reports whether that is news.
func (c *Client) forget(err error) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = c.session != nil || c.lastErr == nil || c.lastErr.Error() != err.Error()
	switch c.hung = ""; {
	case errors.Is(err, errSilent):
		c.hung = err.Error()
		c.giveUpLocked(c.session)
	case timedOut(err):
		c.hung = deafText
	}
	c.session, c.lastErr, c.status, c.ready = nil, err, nil, ""
	for _, conn := range c.idle {
		_ = conn.nc.Close()
	}
	c.idle = nil
	if news {
		c.broadcastLocked()
	}
	return news
}

// sendConfig writes the newest configuration. A failure ends the connection, which Run then replaces.
func (s *session) sendConfig() {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.client.mu.Lock()
	desired := s.client.desired
	s.client.mu.Unlock()
	if desired.number == s.told {
		return
	}
	s.told = desired.number
	s.writeLocked(&frame.Frame{Kind: frame.Configure, ID: desired.number, Payload: desired.body})
}

// cancel asks the slot to cancel a request of this router. Best effort: a lost connection cancels it as well.
func (s *session) cancel(id uint64) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.writeLocked(&frame.Frame{Kind: frame.Cancel, ID: id})
}

// writeLocked: caller must hold wmu.
func (s *session) writeLocked(f *frame.Frame) {
	err := s.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = s.w.Write(f)
	}
	if err != nil {
		_ = s.nc.Close() // listen returns
	}
}

// listen handles what the slot says until the connection ends, and returns why it did.
func (s *session) listen() error {
	for {
		var f frame.Frame
		if err := s.read(&f); err != nil {
			return readProblem(err)
		}
		if err := s.handle(&f); err != nil {
			return err
		}
	}
}

var errEnded = errors.New("its control connection ended")

func readProblem(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return errEnded
	case errors.Is(err, errSilent):
		return err
	}
	return fmt.Errorf("its control connection failed: %w", err)
}

func (s *session) handle(f *frame.Frame) error {
	switch f.Kind {
	case frame.Status:
		var st slotproto.Status
		if err := json.Unmarshal(f.Payload, &st); err != nil {
			return fmt.Errorf("it sent a status that can't be read: %w", err)
		}
		s.client.noteStatus(st, time.Now())
	case frame.Result:
		s.client.noteAccepted(s, f.ID)
	case frame.Error:
		s.client.noteRefused(f.ID, decodeError(f.Payload))
	case frame.Pong:
	default:
		return fmt.Errorf("it sent a frame of kind %d on its control connection", f.Kind)
	}
	return nil
}

func (c *Client) noteAccepted(s *session, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.configured = true
	c.taken = max(c.taken, number)
	c.broadcastLocked()
}

func (c *Client) noteRefused(number uint64, err error) {
	c.mu.Lock()
	if number >= c.refusal.number {
		c.refusal = refusal{number: number, err: err}
	}
	c.broadcastLocked()
	c.mu.Unlock()
	c.opts.Logger.Warn("slot refused its configuration", "error", err)
}

// decodeError reads the four parts of an Error frame's payload.
func decodeError(payload []byte) *pool.Error {
	var e pool.Error
	if err := json.Unmarshal(payload, &e); err != nil || e.Category == "" || e.Type == "" || e.Message == "" || e.Context == nil {
		return pool.NewError(pool.CommunicationError, pool.DecodeError, "the slot sent an error that can't be read")
	}
	return &e
}

// dial connects and exchanges Hellos.
func (c *Client) dial(ctx context.Context, role slotproto.Role, session uint64) (*net.UnixConn, *frame.Reader, *frame.Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", c.opts.Socket)
	if err != nil {
		return nil, nil, nil, err
	}
	r, w := frame.NewReader(nc, c.opts.MaxPayload), frame.NewWriter(nc)
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	err = c.greet(r, w, role, session)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, nil, nil, fmt.Errorf("no greeting at %s: %w", c.opts.Socket, err)
	}
	return nc.(*net.UnixConn), r, w, nil
}

// greet sends Hello and checks the slot's: a socket of another slot, or another protocol, is an error.
func (c *Client) greet(r *frame.Reader, w *frame.Writer, role slotproto.Role, session uint64) error {
	hello, err := json.Marshal(slotproto.Hello{Role: role, Instance: c.opts.Instance, Session: session, Protocol: slotproto.Protocol})
	if err != nil {
		return err
	}
	if err := w.Write(&frame.Frame{Kind: frame.Hello, Payload: hello}); err != nil {
		return err
	}
	var f frame.Frame
	if err := r.Read(&f); err != nil {
		return err
	}
	var answer struct {
		Slot     string `json:"slot"`
		Protocol int    `json:"protocol"`
	}
	if f.Kind == frame.Error {
		return decodeError(f.Payload)
	}
	if err := json.Unmarshal(f.Payload, &answer); err != nil || f.Kind != frame.Hello {
		return fmt.Errorf("the answer to Hello is a frame of kind %d that can't be read", f.Kind)
	}
	if answer.Slot != c.opts.Name || answer.Protocol != slotproto.Protocol {
		return fmt.Errorf("there is slot %q with protocol %d, wanted %q with %d",
			answer.Slot, answer.Protocol, c.opts.Name, slotproto.Protocol)
	}
	return nil
}
