package slotclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// A slot that hangs has its sockets still, and takes what is written to them. What shows is that it says nothing: on its
// control connection, where a status is due each second, or to a ping that goes the way of a request. Then it gets no more
// requests until it answers again, and those that it has go on: it may have been held up for a moment only.
const (
	// quietLimit is how long a slot may say nothing before it gets no more requests.
	quietLimit = 3 * time.Second
	// lostAfter so many quietLimits its control connection is given up, and with it what the slot has of this router. The
	// slot cancels that when it notices, so no answer will come.
	lostAfter = 5
	// pingEvery is the time between two looks at whether requests would be answered.
	pingEvery = time.Second
)

// deafText says what is wrong with a slot whose socket takes connections.
const deafText = "it answers nothing on new connections"

// errSilent ends the control connection of a slot that says nothing.
var errSilent = errors.New("it hangs")

func silentFor(d time.Duration, where string) string {
	return fmt.Sprintf("it has said nothing for %v %s", d, where)
}

// timedOut reports whether an error is that of a peer which has let a deadline pass.
func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// read waits for the next frame of the control connection, for lostAfter times quietLimit at most. Limits are counted, not
// measured: a router that was held up itself finds what the slot has said meanwhile.
func (s *session) read(f *frame.Frame) error {
	for quiet := 1; ; quiet++ {
		if err := s.nc.SetReadDeadline(time.Now().Add(s.client.quiet)); err != nil {
			return net.ErrClosed
		}
		err := s.r.Read(f)
		switch {
		case err == nil:
			s.client.noteSilence(&s.silence, "")
			return nil
		case !timedOut(err):
			return err
		case quiet >= lostAfter:
			return fmt.Errorf("%w: %s", errSilent, silentFor(lostAfter*s.client.quiet, "on its control connection"))
		case quiet == 1:
			s.client.noteSilence(&s.silence, silentFor(s.client.quiet, "on its control connection"))
		}
	}
}

// ping looks again and again whether requests would be answered, until ctx ends.
func (s *session) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch err := s.pong(ctx); {
		case ctx.Err() != nil:
			return
		case timedOut(err):
			s.client.noteSilence(&s.deaf, deafText)
		default: // a slot that is just going is none that hangs
			s.client.noteSilence(&s.deaf, "")
		}
	}
}

// pong opens a connection as for a request, and has a ping answered on it.
func (s *session) pong(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.client.quiet)
	defer cancel()
	nc, r, w, err := s.client.dial(ctx, slotproto.Probe, s.number)
	if err != nil {
		return err
	}
	defer nc.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline) // it fails only when the connection has ended, which the read tells
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	if err := w.Write(&frame.Frame{Kind: frame.Ping, ID: 1}); err != nil {
		return err
	}
	var f frame.Frame
	if err := r.Read(&f); err != nil {
		return errors.Join(err, ctx.Err())
	}
	return nil
}

// noteSilence keeps what there is to say of a silence, of which there is one text; "": it is over.
func (c *Client) noteSilence(of *string, text string) {
	c.mu.Lock()
	news := *of != text
	if *of = text; news {
		c.broadcastLocked()
	}
	c.mu.Unlock()
	switch { // a log that is slow to write holds up no request
	case news && text != "":
		c.opts.Logger.Warn("slot hangs, so it gets no requests for now", "why", text)
	case news:
		c.opts.Logger.Info("slot answers again")
	}
}

// hangLocked says why the slot is taken to hang; empty: it isn't. The caller must hold mu.
func (c *Client) hangLocked() string {
	switch {
	case c.session == nil:
		return c.hung
	case c.session.silence != "":
		return c.session.silence
	}
	return c.session.deaf
}

// giveUpLocked ends the requests that a hanging slot has of a session that is given up: their answers can't come any more.
// The caller must hold mu.
func (c *Client) giveUpLocked(s *session) {
	for _, conn := range c.busy {
		if conn.session == s {
			_ = conn.nc.Close()
		}
	}
}
