// Package slotclient is the router's end of the protocol with one slot: a control connection that configures the
// slot and hears its status, and data connections that each carry one request at a time. It outlives the slot's
// container: when that restarts, the control connection comes back and the configuration is sent again.
package slotclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// Options say which slot a Client talks to, and as whom.
type Options struct {
	Name       string // "a" or "b"; the slot must answer with it
	Socket     string // path of the slot's unix socket
	Instance   string // of this router process; groups its connections at the slot
	MaxPayload int    // of a reply, in bytes; frame.DefaultMaxPayload when it isn't positive
	Logger     *slog.Logger
}

// Client talks to one slot. All methods are safe for concurrent use; Run must be running for any to succeed.
type Client struct {
	opts  Options
	quiet time.Duration // quietLimit, but in tests
	ids   atomic.Uint64 // last request id used

	mu      sync.Mutex
	desired config                     // guarded by mu
	taken   uint64                     // guarded by mu: number of the newest config that the slot accepted, ever
	refusal refusal                    // guarded by mu
	session *session                   // guarded by mu: nil while there is no control connection
	lastErr error                      // guarded by mu: why there is none
	hung    string                     // guarded by mu: why it is taken to hang, while there is none; empty: it isn't
	status  *slotproto.Status          // guarded by mu: from the session, nil before its first
	ready   string                     // guarded by mu: the revision that had a worker able to serve, in this session
	been    string                     // guarded by mu: the same, in this session or an earlier one
	running map[uint64]<-chan struct{} // guarded by mu: the Recall of each request that is being run and has one
	idle    []*dataConn                // guarded by mu: of the current session, the most recently used last
	busy    []*dataConn                // guarded by mu: with a request, in no order
	changed chan struct{}              // guarded by mu: closed and replaced by broadcast
}

// config is a desired configuration as it goes over the wire; number 0 means that none was given yet.
type config struct {
	number uint64
	body   []byte
}

type refusal struct {
	number uint64
	err    error
}

// New returns a client of the slot at opts.Socket; it connects once Run runs.
func New(opts Options) *Client {
	if opts.MaxPayload <= 0 {
		opts.MaxPayload = frame.DefaultMaxPayload
	}
	opts.Logger = opts.Logger.With("slot", opts.Name)
	return &Client{opts: opts, quiet: quietLimit, changed: make(chan struct{}), running: map[uint64]<-chan struct{}{}}
}

// Name returns the slot's name.
func (c *Client) Name() string { return c.opts.Name }

// Configure makes cfg what the slot should run, now and after each of its restarts, and returns the number by
// which Accepted knows it. It waits for nothing. The same cfg again keeps its number.
func (c *Client) Configure(cfg slotproto.Config) (uint64, error) {
	body, err := json.Marshal(cfg)
	if err != nil {
		return 0, fmt.Errorf("slot %s: encode its configuration: %w", c.opts.Name, err)
	}
	c.mu.Lock()
	if c.desired.number > 0 && bytes.Equal(c.desired.body, body) {
		defer c.mu.Unlock()
		return c.desired.number, nil
	}
	c.desired = config{number: c.desired.number + 1, body: body}
	number, s := c.desired.number, c.session
	c.mu.Unlock()
	if s != nil {
		s.sendConfig()
	}
	return number, nil
}

