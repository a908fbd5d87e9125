package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/router/agent"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/router/split"
	"github.com/dspex/workerpool-operator/internal/router/state"
	"github.com/dspex/workerpool-operator/internal/router/trip"
	"github.com/dspex/workerpool-operator/internal/store"
)

// Config is what a router is started with; everything that changes later comes in snapshots.
type Config struct {
	Pool     string // the WorkerPool's name
	PoolUID  string
	Instance string // unique for this process
	Version  string // of poold, as reports and status show it

	Socket   string // path of the application's unix socket
	Listen   string // host:port on loopback; "": none
	SlotsDir string // holds a/pool.sock and b/pool.sock
	StateDir string // keeps the last applied snapshot, programs and sessions; "": nothing is kept

	ControlAddress string // host:port of the operator; "": none, the bootstrap snapshot is all there is
	CAFile         string
	TokenFile      string

	// Bootstrap is the snapshot that came with the pod, protojson; empty: none.
	Bootstrap []byte
	// StartupWait is how long to wait for the operator's first snapshot before starting from what there is.
	StartupWait time.Duration
	// MaxPayload bounds a request's body, in bytes; frame.DefaultMaxPayload when it isn't positive.
	MaxPayload int

	Logger *slog.Logger

	store store.Options // bounds and clock of tests; the zero value is what the store has by itself
}

// SlotSocket is the name of a slot's socket within its folder.
const SlotSocket = "pool.sock"

// Router serves one pool's requests in one pod.
type Router struct {
	cfg      Config
	instance string
	log      *slog.Logger
	slots    map[string]*slotclient.Client
	inside   map[string]*atomic.Int64 // by slot: requests that are with it

	table     atomic.Pointer[table] // nil until the first snapshot is in force; written under routing
	news      news                  // of a new table
	split     *split.Splitter
	ledger    ledger
	waiting   atomic.Int64 // requests whose slot is away
	bodies    *room        // for large bodies
	records   *records     // programs and sessions
	held      heldPrograms // that run now
	listeners []*listener  // set by Run, before it serves
	faults    faults
	connected atomic.Bool // to the operator

	// routing is held for moments, also while a snapshot waits for a slot: a trip waits for nothing. It is taken after
	// applying.
	routing sync.Mutex
	watch   *watch     // guarded by routing: of the canary; nil: there was none
	tripped *trip.Trip // guarded by routing: also while its canary is away; nil: none
	trips   news       // of a trip that was made
	// recalls: requests were taken back, and the slots are to be told.
	recalls atomic.Bool

	keeping    sync.Mutex // one save of the trip at a time; taken before routing
	keptTrip   *trip.Trip // guarded by keeping: what is on disk
	keepFails  bool       // guarded by keeping: unkeptTrip should be, and can't be written
	unkeptTrip *trip.Trip // guarded by keeping: of the last failure that was logged

	applying sync.Mutex   // one snapshot at a time
	store    *state.Store // guarded by applying
	// kept is the last snapshot that was saved, here or before a restart; nil: none. Written under applying.
	kept atomic.Pointer[controlpb.Snapshot]
}

// New makes a router; Run makes it serve.
func New(cfg Config) *Router {
	if cfg.MaxPayload <= 0 {
		cfg.MaxPayload = frame.DefaultMaxPayload
	}
	r := &Router{
		cfg: cfg, instance: cfg.Instance, log: cfg.Logger,
		slots: map[string]*slotclient.Client{}, inside: map[string]*atomic.Int64{}, store: state.NewStore(cfg.StateDir),
		split:   split.New(rand.Uint64),
		bodies:  newRoom(int64(max(cfg.MaxPayload, maxRecordBody))),
		records: newRecords(cfg.store, cfg.StateDir, cfg.Logger), faults: faults{log: cfg.Logger},
	}
	for _, name := range slotNames {
		r.inside[name] = new(atomic.Int64)
		r.slots[name] = slotclient.New(slotclient.Options{
			Name: name, Socket: filepath.Join(cfg.SlotsDir, name, SlotSocket), Instance: cfg.Instance,
			MaxPayload: max(cfg.MaxPayload, frame.DefaultMaxPayload), Logger: cfg.Logger,
		})
	}
	kept, err := r.store.Load()
	if err != nil {
		r.log.Error("the snapshot kept on disk is of no use; starting from the pod's own and the operator's", "error", err)
	}
	r.kept.Store(kept)
	if r.tripped, err = r.store.LoadTrip(); err != nil {
		r.log.Error("the trip kept on disk is of no use; the canary gets what the snapshot gives it", "error", err)
	}
	r.keptTrip = r.tripped
	return r
}

