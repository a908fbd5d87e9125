// Package crew keeps the workers of a pool alive: it starts them, replaces those that end, adds some under load,
// and retires those that are too many. Which worker serves which request is the pool's matter (see Line).
package crew

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/histogram"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// Worker is what a crew and its pool need of a worker.Worker.
type Worker interface {
	ID() string
	PID() int
	Ready(ctx context.Context) error
	Commands() []string // once it is ready
	Codec() string      // once it is ready
	RoundTrip(ctx context.Context, c worker.Call) worker.Outcome
	// Ping is for a worker that has nothing to do; see worker.Worker.
	Ping(ctx context.Context, deadline time.Time) worker.Reason
	Discard(r worker.Reason)
	Kill(r worker.Reason)
	Ending() (worker.Reason, bool)
	Exited() <-chan struct{}
	Gone() <-chan struct{}
	Exit() worker.Exit
	Served() uint64
	RSS() uint64
	// Said is the last line that it has printed; it doesn't block.
	Said() string
	// Usage reads what the process and its group take; it may take milliseconds.
	Usage(groups *worker.Groups) worker.Usage
}

// Launch starts a process; the crew calls the Worker's Ready next.
type Launch func() (Worker, error)

// Line is a pool's side: where members wait for requests, and requests for members. Its methods don't block.
type Line interface {
	// Offer brings a member that can serve.
	Offer(m *Member)
	// Withdraw takes m out if it is idle, and reports whether it was.
	Withdraw(m *Member) bool
	// Lend takes m out as Withdraw does, but for a moment: whoever wants this very member goes on to wait for it.
	Lend(m *Member) bool
	// Restore puts back a member that was lent, as if it had been idle all the time; false: requests wait, and it is to
	// be offered.
	Restore(m *Member) bool
	// WithdrawIdle takes out the member that has been idle longest, if it has been since t or earlier.
	WithdrawIdle(t time.Time) *Member
	// Resting returns the idle members, and since when they are.
	Resting() map[*Member]time.Time
	// Demand tells what waits.
	Demand() Demand
}

// Demand is what waits in a Line.
type Demand struct {
	Waiting   int       // requests
	Oldest    time.Time // submission of the first of them
	Idle      int       // members
	IdleSince time.Time // of the member that has been idle longest; zero: none is idle
}

// Crew is the set of members. All methods are safe for concurrent use.
type Crew struct {
	launch  Launch
	line    Line
	log     *slog.Logger
	wake    chan struct{}
	changed chan struct{}
	stop    context.CancelFunc // ends starts and the loop
	running sync.WaitGroup     // the loop, and one goroutine for each member
	done    chan struct{}      // closed when running has ended

	// tooMany tells checkins to look whether their member is one too many. It may be late; Retire decides.
	tooMany atomic.Bool
	// For requests, which take no lock for it: maxRequests is recycling's, and onDemand whether members may be started
	// because requests wait.
	maxRequests atomic.Int64
	onDemand    atomic.Bool
	newcomers   chan struct{} // wakes the loop that reads what members take
	beats       chan struct{} // wakes the loop that looks at their hearts

	// mu guards what follows. The Line and workers' blocking methods are never called while it is held.
	mu             sync.Mutex
	size, overflow int
	lazy           bool
	recycling      pool.Recycle
	heartbeat      pool.Heartbeat
	vitals         vitals
	members        map[*Member]struct{}
	boot           bootLog
	pace           pace
	startLimit     time.Duration // of one start; 0: worker.DefaultInitTimeout
	frozen         bool          // no more starts
	closed         bool
	spawned        uint64
	destroyed      uint64
	crashed        uint64
	exits          map[string]uint64
	cpu            time.Duration       // of members that have ended
	starts         histogram.Histogram // from process start to ready
	commands       []string            // of the member that got ready last
}

// New returns a crew without members and starts its loop; Configure gives it its size. ctx bounds nothing but
// carries values: a crew ends by Close.
func New(ctx context.Context, launch Launch, line Line, log *slog.Logger) *Crew {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Crew{
		launch: launch, line: line, log: log, stop: stop,
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), done: make(chan struct{}), newcomers: make(chan struct{}, 1),
		beats: make(chan struct{}, 1), heartbeat: pool.DefaultHeartbeat,
		members: map[*Member]struct{}{}, exits: map[string]uint64{},
	}
	c.running.Go(func() { c.loop(ctx) })
	c.running.Go(func() { c.sampling(ctx) })
	c.running.Go(func() { c.beating(ctx) })
	return c
}

// Configure changes how many members there are (size, and up to overflow more under load), when they are started and
// when they are recycled. No busy member ends for it before its operation does.
func (c *Crew) Configure(limits pool.Limits) {
	c.mu.Lock()
	c.size, c.overflow, c.lazy, c.recycling = limits.Size, limits.Overflow, limits.Lazy, limits.Recycle
	c.heartbeat, c.startLimit = limits.Heartbeat.OrDefault(), limits.Start
	c.maxRequests.Store(int64(limits.Recycle.MaxRequests))
	c.onDemand.Store(limits.Lazy || limits.Overflow > 0)
	c.mu.Unlock()
	signal(c.beats)
	c.Poke()
}

// Freeze makes the crew start no more members, not even in the place of those that end: a pool that is being closed
// needs none for what is left.
func (c *Crew) Freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
}

