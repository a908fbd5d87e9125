// Package slottest holds a slot for tests: it speaks the real protocol on a real unix socket, and does what the
// test scripts instead of running Python.
package slottest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// Call is a request as the slot got it.
type Call struct {
	ID      uint64
	Command string
	Payload string
	Budget  time.Duration
	Program string // hash of the program; "": a plain command
	Fixed   string // its body
	// Session and ProgramID are what the handler would be told.
	Session, ProgramID string
	Affinity           string // to the worker of the session
	Idempotent         bool
	// Revision that the slot was configured with when the call came.
	Revision string
	// Recalled is closed when the router takes the request back; a Handler that plays a queue looks at it.
	Recalled <-chan struct{}
}

// Handler answers a call. Its ctx ends when the router cancels the request or its control connection ends. An error
// that is a *pool.Error goes back as it is.
type Handler func(ctx context.Context, call Call) (result string, err error)

// Slot is the fake. Start and Stop play its container's life.
type Slot struct {
	Name   string
	Socket string

	t       testing.TB
	handler Handler

	mu          sync.Mutex
	calls       []Call                        // guarded by mu
	configs     []slotproto.Config            // guarded by mu: all that came, oldest first
	refuse      *pool.Error                   // guarded by mu: the answer to Configure
	deaf        bool                          // guarded by mu: Configure gets no answer
	unready     bool                          // guarded by mu: configured, no worker up
	mute        chan struct{}                 // guarded by mu: gets a value for each Hello of a data connection; nil: answer it
	quiet       bool                          // guarded by mu: it reports nothing
	unanswering bool                          // guarded by mu: it answers no probe
	raw         func(conn net.Conn, req Call) // guarded by mu: answers instead of the handler
	listener    net.Listener                  // guarded by mu
	conns       map[net.Conn]*control         // guarded by mu: nil for data connections
	running     map[uint64]context.CancelFunc // guarded by mu
	recalls     map[uint64]context.CancelFunc // guarded by mu: ends what stands behind Call.Recalled
	resets      int                           // guarded by mu
	crashed     uint64                        // guarded by mu: as the status says
	drained     uint64                        // guarded by mu: those of crashed that were a former pool's
	boot        *pool.BootFailure             // guarded by mu: as the status says
	startup     *pool.Startup                 // guarded by mu: as the status says
	unhealthy   *pool.Unhealthy               // guarded by mu: as the status says
	opened      int                           // guarded by mu: data connections ever
	programs    map[string]string             // guarded by mu: bodies by hash, of this life of the container
	bodies      int                           // guarded by mu: programs that were sent, ever
	commands    []string                      // guarded by mu: what the status tells
	wg          sync.WaitGroup
	configured  chan slotproto.Config
}

// control is a control connection's write side.
type control struct {
	mu sync.Mutex
	w  *frame.Writer
}

func (c *control) send(f *frame.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Write(f)
}

// New makes a slot whose socket is DIR/NAME/pool.sock, and starts it. It stops with the test.
func New(t testing.TB, dir, name string, handler Handler) *Slot {
	t.Helper()
	s := &Slot{
		Name: name, Socket: filepath.Join(dir, name, "pool.sock"), t: t, handler: handler,
		conns: map[net.Conn]*control{}, running: map[uint64]context.CancelFunc{}, recalls: map[uint64]context.CancelFunc{},
		configured: make(chan slotproto.Config, 64),
	}
	if err := os.MkdirAll(filepath.Dir(s.Socket), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start listens, like a container that has just started: with no configuration.
func (s *Slot) Start() {
	s.t.Helper()
	l, err := net.Listen("unix", s.Socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.listener, s.crashed, s.drained = l, 0, 0
	s.programs = map[string]string{}
	s.mu.Unlock()
	ended := make(chan struct{})
	s.wg.Go(func() { s.accept(l); close(ended) })
	s.wg.Go(func() { s.reportEach(time.Second, ended) })
}

// reportEach sends the status again and again, as a slot does, until it ends.
func (s *Slot) reportEach(interval time.Duration, ended <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Report()
		case <-ended:
			return
		}
	}
}

// Stop ends every connection at once, like a container that was killed. Idempotent.
func (s *Slot) Stop() {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	s.wg.Wait()
}

// Calls returns the requests that have come, oldest first.
func (s *Slot) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Configs returns the configurations that have come, oldest first.
func (s *Slot) Configs() []slotproto.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]slotproto.Config(nil), s.configs...)
}

// Configured receives each configuration that comes.
func (s *Slot) Configured() <-chan slotproto.Config { return s.configured }

// Opened returns how many data connections were ever opened.
func (s *Slot) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *Slot) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Report sends the status on every control connection.
func (s *Slot) Report() {
	s.mu.Lock()
	st := s.statusLocked(s.lastConfigLocked())
	var to []*control
	for _, c := range s.conns {
		if c != nil && !s.quiet {
			to = append(to, c)
		}
	}
	s.mu.Unlock()
	for _, c := range to {
		_ = c.send(&frame.Frame{Kind: frame.Status, Payload: encode(st)})
	}
}

func (s *Slot) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.listener != l {
			_ = conn.Close()
		}
		s.conns[conn] = nil
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(conn)
			_ = conn.Close()
			s.set(func() { delete(s.conns, conn) })
		})
	}
}

