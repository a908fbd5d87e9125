package main

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/router"
	"github.com/dspex/workerpool-operator/internal/router/trip"
)

// TestWhatCtlPrints: what was done, and the way back.
func TestWhatCtlPrints(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	a := router.TripAnswer{
		Pool:   "summarizer",
		Canary: router.ServedBy{Slot: "b", Version: "v2", Revision: "7c9f"}, Stable: router.ServedBy{Slot: "a", Version: "v1", Revision: "5a1d"},
		Before: 12.5, Trip: router.TripStatus{Reason: trip.CrashLoop, Message: "workers crashed 5 times within 1s", At: noon},
	}
	const wayBack = "\nThat holds, also when the router restarts, until the WorkerPool gets another retry token:\n" +
		"  kubectl annotate workerpool summarizer pool.dspex.dev/retry=\"$(date +%s)\" --overwrite\n"
	want := "pool summarizer: v2 (revision 7c9f, slot b) goes from 12.5 % to 0 % of this pod's requests; " +
		"v1 (revision 5a1d, slot a) serves them." + wayBack
	if got := tripText(&a); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	a.Already = true
	want = "pool summarizer: v2 (revision 7c9f, slot b) gets nothing in this pod already, since 2026-01-02T12:00:00Z: " +
		"CrashLoop (workers crashed 5 times within 1s)." + wayBack
	if got := tripText(&a); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	a.Unkept = "keep the trip in /state: no space left on device"
	if got := tripText(&a); !strings.Contains(got, "isn't on disk (keep the trip in /state: no space left on device): a restart of the router ends it.") ||
		strings.Contains(got, "also when the router restarts") || !strings.Contains(got, "kubectl annotate") {
		t.Errorf("of a trip that isn't kept:\n%s", got)
	}
	reset := router.ResetAnswer{Pool: "summarizer", Slots: []router.ServedBy{a.Canary}}
	want = "pool summarizer: the workers of v2 (revision 7c9f, slot b) are replaced, one after the other; no request fails for it.\n"
	if got := resetText(&reset); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	status := router.Status{
		Pool: "summarizer", Configured: true, Epoch: 7, Sequence: 3, Stable: "a", Canary: "b", GivenWeight: 25,
		Slots: []router.SlotStatus{
			{Name: "a", Reachable: true, Revision: "5a1d", Version: "v1", Desired: 4, Ready: 3, Busy: 1},
			{Name: "b", Problem: "it has not been reached yet"},
			{
				Name: "c", Reachable: true, Revision: "7c9f", Version: "v2", Desired: 8, Ready: 2, Boot: "no module named shop",
				Startup: &router.StartupStatus{Since: noon, LimitMS: 300_000, Line: "loaded 20 s", Pace: "8 starts at once took longer than 5m0s: starting 4 at a time"},
			},
		},
		Trip: &router.TripStatus{Revision: "7c9f", Reason: trip.ByHand, Message: "poold ctl trip: wrong answers", At: noon},
	}
	want = `pool summarizer, operator not connected, epoch 7, sequence 3
slot a  stable                        v1, revision 5a1d: 4 of 4 workers serve, 0 crashed
slot b  canary, 0 % in place of 25 %  not reachable: it has not been reached yet
slot c  idle                          v2, revision 7c9f: 2 of 8 workers serve, 0 crashed; starts fail: no module named shop; starting since 2026-01-02T12:00:00Z, for 5m0s at most (spec.timeouts.start); 8 starts at once took longer than 5m0s: starting 4 at a time; last line: loaded 20 s
7c9f tripped at 2026-01-02T12:00:00Z: ByHand, poold ctl trip: wrong answers
`
	if got := statusText(&status); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