// Changed receives (coalesced) when a member came, got ready or went, and when starts begin or cease to fail.
func (c *Crew) Changed() <-chan struct{} { return c.changed }

// Poke makes the crew look at its Line's demand.
func (c *Crew) Poke() { signal(c.wake) }

// Need makes a crew that starts members on demand look at its Line's demand.
func (c *Crew) Need() {
	if c.onDemand.Load() {
		c.Poke()
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// loop plans at every event and acts on it.
func (c *Crew) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		now := time.Now()
		f, worn := c.observe(now)
		p := decide(f, now)
		c.apply(ctx, p, now)
		c.recycleIdle(worn, p.recycle)
		if !p.wake.IsZero() {
			timer.Reset(time.Until(p.wake))
		}
	}
}

// observe returns what a plan depends on, and the members that are worn.
func (c *Crew) observe(now time.Time) (facts, []*Member) {
	d, resting := c.line.Demand(), c.resting()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteProven(now)
	f := c.census()
	f.waiting, f.oldestWait, f.idle, f.idleSince = d.Waiting, d.Oldest, d.Idle, d.IdleSince
	f.settles = c.settle(f, now)
	f.failing, f.notBefore = c.boot.failing, c.boot.notBefore
	worn, next := c.wornOut(resting, now)
	f.worn, f.nextWorn = len(worn), next
	return f, worn
}

// census counts the members. The caller holds mu.
func (c *Crew) census() facts {
	f := facts{
		size: c.size, overflow: c.overflow, lazy: c.lazy, live: len(c.members),
		failing: c.boot.failing, notBefore: c.boot.notBefore, frozen: c.frozen, pace: c.pace.limit,
	}
	for m := range c.members {
		switch {
		case m.state == ending:
			f.ending++
		case !m.offered: // up or not: it is yet to take a request, or to be idle
			f.starting++
		}
	}
	return f
}

func (c *Crew) apply(ctx context.Context, p plan, now time.Time) {
	c.tooMany.Store(p.surplus > 0)
	c.retireIdle(p.surplus, time.Now()) // those too that became idle since the plan was made
	c.retireIdle(p.longIdle, now.Add(-overflowIdle))
	for range p.start {
		c.add(ctx)
	}
}

func (c *Crew) retireIdle(n int, idleSince time.Time) {
	for range n {
		m := c.line.WithdrawIdle(idleSince)
		if m == nil {
			return
		}
		c.end(m, worker.ReasonRetired)
	}
}

// add makes a member, and the goroutine that sees it through its life.
func (c *Crew) add(ctx context.Context) {
	m := &Member{startedAt: time.Now(), random: rand.Float64()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return
	}
	c.members[m] = struct{}{}
	c.crowd()
	c.spawned++
	c.running.Go(func() { c.live(ctx, m) })
	signal(c.changed)
}

// live is a member's whole life.
func (c *Crew) live(ctx context.Context, m *Member) {
	if err := c.start(ctx, m); err != nil {
		c.failed(m, err)
		return
	}
	if c.admit(m) {
		c.offer(m)
		c.arrived(m)
	}
	signal(c.changed)
	<-m.worker.Exited()
	c.lost(m, c.line.Withdraw(m))
	<-m.worker.Gone()
}

func (c *Crew) start(ctx context.Context, m *Member) error {
	w, err := c.launch()
	if err != nil {
		return err
	}
	c.mu.Lock()
	m.worker = w
	c.mu.Unlock()
	return w.Ready(ctx)
}

// admit is the one place where a member becomes part of the pool.
func (c *Crew) admit(m *Member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		m.state = ending
		m.worker.Discard(worker.ReasonClosed)
		return false
	}
	m.state, m.readyAt = up, time.Now()
	c.starts.Observe(m.readyAt.Sub(m.startedAt))
	c.commands = m.worker.Commands()
	c.boot.ready(m.startedAt)
	c.pace.ready(m.startedAt)
	signal(c.newcomers)
	return true
}

// arrived makes the crew plan with a member that the Line has.
func (c *Crew) arrived(m *Member) {
	c.mu.Lock()
	m.offered = true
	if c.vitals.missed > 0 {
		signal(c.beats)
	}
	c.mu.Unlock()
	c.Poke()
}

// lost drops a member whose process has ended. idle: it had nothing to do.
func (c *Crew) lost(m *Member, idle bool) {
	exit, now := m.worker.Exit(), time.Now()
	reason, asked := m.worker.Ending()
	if !asked {
		c.log.Warn("worker ended unasked", "worker", m.worker.ID(), "exit", exit.String(), "idle", idle, "served", m.worker.Served())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed(reason, now)
	c.remove(m)
	c.cpu += max(exit.CPU, m.usage.CPU)
	if asked {
		c.exits[string(reason)]++
		return
	}
	c.exits[exit.Reason()]++
	c.crashed++
	if idle && now.Sub(m.readyAt) < provenAfter {
		c.diedYoung(m, "a worker "+exit.String()+" soon after it was ready, with nothing to do; see the slot's log", now)
	}
}

// remove takes m off the books. The caller holds mu.
func (c *Crew) remove(m *Member) {
	delete(c.members, m)
	c.destroyed++
	c.Poke()
	signal(c.changed)
}

// end discards a member that nobody else has.
func (c *Crew) end(m *Member, r worker.Reason) {
	c.mu.Lock()
	m.state = ending
	c.mu.Unlock()
	m.worker.Discard(r)
	signal(c.changed)
}
