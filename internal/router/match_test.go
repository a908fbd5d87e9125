package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/split"
)

// matching lets only these commands and programs go to the canary.
func matching(s *controlpb.Snapshot, commands []string, programs ...string) *controlpb.Snapshot {
	return changed(s, func(s *controlpb.Snapshot) { s.Match = &controlpb.Match{Commands: commands, Programs: programs} })
}

// sticking keeps sessions to one revision.
func sticking(s *controlpb.Snapshot) *controlpb.Snapshot {
	return changed(s, func(s *controlpb.Snapshot) { s.Stickiness = controlpb.Stickiness_STICKINESS_SESSION })
}

func TestO79_OtherCommandsNeverReachTheCanary(t *testing.T) {
	r := newRig(t, matching(snapshot(9000), []string{"summarize", "rank"}), nil)
	for tenth := range 4 {
		canary := 0
		for range 10 {
			if r.post("summarize", "{}").slot() == "b" {
				canary++
			}
			if got := r.post("tag", "{}").slot(); got != "a" {
				t.Errorf("another command went to slot %s", got)
			}
		}
		if canary != 9 {
			t.Errorf("of ten matching requests, the %d. time, %d went to the canary, want 9: others must not count in the split", tenth+1, canary)
		}
	}
	t.Run("also when the stable is away", func(t *testing.T) {
		r.a.Stop()
		r.until(func() bool { return !r.slots["a"].Serving() })
		if a := r.post("tag", "{}", "Workerpool-Deadline", "100ms"); a.code != 503 || a.failure.Type != "pool_not_available" {
			t.Errorf("another command got %d %s, want it to wait for the stable", a.code, a.body)
		}
		if a := r.post("rank", "{}"); a.slot() != "b" {
			t.Errorf("a matching one got %d %s, want the canary's reply", a.code, a.body)
		}
		r.a.Start()
		r.until(func() bool { return r.slots["a"].Ready("r1") })
	})
	t.Run("until the canary has all", func(t *testing.T) {
		r.apply(at(matching(snapshot(10_000), []string{"rank"}), 1, 1))
		if _, b := r.burst(20); b != 20 {
			t.Errorf("the canary answered %d of 20 others at its full weight", b)
		}
		r.a.Stop()
		r.until(func() bool { return !r.slots["a"].Serving() })
		if _, b := r.burst(20); b != 20 {
			t.Errorf("with the stable gone the canary answered %d of 20", b)
		}
	})
}

