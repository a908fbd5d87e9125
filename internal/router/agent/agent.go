// Package agent is the pod's end of the channel to the operator: it keeps one stream to the leader, puts the
// snapshots that come in force through its Pod, answers each with Ack or Nack, and reports. Nothing in the data
// path waits for it: without an operator the pod goes on with what it has.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/backoff"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

// Pod is what the agent speaks for.
type Pod interface {
	// Apply puts a snapshot in force, or returns why it isn't. An error that is state.ErrRefused is final; any
	// other may pass, and the same snapshot is tried again.
	Apply(ctx context.Context, s *controlpb.Snapshot) error
	// Kept is the last applied snapshot; nil: none was.
	Kept() *controlpb.Snapshot
	Report() *controlpb.Report
	// Changed returns channels that are closed when a report would tell something new about a slot.
	Changed() [2]<-chan struct{}
	// Tripped returns a channel that is closed when the canary trips, which is reported at once.
	Tripped() <-chan struct{}
	// SetConnected is called when the operator has accepted the stream, and when it has ended.
	SetConnected(connected bool)
}

// Options say where the operator is and who this router claims to be. Who it is, its token says.
type Options struct {
	Address   string // host:port; the certificate must bear the host
	CAFile    string // PEM bundle, read for each connection
	TokenFile string // bearer token, read for each stream

	Pool, PoolUID, Instance, Version string

	Pod    Pod
	Logger *slog.Logger
}

const (
	// Of 10,000 routers that lose their operator at once, each comes back at its own moment.
	minReconnect, maxReconnect = 200 * time.Millisecond, 10 * time.Second
	// A snapshot that a slot wouldn't take is tried again so often.
	minReapply, maxReapply = 100 * time.Millisecond, 2 * time.Second

	reportInterval = time.Second
	// newsInterval is the least time between a report and the next one that is due to a change.
	newsInterval = 100 * time.Millisecond
)

// Agent keeps the stream.
type Agent struct {
	opts Options
	log  *slog.Logger

	verdicts mailbox[*controlpb.AgentMessage]
	offered  chan struct{} // capacity 1: there may be a pending snapshot

	mu        sync.Mutex
	pending   *controlpb.Snapshot // guarded by mu: the newest that isn't being applied yet; nil: none
	supersede context.CancelFunc  // guarded by mu: ends the apply that is running; nil: none
}

// New makes an agent; Run makes it work.
func New(opts Options) *Agent {
	return &Agent{
		opts: opts, log: opts.Logger.With("operator", opts.Address),
		verdicts: newMailbox[*controlpb.AgentMessage](), offered: make(chan struct{}, 1),
	}
}

// Run keeps a stream until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.applyAll(ctx) })
	reconnect := backoff.Backoff{Min: minReconnect, Max: maxReconnect}
	lastProblem := ""
	for ctx.Err() == nil {
		accepted, err := a.runStream(ctx)
		a.opts.Pod.SetConnected(false)
		if accepted {
			reconnect.Reset()
			lastProblem = ""
		}
		if problem := err.Error(); problem != lastProblem && ctx.Err() == nil {
			a.log.Warn("no stream to the operator; serving on with the last configuration", "error", problem)
			lastProblem = problem
		}
		reconnect.Wait(ctx)
	}
}

// offer hands a snapshot to the applier; one that is still being applied is given up for it.
func (a *Agent) offer(s *controlpb.Snapshot) {
	a.mu.Lock()
	a.pending = s
	if a.supersede != nil {
		a.supersede()
	}
	a.mu.Unlock()
	select {
	case a.offered <- struct{}{}:
	default:
	}
}

// take returns the pending snapshot, nil when there is none, with a context that ends when a newer one is offered.
// Both happen under one lock, so that no offer ends the apply of its own snapshot.
func (a *Agent) take(ctx context.Context) (context.Context, *controlpb.Snapshot) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.pending
	a.pending = nil
	ctx, a.supersede = context.WithCancel(ctx)
	return ctx, s
}

// applyAll applies what is offered, one at a time, always the newest.
func (a *Agent) applyAll(ctx context.Context) {
	for {
		select {
		case <-a.offered:
		case <-ctx.Done():
			return
		}
		current, s := a.take(ctx)
		if s != nil {
			a.apply(current, s)
		}
		a.release()
	}
}

// release frees what take holds.
func (a *Agent) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.supersede()
	a.supersede = nil
}

// apply tries s until it is in force, refused for good, or superseded, and answers each change of that.
func (a *Agent) apply(ctx context.Context, s *controlpb.Snapshot) {
	again := backoff.Backoff{Min: minReapply, Max: maxReapply}
	reason := ""
	for {
		err := a.opts.Pod.Apply(ctx, s)
		if err == nil {
			a.verdicts.put(ack(s))
			return
		}
		if ctx.Err() != nil {
			return
		}
		if err.Error() != reason {
			reason = err.Error()
			a.log.Warn("snapshot not in force", "epoch", s.GetEpoch(), "sequence", s.GetSequence(), "error", reason)
			a.verdicts.put(nack(s, reason))
		}
		if errors.Is(err, state.ErrRefused) || !again.Wait(ctx) {
			return
		}
	}
}

func ack(s *controlpb.Snapshot) *controlpb.AgentMessage {
	return &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Ack{
		Ack: &controlpb.Ack{Epoch: s.GetEpoch(), Sequence: s.GetSequence()},
	}}
}

func nack(s *controlpb.Snapshot, reason string) *controlpb.AgentMessage {
	return &controlpb.AgentMessage{Body: &controlpb.AgentMessage_Nack{
		Nack: &controlpb.Nack{Epoch: s.GetEpoch(), Sequence: s.GetSequence(), Reason: reason},
	}}
}

// mailbox holds the newest message that wasn't taken yet. One goroutine at a time may put.
type mailbox[T any] chan T

func newMailbox[T any]() mailbox[T] { return make(mailbox[T], 1) }

func (m mailbox[T]) put(v T) {
	select {
	case <-m:
	default:
	}
	m <- v
}
