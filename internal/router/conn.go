package router

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a connection of the application, as net/http sees it.
type conn struct {
	net.Conn
	raw syscall.RawConn
	of  *listener

	idle    atomic.Int64 // since when it has no request, in unix nanoseconds; 0: it has one
	unread  atomic.Bool  // it was answered before its request had been read to the end
	ended   atomic.Bool  // nothing more comes from the peer
	closing atomic.Bool
}

// note keeps what net/http says about its connections.
func (c *conn) note(state http.ConnState) {
	switch state {
	case http.StateActive:
		c.idle.Store(0)
	case http.StateIdle:
		c.idle.Store(time.Now().UnixNano())
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

// idleFor is how long the connection has been without a request; 0: it has one.
func (c *conn) idleFor(now time.Time) time.Duration {
	since := c.idle.Load()
	if since == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, since))
}

// Read hides that a caller sends nothing more from net/http while that waits for the caller to leave, which it does with
// reads of one byte: a caller may close its sending half and go on waiting for its answer.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	c.ended.Store(true)
	if len(p) == 1 && c.idle.Load() == 0 {
		err = c.untilLeft()
	}
	return n, err
}

// hungUp reports whether both halves of a connection are closed.
func hungUp(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// left reports whether the peer has closed the connection.
func (c *conn) left() bool {
	is := false
	err := c.raw.Control(func(fd uintptr) { is = hungUp(int(fd)) })
	return err != nil || is
}

// pending reports whether the peer has sent what wasn't read.
func (c *conn) pending() bool {
	is := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		is = err == nil && n > 0
	})
	return err == nil && is
}

// Close ends the connection. A peer that is still sending is let do so for a while, that it may come to read its answer.
func (c *conn) Close() error {
	c.linger()
	c.of.forget(c)
	return c.Conn.Close()
}

// CloseWrite is what net/http calls when the peer may be sending still; it closes the connection afterwards.
func (c *conn) CloseWrite() error {
	c.linger()
	return nil
}

const (
	// lingerTime and lingerBytes bound what is still taken from a peer that was answered already, lingerStall how long
	// it may send nothing.
	lingerTime  = 10 * time.Second
	lingerBytes = 256 << 20
	lingerStall = time.Second
)

// linger takes what a peer still sends that has been answered, if there is any: most read their answer only then. It does
// so once; when it is called again meanwhile it lets the caller close the connection.
func (c *conn) linger() {
	if c.closing.Swap(true) || c.ended.Load() || c.of.draining.Load() || !c.unread.Load() && !c.pending() {
		return
	}
	half, can := c.Conn.(interface{ CloseWrite() error })
	if !can || half.CloseWrite() != nil {
		return
	}
	now := time.Now()
	c.idle.Store(now.UnixNano()) // it may have to make way
	buffer, end := make([]byte, 16<<10), now.Add(lingerTime)
	for taken := 0; taken < lingerBytes && now.Before(end); now = time.Now() {
		if c.SetReadDeadline(now.Add(lingerStall)) != nil {
			return
		}
		n, err := c.Conn.Read(buffer)
		if err != nil {
			return
		}
		taken += n
	}
}

// connKey is the key of a request's *conn in its context.
type connKey struct{}

// connOf returns the connection of a request, nil when it came by another way.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