// TestO79_WhatDoesNotMatchIsCountedApart: beside a canary that can't get it, it has nothing to be compared with.
func TestO79_WhatDoesNotMatchIsCountedApart(t *testing.T) {
	r := newRig(t, matching(snapshot(5000), []string{"rank"}), nil)
	for range 10 {
		r.post("rank", "{}")
		r.post("tag", "{}")
		r.post("tag", "{}")
	}
	want := map[string][2]uint64{"r1": {25, 20}, "r2": {5, 0}} // all, and apart
	got := map[string][2]uint64{}
	for _, c := range r.Report().GetRevisions() {
		got[c.GetRevision()] = [2]uint64{c.GetRequests(), c.GetUnmatched().GetRequests()}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestO79_WhatMatches(t *testing.T) {
	m := matchOf(&controlpb.Match{Commands: []string{"rank"}, Programs: []string{"p1"}})
	for name, tc := range map[string]struct {
		match *match
		call  call
		want  bool
	}{
		"a command":                          {m, call{command: "rank"}, true},
		"another":                            {m, call{command: "tag"}, false},
		"a program":                          {m, call{command: "tag", program: "p1"}, true},
		"another program of a named command": {m, call{command: "rank", program: "p2"}, false},
		"a program that isn't named":         {matchOf(&controlpb.Match{Commands: []string{"rank"}}), call{command: "x", program: "p1"}, false},
		"no match: everything":               {nil, call{command: "tag", program: "p9"}, true},
	} {
		if got := tc.match.allows(&tc.call); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestO20_ASessionKeepsItsVersion: within a step each session has one version; as the weight rises it goes over at most
// once; in a rollback and in a trip it goes back.
func TestO20_ASessionKeepsItsVersion(t *testing.T) {
	const sessions = 60
	r := newRig(t, sticking(snapshot(0)), nil)
	servedBy := func(session int) string {
		return r.post("x", "{}", "Workerpool-Session", fmt.Sprintf("user-%d", session)).slot()
	}
	sequence := uint64(0)
	step := func(weight uint32) {
		sequence++
		r.apply(at(sticking(snapshot(weight)), 1, sequence))
	}
	over := map[int]bool{}
	for _, weight := range []uint32{500, 2500, 5000, 9000} {
		step(weight)
		for round := range 3 {
			for session := range sessions {
				got := servedBy(session)
				if over[session] && got != "b" || round > 0 && !over[session] && got != "a" {
					t.Fatalf("weight %d: session %d, the canary's: %v, was served by slot %s", weight, session, over[session], got)
				}
				over[session] = got == "b"
			}
		}
	}
	went := 0
	for _, gone := range over {
		if gone {
			went++
		}
	}
	if went < sessions*3/4 || went == sessions {
		t.Errorf("%d of %d sessions are the canary's at 90 %%", went, sessions)
	}
	before := r.revisionFigures("r2").Requests
	if _, b := r.burst(100); b != 90 || r.revisionFigures("r2").Requests-before != 90 {
		t.Errorf("requests without a session: the canary answered %d of 100, want the exact split", b)
	}
	back := func(when string) {
		t.Helper()
		for session := range sessions {
			if got := servedBy(session); got != "a" {
				t.Errorf("%s session %d was served by slot %s", when, session, got)
			}
		}
	}
	if _, err := r.TripByHand(""); err != nil {
		t.Fatal(err)
	}
	back("after a trip")
	step(0)
	back("after a rollback")
}

func TestO20_WhenASlotIsAway(t *testing.T) {
	r := newRig(t, sticking(snapshot(5000)), nil)
	session := map[string]string{}
	for i := 0; len(session) < 2; i++ {
		name := fmt.Sprint("user-", i)
		session[r.post("x", "{}", "Workerpool-Session", name).slot()] = name
	}
	t.Run("the canary's session is the stable's meanwhile", func(t *testing.T) {
		r.b.Stop()
		r.until(func() bool { return !r.slots["b"].Serving() })
		if a := r.post("x", "{}", "Workerpool-Session", session["b"]); a.slot() != "a" {
			t.Errorf("%d %s", a.code, a.body)
		}
		r.b.Start()
		r.until(func() bool { return r.slots["b"].Ready("r2") })
		if a := r.post("x", "{}", "Workerpool-Session", session["b"]); a.slot() != "b" {
			t.Errorf("once it is back: %d %s", a.code, a.body)
		}
	})
	t.Run("the stable's session waits for it", func(t *testing.T) {
		r.a.Stop()
		r.until(func() bool { return !r.slots["a"].Serving() })
		answered := make(chan *answer)
		go func() { answered <- r.post("x", "{}", "Workerpool-Session", session["a"]) }()
		r.until(func() bool { return r.waiting.Load() == 1 })
		r.a.Start()
		if a := <-answered; a.slot() != "a" {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
}

func TestSessionsDoNotStickByThemselves(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	if _, b := r.burst(100, "Workerpool-Session", "user-1"); b != 50 {
		t.Errorf("the canary answered %d of 100 requests of one session, want 50", b)
	}
}

func TestSessionHeader(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	for name, tc := range map[string]struct {
		value string
		code  int
	}{
		"printable":  {"läuft-42/7:x", 200},
		"256 bytes":  {strings.Repeat("s", 256), 200},
		"257 bytes":  {strings.Repeat("s", 257), 400},
		"a space":    {"a b", 400},
		"no UTF-8":   {"\xff\xfe", 400},
		"not to see": {"a\u200bb", 400},
	} {
		a := r.post("x", "{}", "Workerpool-Session", tc.value)
		if a.code != tc.code || tc.code == 400 && (a.failure.Type != "invalid_id" || len(a.failure.Message) > 300) {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

// TestO79_O20_ARuleThatComesWhileOneWaits: what began before there was a canary, and waits for the stable, obeys the match
// and the stickiness that came with the canary.
func TestO79_O20_ARuleThatComesWhileOneWaits(t *testing.T) {
	stablesOwn := "" // a session
	for i := 0; stablesOwn == ""; i++ {
		if id := fmt.Sprint("user-", i); !split.Sticky(id, "r2", 9000) {
			stablesOwn = id
		}
	}
	for name, with := range map[string]*controlpb.Snapshot{
		"match":      matching(snapshot(9000), []string{"rank"}),
		"stickiness": sticking(snapshot(9000)),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Slots[1].Revision, s.Canary = nil, "" }), nil)
			r.a.Stop()
			r.until(func() bool { return !r.slots["a"].Serving() })
			answered := make(chan *answer, 1)
			go func() { answered <- r.post("tag", "{}", headerSession, stablesOwn) }()
			r.until(func() bool { return r.waiting.Load() == 1 })
			if err := r.Apply(t.Context(), at(with, 1, 1)); err != nil {
				t.Fatal(err)
			}
			r.until(func() bool { return r.slots["b"].Ready("r2") })
			if a := r.post("rank", "{}"); a.slot() != "b" {
				t.Fatalf("the canary takes over for nobody: %d %s", a.code, a.body)
			}
			r.a.Start()
			if a := <-answered; a.slot() != "a" {
				t.Errorf("%d %s, want the stable's reply", a.code, a.body)
			}
		})
	}
}
