package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const (
	// DefaultMaxConnections bounds the data connections to a slot: one for each request that runs or waits.
	DefaultMaxConnections = 4096
	// maxControls bounds the control connections, of which each router process has one, and the probes. They are counted
	// apart: a router that has lost its own must get in again however many data connections there are.
	maxControls  = 64
	helloTimeout = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// Listen makes the slot's socket, which every user may connect to: who reaches it is decided by who sees its
// directory. A stale socket is replaced, one that somebody serves isn't.
func Listen(path string) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("socket %s is served by another supervisor; stop it, or use another path", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replacing the stale socket: %w", err)
	}
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Server serves a slot to routers.
type Server struct {
	slot      *Slot
	limit     int
	instances *instances
	programs  *programs
	handlers  sync.WaitGroup

	mu          sync.Mutex
	connections map[net.Conn]slotproto.Role // guarded by mu; nil once closed
	count       map[slotproto.Role]int      // guarded by mu; of connections
}

// unknown is the role of a connection before its Hello.
const unknown slotproto.Role = ""

// NewServer returns a server of s that takes up to maxConnections data connections at a time, and lets as many wait
// for their Hello.
func NewServer(s *Slot, maxConnections int) *Server {
	return &Server{
		slot: s, limit: maxConnections, instances: newInstances(), programs: newPrograms(),
		connections: map[net.Conn]slotproto.Role{}, count: map[slotproto.Role]int{},
	}
}

// Serve accepts connections until l is closed, then returns nil; connections live on until Close.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			s.slot.opt.Log.Error("accepting a connection", "error", err)
			time.Sleep(50 * time.Millisecond) // out of file descriptors: let some close
			continue
		}
		if !s.admit(c, unknown) {
			_ = c.Close()
			continue
		}
		s.handlers.Go(func() {
			defer s.drop(c)
			s.handle(ctx, c)
		})
	}
}

// admit counts c as one of the role instead of what it was before, unless there are enough of that role or the server
// is closed.
func (s *Server) admit(c net.Conn, role slotproto.Role) bool {
	limit := s.limit
	if role == slotproto.Control || role == slotproto.Probe {
		limit = maxControls
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connections == nil || s.count[role] >= limit {
		return false
	}
	if before, known := s.connections[c]; known {
		s.count[before]--
	}
	s.connections[c] = role
	s.count[role]++
	return true
}

func (s *Server) drop(c net.Conn) {
	s.mu.Lock()
	if role, known := s.connections[c]; known {
		delete(s.connections, c)
		s.count[role]--
	}
	s.mu.Unlock()
	_ = c.Close()
}

// Close ends all connections, each after the reply that it is writing, and waits for their goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	for c := range s.connections {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
	s.connections = nil
	s.mu.Unlock()
	s.handlers.Wait()
}

func (s *Server) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections == nil
}

// peer is one connection after its Hello.
type peer struct {
	slotproto.Hello
	conn    net.Conn
	reader  *frame.Reader
	writer  *frame.Writer
	session *session
}

func (s *Server) handle(ctx context.Context, c net.Conn) {
	p, err := s.greet(c)
	if err != nil {
		if !expected(err) {
			s.slot.opt.Log.Warn("connection refused", "error", err)
		}
		return
	}
	if s.closed() { // while the Hello was read
		return
	}
	if control := p.Role == slotproto.Control; control {
		p.session = s.instances.control(&p.Hello)
		defer s.instances.leave(p.Instance, p.session, control)
		err = s.control(ctx, p)
	} else {
		p.session = s.instances.data(&p.Hello)
		defer s.instances.leave(p.Instance, p.session, control)
		err = s.data(ctx, p)
	}
	if !expected(err) {
		s.slot.opt.Log.Warn("connection ended", "role", p.Role, "instance", p.Instance, "error", err)
	}
}

// errFull ends a connection beyond what the slot takes, or one whose Hello came while the server was being closed.
var errFull = errors.New("the slot takes no more connections")

// expected errors end a connection every day: the peer closed it (a probe without a word), or this side does. A slot
// that is full logs nothing: a crowd of clients must not fill the log too.
func expected(err error) bool {
	return err == nil || errors.Is(err, errFull) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)
}

// greet reads the router's Hello and answers it.
func (s *Server) greet(c net.Conn) (*peer, error) {
	p := &peer{conn: c, reader: frame.NewReader(c, s.slot.opt.MaxPayload), writer: frame.NewWriter(c)}
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	var f frame.Frame
	if err := p.reader.Read(&f); err != nil {
		return nil, err
	}
	if f.Kind != frame.Hello || json.Unmarshal(f.Payload, &p.Hello) != nil {
		return nil, errors.New("the first frame is no Hello")
	}
	switch {
	case p.Protocol != slotproto.Protocol:
		return nil, fmt.Errorf("the peer speaks protocol %d, this slot %d", p.Protocol, slotproto.Protocol)
	case p.Role != slotproto.Control && p.Role != slotproto.Data && p.Role != slotproto.Probe, p.Instance == "":
		return nil, fmt.Errorf("role %q of instance %q", p.Role, p.Instance)
	}
	if !s.admit(c, p.Role) {
		return nil, errFull
	}
	answer, err := json.Marshal(map[string]any{"slot": s.slot.opt.Name, "protocol": slotproto.Protocol})
	if err != nil {
		return nil, err
	}
	if err := p.writer.Write(&frame.Frame{Kind: frame.Hello, ID: f.ID, Payload: answer}); err != nil {
		return nil, err
	}
	return p, c.SetDeadline(time.Time{})
}

// send writes one frame within the write timeout.
func (p *peer) send(f *frame.Frame) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return p.writer.Write(f)
}

// errorFrame encodes a failure as the answer to request id.
func errorFrame(id uint64, e *pool.Error, service time.Duration) (*frame.Frame, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	f := &frame.Frame{Kind: frame.Error, ID: id, Budget: service, Payload: payload}
	if e.Sent {
		f.Flags = frame.FlagSent
	}
	return f, nil
}
