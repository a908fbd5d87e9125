package router

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/state"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestO44_OldEpochIsRefused(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.apply(at(snapshot(1000), 8, 1))
	for name, old := range map[string]*controlpb.Snapshot{
		"old leader, far ahead": at(snapshot(10_000), 7, 900),
		"bootstrap's epoch":     at(snapshot(10_000), 0, 0),
	} {
		if err := r.Apply(t.Context(), old); !errors.Is(err, state.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.apply(at(snapshot(2000), 8, 2))
	if err := r.Apply(t.Context(), at(snapshot(10_000), 8, 1)); !errors.Is(err, state.ErrRefused) {
		t.Errorf("older sequence: %v", err)
	}
	if got := r.status(); got.CanaryWeight != 20 || r.Position() != (state.Position{Epoch: 8, Sequence: 2}) {
		t.Errorf("weight %v at %v after refused snapshots", got.CanaryWeight, r.Position())
	}
	t.Run("also after a restart, before anything is in force", func(t *testing.T) {
		r.config.ControlAddress, r.config.StartupWait = "127.0.0.1:1", time.Hour // nobody is there
		r.restart()
		if err := r.Apply(t.Context(), at(snapshot(10_000), 7, 900)); !errors.Is(err, state.ErrRefused) {
			t.Errorf("got %v", err)
		}
		if r.status().Configured {
			t.Error("a refused snapshot configured the router")
		}
		r.apply(at(snapshot(2000), 8, 2)) // the same again is fine
	})
}

func TestWeightWaitsForTheSlot(t *testing.T) {
	onlyA := changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" })
	t.Run("that is unreachable", func(t *testing.T) {
		r := newRig(t, onlyA, nil)
		r.b.Stop()
		r.until(func() bool { return !r.slots["b"].Serving() })
		err := r.Apply(t.Context(), at(snapshot(1000), 1, 1))
		if err == nil || !strings.Contains(err.Error(), "slot b is not reachable") || errors.Is(err, state.ErrRefused) {
			t.Errorf("got %v", err)
		}
		if st := r.status(); st.CanaryWeight != 0 || st.Epoch != 0 {
			t.Errorf("in force: %+v", st)
		}
		r.b.Start()
		r.apply(at(snapshot(1000), 1, 1))
		if st := r.status(); st.CanaryWeight != 10 || st.Epoch != 1 {
			t.Errorf("in force after the slot came: %+v", st)
		}
	})
	t.Run("that refuses", func(t *testing.T) {
		r := newRig(t, onlyA, nil)
		r.b.Refuse(pool.NewError(pool.RequestError, pool.InvalidPayload, "worker.module is empty"))
		err := r.Apply(t.Context(), at(snapshot(1000), 1, 1))
		if err == nil || !strings.Contains(err.Error(), "worker.module is empty") {
			t.Errorf("got %v", err)
		}
		if a, _ := r.burst(20); a != 20 {
			t.Errorf("the stable answered %d of 20", a)
		}
	})
	t.Run("that doesn't answer", func(t *testing.T) {
		r := newRig(t, onlyA, nil)
		r.b.Deaf(true)
		if err := r.Apply(t.Context(), at(snapshot(1000), 1, 1)); err == nil {
			t.Error("accepted without an answer")
		}
	})
}

func TestO42_WeightIsLoweredEvenWhenASlotIsAway(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	r.apply(at(snapshot(5000), 1, 1))
	r.b.Stop()
	r.until(func() bool { return !r.slots["b"].Serving() })
	smaller := changed(at(snapshot(100), 1, 2), func(s *controlpb.Snapshot) { s.Slots[1].Size = 2 })
	if err := r.Apply(t.Context(), smaller); err == nil {
		t.Fatal("accepted though the slot is away")
	}
	if got := r.status(); got.CanaryWeight != 1 || got.Sequence != 1 {
		t.Errorf("weight %v, sequence %d; want 1 %% of the one before", got.CanaryWeight, got.Sequence)
	}
	r.restart()
	r.until(func() bool { return r.status().Configured })
	if got := r.status(); got.CanaryWeight != 1 {
		t.Errorf("weight %v after a restart, want 1 %%", got.CanaryWeight)
	}
	t.Run("a rollback needs no slot that it leaves", func(t *testing.T) {
		back := changed(at(snapshot(0), 1, 3), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" })
		if err := r.Apply(t.Context(), back); err != nil {
			t.Error(err)
		}
		if a, _ := r.burst(20); a != 20 {
			t.Errorf("the stable answered %d of 20", a)
		}
	})
}

// TestO18_PromotionUnderTraffic moves everything to slot b, empties slot a, and comes back: no request is lost, also
// none that meets a slot that has just been emptied.
func TestO18_PromotionUnderTraffic(t *testing.T) {
	r := newRig(t, snapshot(1000), nil)
	promoted := changed(snapshot(0), func(s *controlpb.Snapshot) {
		s.Slots[0].Revision, s.Stable, s.Canary = nil, "b", ""
	})
	var running atomic.Bool
	running.Store(true)
	done := make(chan int)
	go func() {
		n := 0
		for running.Load() {
			r.burst(50)
			n += 50
		}
		done <- n
	}()
	for i, s := range []*controlpb.Snapshot{snapshot(10_000), promoted, snapshot(0), snapshot(10_000), promoted} {
		r.apply(at(s, 1, uint64(i+1)))
	}
	running.Store(false)
	if n := <-done; n == 0 {
		t.Error("there was no traffic")
	}
	if _, b := r.burst(20); b != 20 {
		t.Errorf("after the promotion v2 answered %d of 20", b)
	}
	for _, revision := range []string{"r1", "r2"} {
		if f := r.revisionFigures(revision); f.Errors+f.Infrastructure+f.Shed+f.Timeouts > 0 {
			t.Errorf("failures: %+v", f)
		}
	}
}

func TestSlotsGetWhatTheSnapshotSays(t *testing.T) {
	r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) {
		s.Slots[0].Overflow, s.Slots[0].Revision.Python = 2, "python3"
		s.Slots[0].Revision.Preload, s.Slots[0].Revision.WorkingDir, s.Slots[0].Revision.Concurrency = "Zygote", "src", 8
		s.Slots[1].Revision, s.Canary = nil, ""
		s.Limits.Lazy = true
		s.Limits.Recycle = &controlpb.Recycle{MaxRequests: 1 << 40, MaxAgeMs: 60_000, MaxIdleMs: 30_000, MaxMemoryBytes: 1 << 30}
	}), nil)
	base := slotproto.Config{
		Pool: "summarizer", Queue: 100, Checkout: 2 * time.Second, Op: 5 * time.Second, Drain: 5 * time.Second, Lazy: true,
		Recycle: pool.Recycle{MaxRequests: math.MaxInt32, MaxAge: time.Minute, MaxIdle: 30 * time.Second, MaxMemory: 1 << 30},
	}
	want := base
	want.Revision, want.Version, want.Size, want.Overflow = "r1", pool.V1, 4, 2
	want.Worker = &slotproto.Worker{
		Python: "python3", WorkingDir: "src", Module: "summarizer.commands", Env: []slotproto.EnvVar{{Name: "API_KEY", Value: secret}},
		Preload: slotproto.PreloadZygote, Concurrency: 8,
	}
	if diff := cmp.Diff([]slotproto.Config{want}, r.a.Configs()); diff != "" {
		t.Errorf("slot a (-want +got)\n%s", diff)
	}
	r.until(func() bool { return len(r.b.Configs()) == 1 })
	if diff := cmp.Diff([]slotproto.Config{base}, r.b.Configs()); diff != "" {
		t.Errorf("slot b, idle (-want +got)\n%s", diff)
	}
}