// Accepted waits until the slot has accepted the configuration with that number or a newer one, now or in an
// earlier session. It fails with the slot's own reason when that refused it, and when ctx ends with what stands
// between router and slot.
func (c *Client) Accepted(ctx context.Context, number uint64) error {
	for {
		c.mu.Lock()
		taken, refusal, changed := c.taken, c.refusal, c.changed
		c.mu.Unlock()
		switch {
		case taken >= number:
			return nil
		case refusal.number >= number:
			return fmt.Errorf("slot %s refused its configuration: %w", c.opts.Name, refusal.err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c.unreachable()
		}
	}
}

// State is what is known of a slot at one moment.
type State struct {
	Name string
	// Reachable: the control connection stands and the slot has taken its configuration.
	Reachable bool
	// Problem says why it isn't reachable; empty when it is.
	Problem string
	// Hangs says why the slot is taken to hang: it is there, and says nothing. Empty: it isn't.
	Hangs string
	// Status is the slot's last report in this session; its zero value before the first.
	Status slotproto.Status
}

// State returns what is known of the slot now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := State{Name: c.opts.Name, Reachable: c.servingLocked(), Hangs: c.hangLocked()}
	if !st.Reachable {
		st.Problem = c.problemLocked()
	}
	if c.status != nil {
		st.Status = *c.status
	}
	return st
}

// Serving reports whether requests can be sent: the control connection stands, and the slot is configured and answers.
func (c *Client) Serving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servingLocked()
}

// Ready reports whether the slot has had a worker of that revision able to serve, or one to be started by the first
// request, since its container last started.
func (c *Client) Ready(revision string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return revision != "" && c.ready == revision
}

// HasBeenReady is Ready, or was it before the slot's container restarted.
func (c *Client) HasBeenReady(revision string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return revision != "" && c.been == revision
}

// Changed returns a channel that is closed at the next change of what State tells, or of what is accepted.
// Changes of busy and queued alone don't count.
func (c *Client) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// servingLocked: caller must hold mu.
func (c *Client) servingLocked() bool {
	return c.session != nil && c.session.configured && c.session.silence == "" && c.session.deaf == ""
}

// problemLocked says in a few words why the slot can't be used; caller must hold mu.
func (c *Client) problemLocked() string {
	switch {
	case c.session != nil && c.hangLocked() != "":
		return c.hangLocked()
	case c.session != nil && c.refusal.number == c.desired.number && c.refusal.err != nil:
		return fmt.Sprintf("it refused its configuration: %v", c.refusal.err)
	case c.session != nil:
		return "it is connected and has not taken its configuration yet"
	case c.lastErr != nil:
		return c.lastErr.Error()
	}
	return "it has not been reached yet"
}

func (c *Client) unreachable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("slot %s is not reachable: %s", c.opts.Name, c.problemLocked())
}

// broadcastLocked wakes everybody who waits for a change; caller must hold mu.
func (c *Client) broadcastLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// noteStatus keeps st, and tells those who wait when it differs in more than load.
func (c *Client) noteStatus(st slotproto.Status, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.status == nil || shapeOf(*c.status) != shapeOf(st)
	c.status = &st
	readyBefore := c.ready
	switch {
	case st.Revision != "" && st.Ready+st.Busy+st.Unstarted > 0:
		c.ready, c.been = st.Revision, st.Revision
	case st.Revision != c.ready:
		c.ready = ""
	}
	if news || c.ready != readyBefore {
		c.broadcastLocked()
	}
	c.pruneLocked(now)
}

// shape is the part of a status whose change is news.
type shape struct {
	revision, version       string
	desired, starting, live int
	overflow, maxWorkers    int
	unstarted               int
	capped                  bool
	boot, unhealthy, pace   string
	attempts                int
	crashed                 uint64
}

func shapeOf(st slotproto.Status) shape {
	s := shape{
		revision: st.Revision, version: string(st.Version), desired: st.Desired, starting: st.Starting,
		live: st.Ready + st.Busy, overflow: st.Overflow, maxWorkers: st.MaxWorkers, unstarted: st.Unstarted, capped: st.Capped, crashed: st.Crashed,
	}
	if st.Boot != nil {
		s.boot, s.attempts = st.Boot.Message, st.Boot.Attempts
	}
	if st.Startup != nil {
		s.pace = st.Startup.Pace
	}
	if st.Unhealthy != nil {
		s.unhealthy = st.Unhealthy.Message
	}
	return s
}
