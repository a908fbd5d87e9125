package router

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener holds no more than limit connections. When there are as many, the one that has been without a request for
// longest makes way for a new one; one whose request has not come whole has none yet. While all have one, a new one waits.
type listener struct {
	net.Listener
	limit    int
	watching atomic.Int32 // callers of which it has to be found out whether they have left
	draining atomic.Bool  // no connection is kept for a peer that is still sending

	closed chan struct{}
	once   sync.Once
	freed  chan struct{} // has a value after a connection has gone

	mu   sync.Mutex
	held map[*conn]struct{} // guarded by mu
}

func newListener(l net.Listener, limit int) *listener {
	return &listener{Listener: l, limit: limit, closed: make(chan struct{}), freed: make(chan struct{}, 1), held: map[*conn]struct{}{}}
}

// Accept returns the next connection, once there is a place for it.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, of: l}
	c.idle.Store(time.Now().UnixNano())
	if c.raw, err = nc.(syscall.Conn).SyscallConn(); err != nil {
		_ = nc.Close()
		return nil, err
	}
	if !l.place(c) {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// leastIdle is how long a connection is left its place without a request, though others want it.
const leastIdle = time.Second

// place waits for a place for c; false: the listener was closed.
func (l *listener) place(c *conn) bool {
	for {
		longest, there := l.tryPlace(c)
		if there {
			return true
		}
		again := leastIdle
		if longest != nil {
			idle := longest.idleFor(time.Now())
			if idle >= leastIdle && !longest.pending() {
				l.forget(longest)
				_ = longest.Conn.Close() // net/http sees its end
				continue
			}
			again = max(leastIdle-idle, leastIdle/10)
		}
		timer := time.NewTimer(again)
		select {
		case <-l.freed:
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// tryPlace gives c a place, or returns the connection that has been without a request for longest; nil: all have one.
func (l *listener) tryPlace(c *conn) (longest *conn, there bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held) < l.limit {
		l.held[c] = struct{}{}
		return nil, true
	}
	since := int64(0)
	for other := range l.held {
		if idle := other.idle.Load(); idle > 0 && (longest == nil || idle < since) {
			longest, since = other, idle
		}
	}
	return longest, false
}

// forget gives a connection's place to the next.
func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.held[c]; !there {
		return
	}
	delete(l.held, c)
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// Close stops listening; connections live on.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
