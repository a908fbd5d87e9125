package router

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/store"
)

// sweepEvery is how often idle sessions are ended, and how often a store is tried again that couldn't be opened.
const sweepEvery = time.Minute

// records are the programs and sessions that applications keep with the router. A router can be without: it serves
// commands all the same.
type records struct {
	opts    store.Options
	log     *slog.Logger
	opened  atomic.Pointer[store.Store] // nil: there is none
	problem atomic.Pointer[pool.Error]  // why there is none
	warned  atomic.Int64                // when a use couldn't be counted, as unix seconds of the last log line
}

func newRecords(opts store.Options, stateDir string, log *slog.Logger) *records {
	opts.Dir, opts.Log = stateDir, log
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &records{opts: opts, log: log}
	r.problem.Store(store.Unavailable(stateDir, errNotOpened))
	return r
}

// open opens the store, or keeps the reason why it can't be used. A changed reason is logged.
func (r *records) open() {
	if r.opened.Load() != nil {
		return
	}
	if r.opts.Dir == "" {
		r.problem.Store(nothingKept())
		return
	}
	s, err := store.Open(r.opts)
	if err == nil {
		r.opened.Store(s)
		return
	}
	e := asPoolError(err)
	if before := r.problem.Swap(e); before == nil || before.Message != e.Message {
		r.log.Error("programs and sessions aren't available; commands are served without", "error", e)
	}
}

// use returns the store, or why there is none.
func (r *records) use() (*store.Store, error) {
	if s := r.opened.Load(); s != nil {
		return s, nil
	}
	return nil, r.problem.Load()
}

// maintain sweeps until ctx ends.
func (r *records) maintain(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.open()
			r.sweep()
		case <-ctx.Done():
			return
		}
	}
}

func (r *records) sweep() {
	s := r.opened.Load()
	if s == nil {
		return
	}
	switch ended, err := s.Sweep(); {
	case err != nil:
		r.log.Error("idle sessions can't be ended", "error", err)
	case ended > 0:
		r.log.Info("sessions ended that were idle too long", "sessions", ended)
	}
}

// touch counts a command as a use of its session. The command doesn't depend on it: it runs also when the store is
// full, or isn't there.
func (r *records) touch(session string) {
	s := r.opened.Load()
	if s == nil || session == "" || session == store.Anonymous {
		return
	}
	if _, err := s.Touch(session); err != nil {
		now := time.Now().Unix()
		if last := r.warned.Load(); now-last >= 60 && r.warned.CompareAndSwap(last, now) {
			r.log.Warn("commands run whose use of their session can't be counted", "session", session, "error", err)
		}
	}
}

// close ends the store; whoever comes later gets store_unavailable.
func (r *records) close() {
	if s := r.opened.Load(); s != nil {
		if err := s.Close(); err != nil {
			r.log.Error("closing the store of programs and sessions", "error", err)
		}
	}
}

// StoreStatus are the figures of programs and sessions.
type StoreStatus struct {
	Problem string `json:"problem,omitempty"` // why they can't be used
	store.Stats
}

func (r *records) status() StoreStatus {
	s, err := r.use()
	if err != nil {
		return StoreStatus{Problem: err.Error()}
	}
	return StoreStatus{Stats: s.Stats()}
}
