package trip

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

// crash reports a counter of crashes, as a slot that runs r2 and serves.
func crash(w *Watch, crashed uint64, at time.Time) {
	w.Slot(Slot{Revision: "r2", Crashed: crashed}, true, at)
}

func reasonAt(w *Watch, at time.Time) Reason {
	reason, _ := w.Verdict(at)
	return reason
}

// TestO27_CrashLoop: the verdict comes with the crash that is one too many for accidents, in slots of every size.
func TestO27_CrashLoop(t *testing.T) {
	for size, allowed := range map[int]uint64{1: 3, 2: 3, 4: 4, 6: 6, 256: 256} {
		w := NewWatch("r2", size)
		crash(w, 0, noon)
		for n := uint64(1); n <= allowed; n++ {
			crash(w, n, after(time.Duration(n)*time.Millisecond))
			if got := reasonAt(w, after(time.Second)); got != "" {
				t.Errorf("size %d: %s after %d crashes", size, got, n)
			}
		}
		crash(w, allowed+1, after(time.Second))
		if got := reasonAt(w, after(time.Second)); got != CrashLoop {
			t.Errorf("size %d: %q after %d crashes, want %s", size, got, allowed+1, CrashLoop)
		}
	}
}

func TestCrashesThatAreNoLoop(t *testing.T) {
	for name, see := range map[string]func(w *Watch){
		"one worker is killed":            func(w *Watch) { crash(w, 1, noon) },
		"all workers are killed at once":  func(w *Watch) { crash(w, 4, noon) },
		"one crash every three seconds":   func(w *Watch) { rare(w) },
		"the slot's counter starts again": func(w *Watch) { crash(w, 900, noon); w.crashes = nil; crash(w, 2, noon) },
		"before the canary is served":     func(w *Watch) { w.Slot(Slot{Revision: "r2", Crashed: 50}, false, noon) },
		"of another revision in the slot": func(w *Watch) { w.Slot(Slot{Revision: "r1", Crashed: 50}, true, noon) },
		"a slot that can't be reached":    func(w *Watch) { w.Slot(Slot{}, true, noon); crash(w, 1, noon) },
		"as many as before, again and again": func(w *Watch) {
			for range 100 {
				crash(w, 2, noon)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWatch("r2", 4)
			crash(w, 0, noon)
			see(w)
			if reason, message := w.Verdict(noon); reason != "" {
				t.Errorf("%s: %s", reason, message)
			}
		})
	}
	t.Run("what was before the watch", func(t *testing.T) {
		w := NewWatch("r2", 4)
		crash(w, 5000, noon)
		if reason := reasonAt(w, noon); reason != "" {
			t.Error(reason)
		}
	})
}

func rare(w *Watch) {
	for n := range uint64(100) {
		at := after(time.Duration(n) * 3 * time.Second)
		crash(w, n, at)
		if reason := reasonAt(w, at); reason != "" {
			panic(reason)
		}
	}
}

func TestStartsFailed(t *testing.T) {
	w := NewWatch("r2", 4)
	failing := Slot{Revision: "r2", Boot: "No module named 'shop'", Starts: 2}
	w.Slot(failing, false, noon)
	if reason := reasonAt(w, noon); reason != "" {
		t.Errorf("%s of a canary that serves nobody", reason)
	}
	w.Slot(failing, true, noon)
	if reason, message := w.Verdict(noon); reason != StartsFailed || !strings.Contains(message, "No module named 'shop'") {
		t.Errorf("%q: %s", reason, message)
	}
	for starts, want := range map[int]Reason{2: "", 4: "", 5: StartsFailed} { // however long that takes
		w.Slot(Slot{Revision: "r2", Boot: "a worker exited soon after it was ready", Starts: starts, Crashing: true}, true, noon)
		if got := reasonAt(w, noon); got != want {
			t.Errorf("%q after %d workers that crashed at once, want %q", got, starts, want)
		}
	}
	crash(w, 0, noon) // they do start
	if reason := reasonAt(w, noon); reason != "" {
		t.Errorf("%s once they start", reason)
	}
}

func TestConsecutiveFailures(t *testing.T) {
	at := func(n int) time.Time { return after(time.Duration(n) * time.Second) }
	fail := func(w *Watch, n int) { w.Failed(at(n), at(n).Add(time.Millisecond), "port_exited") }
	t.Run("in a row", func(t *testing.T) {
		w := NewWatch("r2", 4)
		for n := range failuresInRow {
			if reason := reasonAt(w, at(n)); reason != "" {
				t.Errorf("%s after %d", reason, n)
			}
			fail(w, n)
		}
		if reason, message := w.Verdict(noon); reason != ConsecutiveFailures || !strings.Contains(message, "port_exited") {
			t.Errorf("%q: %s", reason, message)
		}
	})
	t.Run("with an answer between", func(t *testing.T) {
		w := NewWatch("r2", 4)
		for n := range 20 * failuresInRow {
			fail(w, n)
			if n%(failuresInRow-1) == 0 {
				w.Answered()
			}
			if reason := reasonAt(w, at(n)); reason != "" {
				t.Fatalf("%s after failure %d", reason, n)
			}
		}
	})
	t.Run("side by side", func(t *testing.T) {
		w := NewWatch("r2", 64)
		for n := range 64 {
			w.Failed(noon, at(1).Add(time.Duration(n)), "port_exited")
		}
		if reason := reasonAt(w, at(1)); reason != "" {
			t.Errorf("%s, of requests that one event ended", reason)
		}
	})
}

// TestO80_WhatEndsATrip: another token or canary, or a promotion; nothing else.
func TestO80_WhatEndsATrip(t *testing.T) {
	tripped, reported := &Trip{Revision: "r2", Token: "1"}, &Trip{Revision: "r2", Token: "1", ReportOnly: true}
	for name, tc := range map[string]struct {
		trip *Trip
		now  Situation
		want bool
	}{
		"nothing changed":            {tripped, Situation{"r1", "r2", "1", false}, false},
		"the canary is gone":         {tripped, Situation{"r1", "", "1", false}, false},
		"only reporting from now":    {tripped, Situation{"r1", "r2", "1", true}, false},
		"another token":              {tripped, Situation{"r1", "r2", "2", false}, true},
		"another token, no canary":   {tripped, Situation{"r1", "", "2", false}, true},
		"another canary":             {tripped, Situation{"r1", "r3", "1", false}, true},
		"promoted":                   {tripped, Situation{"r2", "", "1", false}, true},
		"reported, as before":        {reported, Situation{"r1", "r2", "1", true}, false},
		"reported, and acted on now": {reported, Situation{"r1", "r2", "1", false}, true},
	} {
		if got := tc.trip.Over(tc.now); got != tc.want {
			t.Errorf("%s: over is %v", name, got)
		}
	}
	if !tripped.Stops("r2") || tripped.Stops("r3") || reported.Stops("r2") || (*Trip)(nil).Stops("r2") || !reported.Against("r2") {
		t.Error("a trip stops its own revision, and none when it is only reported")
	}
}