func (s *Slot) serve(conn net.Conn) {
	r, w := frame.NewReader(conn, 0), frame.NewWriter(conn)
	var f frame.Frame
	if err := r.Read(&f); err != nil {
		return // a probe connects and says nothing
	}
	var hello slotproto.Hello
	if err := json.Unmarshal(f.Payload, &hello); err != nil || f.Kind != frame.Hello {
		s.t.Errorf("slot %s: first frame of kind %d: %v", s.Name, f.Kind, err)
		return
	}
	s.mu.Lock()
	mute := s.mute
	s.mu.Unlock()
	if mute != nil && hello.Role == slotproto.Data {
		mute <- struct{}{}
		_ = r.Read(&f) // until the router gives up
		return
	}
	answer := map[string]any{"slot": s.Name, "protocol": slotproto.Protocol}
	if err := w.Write(&frame.Frame{Kind: frame.Hello, Payload: encode(answer)}); err != nil {
		return
	}
	switch hello.Role {
	case slotproto.Control:
		s.serveControl(conn, r, w)
	case slotproto.Probe:
		s.servePings(r, w)
	default:
		s.serveData(conn, r, w)
	}
}

func (s *Slot) serveControl(conn net.Conn, r *frame.Reader, w *frame.Writer) {
	c := &control{w: w}
	s.set(func() { s.conns[conn] = c })
	defer s.set(func() { // the router is gone
		for _, cancel := range s.running {
			cancel()
		}
	})
	if c.send(&frame.Frame{Kind: frame.Status, Payload: encode(slotproto.Status{Slot: s.Name})}) != nil {
		return
	}
	for {
		var f frame.Frame
		if err := r.Read(&f); err != nil {
			return
		}
		switch f.Kind {
		case frame.Configure:
			s.configure(c, &f)
		case frame.Cancel:
			s.set(func() {
				if cancel := s.running[f.ID]; cancel != nil {
					cancel()
				}
			})
		case frame.Recall:
			s.set(func() {
				if recall := s.recalls[f.ID]; recall != nil {
					recall()
				}
			})
		case frame.Reset:
			s.set(func() { s.resets++ })
		default:
			s.t.Errorf("slot %s: a frame of kind %d on a control connection", s.Name, f.Kind)
		}
	}
}

func (s *Slot) configure(c *control, f *frame.Frame) {
	var cfg slotproto.Config
	if err := json.Unmarshal(f.Payload, &cfg); err != nil {
		s.t.Errorf("slot %s: configuration: %v", s.Name, err)
	}
	s.mu.Lock()
	refuse, deaf := s.refuse, s.deaf
	if refuse == nil && !deaf {
		s.configs = append(s.configs, cfg)
	}
	st := s.statusLocked(s.lastConfigLocked())
	s.mu.Unlock()
	switch {
	case deaf:
		return
	case refuse != nil:
		_ = c.send(&frame.Frame{Kind: frame.Error, ID: f.ID, Payload: encode(refuse)})
		return
	}
	_ = c.send(&frame.Frame{Kind: frame.Result, ID: f.ID})
	_ = c.send(&frame.Frame{Kind: frame.Status, Payload: encode(st)})
	s.configured <- cfg
}

func (s *Slot) lastConfigLocked() slotproto.Config {
	if len(s.configs) == 0 {
		return slotproto.Config{}
	}
	return s.configs[len(s.configs)-1]
}

func (s *Slot) statusLocked(cfg slotproto.Config) slotproto.Status {
	st := slotproto.Status{Slot: s.Name, RSS: 1 << 20, Crashed: s.crashed}
	if cfg.Worker != nil {
		st.Boot, st.Startup, st.Unhealthy, st.PoolCrashed = s.boot, s.startup, s.unhealthy, s.crashed-s.drained
		st.Revision, st.Version, st.Desired = cfg.Revision, cfg.Version, cfg.Size
		st.Ready = cfg.Size
		if cfg.Lazy {
			st.Ready, st.Unstarted = 0, cfg.Size
		}
		if s.unready {
			st.Ready, st.Starting = 0, cfg.Size
		}
		st.Commands = s.commands
		st.Revisions = []slotproto.RevisionWorkers{{
			Revision: cfg.Revision, Live: cfg.Size, Places: cfg.Size * 8, Spawned: uint64(cfg.Size) + st.PoolCrashed, Destroyed: st.PoolCrashed,
			Crashed: st.PoolCrashed, CPU: 1.5, Memory: 1 << 20, FDs: 8,
		}}
	}
	return st
}

// run calls the handler, while there is a configuration with workers. Like in the real slot, nothing reads the data
// connection meanwhile.
func (s *Slot) run(call Call) *frame.Frame {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	recalled, recall := context.WithCancel(ctx)
	defer recall()
	call.Recalled = recalled.Done()
	s.set(func() { s.running[call.ID], s.recalls[call.ID] = cancel, recall })
	defer s.set(func() { delete(s.running, call.ID); delete(s.recalls, call.ID) })
	start := time.Now()
	result, err := "", error(pool.NewError(pool.ResourceError, pool.NotAvailable, "slot %s is idle", s.Name))
	if call.Revision != "" {
		result, err = s.handler(ctx, call)
	}
	if err == nil {
		return &frame.Frame{Kind: frame.Result, ID: call.ID, Budget: time.Since(start), Payload: []byte(result)}
	}
	var e *pool.Error
	if !errors.As(err, &e) {
		e = pool.NewError(pool.CommunicationError, pool.PythonError, "%v", err)
		e.Sent = true
	}
	f := &frame.Frame{Kind: frame.Error, ID: call.ID, Budget: time.Since(start), Payload: encode(e)}
	if e.Sent {
		f.Flags = frame.FlagSent
	}
	return f
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Echo is a Handler that returns its payload.
func Echo(_ context.Context, call Call) (string, error) { return call.Payload, nil }
