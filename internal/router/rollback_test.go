package router

import (
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// TestO17_WhatWaitsIsTakenBack: a leader's snapshot that leaves the canary no weight takes back what no worker of it has,
// as a trip does; what a worker has gets its own end, and none runs twice.
func TestO17_WhatWaitsIsTakenBack(t *testing.T) {
	for name, next := range map[string]*controlpb.Snapshot{
		"at weight 0": snapshot(0),
		"with its canary dropped": changed(snapshot(0), func(s *controlpb.Snapshot) {
			s.Slots[1].Revision, s.Canary = nil, ""
		}),
		"with another canary in its place": changed(snapshot(0), func(s *controlpb.Snapshot) {
			s.Slots[1].Revision.Hash = "r3"
		}),
	} {
		t.Run(name, func(t *testing.T) {
			entered, finish := make(chan struct{}, 10), make(chan struct{})
			r := newRig(t, snapshot(0), queueing(entered, finish))
			r.apply(at(snapshot(10_000), 1, 1))
			waiting, running := make(chan *answer, 3), make(chan *answer, 1)
			go func() { running <- r.post("run", "{}") }()
			for range cap(waiting) {
				go func() { waiting <- r.post("queue", "{}") }()
			}
			for range cap(waiting) + 1 {
				<-entered
			}
			begin := time.Now()
			r.apply(at(next, 1, 2))
			for range cap(waiting) {
				if a := <-waiting; a.slot() != "a" {
					t.Errorf("one that waited: %d %s", a.code, a.body)
				}
			}
			t.Logf("what waited was answered within %v", time.Since(begin))
			close(finish)
			if a := <-running; a.slot() != "b" {
				t.Errorf("the one that ran: %d %s", a.code, a.body)
			}
			if a, b := len(r.a.Calls()), len(r.b.Calls()); a != 3 || b != 4 {
				t.Errorf("the stable got %d requests and the canary %d, want the 3 that waited and each of 4 once", a, b)
			}
			if f := r.revisionFigures("r2"); f.Infrastructure > 0 {
				t.Errorf("what was taken back counts as the canary's failures: %+v", f)
			}
		})
	}
}

// TestACanaryWithAWeightAgain: what was taken back at weight 0 binds nothing that comes when it is raised again, under the
// same token; and its trip still works.
func TestACanaryWithAWeightAgain(t *testing.T) {
	r := newRig(t, snapshot(0), ends)
	for sequence, weight := range []uint32{5000, 0, 10_000, 0, 10_000} {
		r.apply(at(under(snapshot(weight), "one"), 1, uint64(sequence+1)))
		want := int(weight) / 100
		if _, b := r.burst(100); b != want {
			t.Fatalf("weight %d: the canary answered %d of 100", weight, b)
		}
	}
	for range 5 {
		r.post("crash", "{}")
	}
	r.servesStableOnly("after a trip")
}

// TestNothingIsTakenBackWithoutAStableThatServes: what the canary has is safer there than with nobody.
func TestNothingIsTakenBackWithoutAStableThatServes(t *testing.T) {
	entered, finish := make(chan struct{}, 10), make(chan struct{})
	r := newRig(t, snapshot(0), queueing(entered, finish))
	r.apply(at(snapshot(10_000), 1, 1))
	waiting := make(chan *answer, 1)
	go func() { waiting <- r.post("queue", "{}") }()
	<-entered
	r.a.Unready(true)
	r.until(func() bool { return r.slots["a"].State().Status.Starting > 0 })
	if err := r.Apply(t.Context(), at(snapshot(0), 1, 2)); err != nil {
		t.Fatal(err)
	}
	close(finish)
	if a := <-waiting; a.slot() != "b" {
		t.Errorf("%d %s", a.code, a.body)
	}
}

// TestO37_ARollbackOutlivesItsLeader, and the router: it is on disk with the weight, and the next leader, whose status doesn't have
// it, raises nothing.
func TestO37_ARollbackOutlivesItsLeader(t *testing.T) {
	r := newRig(t, snapshot(0), ends)
	r.apply(at(snapshot(5000), 1, 1))
	r.apply(changed(at(snapshot(0), 1, 2), func(s *controlpb.Snapshot) {
		s.RolledBack = &controlpb.RolledBack{Revision: "r2", Reason: "ErrorRateExceeded", AtUnix: 100}
	}))
	r.restart()
	r.until(func() bool { return r.status().Configured })
	r.apply(at(snapshot(5000), 2, 1))
	if _, b := r.burst(20); b != 0 || r.Kept().GetRolledBack().GetRevision() != "r2" || r.Kept().GetEpoch() != 2 {
		t.Errorf("the canary answered %d of 20; kept %v", b, r.Kept())
	}
	r.apply(changed(at(snapshot(5000), 2, 2), func(s *controlpb.Snapshot) { s.RolledBack = &controlpb.RolledBack{AtUnix: 100} }))
	if _, b := r.burst(20); b == 0 {
		t.Errorf("once its leader knows, and gives it half: the canary answered %d of 20", b)
	}
}

// TestO17_ARollbackReachesASlotThatIsAway: the weight is lowered though the snapshot can't be put in force, and why is kept.
func TestO17_ARollbackReachesASlotThatIsAway(t *testing.T) {
	r := newRig(t, snapshot(0), ends)
	r.apply(at(snapshot(5000), 1, 1))
	r.b.Stop()
	r.until(func() bool { return !r.slots["b"].Serving() })
	back := changed(at(snapshot(0), 1, 2), func(s *controlpb.Snapshot) {
		s.Slots[1].Size, s.RolledBack = 2, &controlpb.RolledBack{Revision: "r2", AtUnix: 100}
	})
	if err := r.Apply(t.Context(), back); err == nil {
		t.Fatal("accepted though the slot is away")
	}
	if r.Kept().GetCanaryWeight() != 0 || r.Kept().GetRolledBack().GetRevision() != "r2" {
		t.Errorf("kept %v", r.Kept())
	}
}