// The operator is told of each revision's workers, which a slot tells apart from those that it had before.
func TestReportsTellOfEachRevisionsWorkers(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	r.until(func() bool { return ready(r.Router, snapshot(5000)) })
	for i, revision := range []string{"r1", "r2"} {
		want := []*controlpb.RevisionWorkers{{Revision: revision, Live: 4, Places: 32, Spawned: 4, CpuMs: 1500, MemoryBytes: 1 << 20, OpenFds: 8}}
		if diff := cmp.Diff(want, r.Report().GetSlots()[i].GetRevisions(), protocmp.Transform()); diff != "" {
			t.Errorf("slot %d (-want +got):\n%s", i, diff)
		}
	}
}

// A lazy slot has no worker, and gets its share all the same: else it would never have one.
func TestLazySlotsGetRequests(t *testing.T) {
	r := newRig(t, changed(snapshot(5000), func(s *controlpb.Snapshot) { s.Limits.Lazy = true }), nil)
	r.until(func() bool { return ready(r.Router, snapshot(5000)) })
	if a, b := r.burst(20); a != 10 || b != 10 {
		t.Errorf("%d and %d of 20; want 10 each", a, b)
	}
	if st := r.status().Slots[0]; st.Unstarted != 4 || st.Ready != 0 {
		t.Errorf("unstarted %d, ready %d; want 4, 0", st.Unstarted, st.Ready)
	}
}

func TestO42_RestartBeginsWithWhatWasInForce(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	r.apply(at(snapshot(2500), 5, 9))
	r.restart()
	r.until(func() bool { return r.status().Configured && ready(r.Router, snapshot(2500)) })
	if st := r.status(); st.CanaryWeight != 25 || st.Epoch != 5 || st.Sequence != 9 {
		t.Errorf("after the restart: %+v", st)
	}
	if _, b := r.burst(100); b != 25 {
		t.Errorf("%d of 100 went to the canary", b)
	}
}

func TestTornStateFallsBackToTheBootstrap(t *testing.T) {
	r := newRig(t, snapshot(100), nil)
	r.apply(at(snapshot(2500), 5, 9))
	r.end()
	path := filepath.Join(r.config.StateDir, "snapshot")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until(func() bool { return r.status().Configured })
	if st := r.status(); st.CanaryWeight != 1 || st.Epoch != 0 {
		t.Errorf("in force: %+v, want the bootstrap's", st)
	}
	if !strings.Contains(r.logs.String(), "torn or corrupt") {
		t.Errorf("the log doesn't say why:\n%s", r.logs)
	}
}

func TestStateThatCanNotBeKeptIsInForce(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	if err := os.RemoveAll(r.config.StateDir); err != nil {
		t.Fatal(err)
	}
	r.apply(at(snapshot(10_000), 1, 1))
	if _, b := r.burst(10); b != 10 {
		t.Errorf("v2 answered %d of 10", b)
	}
	if !strings.Contains(r.logs.String(), "would be lost if the router restarted") {
		t.Errorf("the log doesn't tell:\n%s", r.logs)
	}
}