// Run serves until ctx ends, then stops listening, finishes what is running within the pool's drain timeout, and
// returns. An error means that it couldn't serve, or that the drain was cut short.
func (r *Router) Run(ctx context.Context) error {
	r.records.open()
	defer r.records.close()
	listeners, err := listen(ctx, r.cfg.Socket, r.cfg.Listen, maxConnections)
	if err != nil {
		return err
	}
	r.listeners = listeners
	// The slots and the operator are left last: requests are finished, and counted, before.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for _, slot := range r.slots {
		wg.Go(func() { slot.Run(background) })
	}
	wg.Go(func() { r.begin(ctx, background) })
	wg.Go(func() { r.watchSlots(background) })
	wg.Go(func() { r.serveControl(background) })
	wg.Go(func() { r.records.maintain(background) })

	server := r.newServer(background)
	failures := make(chan error, len(listeners))
	for _, l := range listeners {
		wg.Go(func() { failures <- server.Serve(l) })
	}
	r.log.Info("router serves", "pool", r.cfg.Pool, "socket", r.cfg.Socket, "listen", r.cfg.Listen)
	select {
	case <-ctx.Done():
		for _, l := range listeners {
			l.draining.Store(true)
		}
		return r.drain(background, server)
	case err := <-failures:
		return errors.Join(fmt.Errorf("serve: %w", err), server.Close())
	}
}

// begin runs the agent and sees to it that there is a first configuration: the operator's, or after StartupWait
// what was kept from before a restart, or what came with the pod.
func (r *Router) begin(ctx, background context.Context) {
	if r.cfg.ControlAddress == "" {
		r.startFromOwn()
		return
	}
	first := r.news.next()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.newAgent().Run(background) })
	timer := time.NewTimer(r.cfg.StartupWait)
	defer timer.Stop()
	select {
	case <-first:
	case <-timer.C:
		r.startFromOwn()
	case <-ctx.Done():
	}
}

func (r *Router) newAgent() *agent.Agent {
	return agent.New(agent.Options{
		Address: r.cfg.ControlAddress, CAFile: r.cfg.CAFile, TokenFile: r.cfg.TokenFile,
		Pool: r.cfg.Pool, PoolUID: r.cfg.PoolUID, Instance: r.cfg.Instance, Version: r.cfg.Version,
		Pod: r, Logger: r.log,
	})
}

// startFromOwn puts in force what the pod itself has; the weight in it is the last that was applied here.
func (r *Router) startFromOwn() {
	own, source := r.kept.Load(), "disk"
	if own == nil {
		source = "bootstrap"
		s, err := state.ParseBootstrap(r.cfg.Bootstrap)
		if err != nil {
			r.log.Error("no configuration of the pod's own; requests wait for the operator's", "error", err)
			return
		}
		own = s
	}
	if err := r.start(own); err != nil {
		r.log.Error("the pod's own configuration can't be used; requests wait for the operator's", "source", source, "error", err)
	}
}

// SetConnected says whether the channel to the operator stands.
func (r *Router) SetConnected(connected bool) { r.connected.Store(connected) }

// Changed returns channels that are closed at the next change of a slot's state.
func (r *Router) Changed() [2]<-chan struct{} {
	return [2]<-chan struct{}{r.slots[state.SlotA].Changed(), r.slots[state.SlotB].Changed()}
}

// Tripped returns a channel that is closed at the next trip.
func (r *Router) Tripped() <-chan struct{} { return r.trips.next() }

// defaultDrain bounds the drain of a router that has no configuration.
const defaultDrain = 30 * time.Second

// drain finishes what is running. The application has ended before its sidecars are told to, so that nothing new
// is expected.
func (r *Router) drain(ctx context.Context, server *http.Server) error {
	limit := defaultDrain
	if t := r.table.Load(); t != nil {
		limit = t.limits.drain
	}
	r.log.Info("router drains", "limit", limit)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain: requests still running after %v were cancelled: %w", limit, err), server.Close())
	}
	return nil
}
