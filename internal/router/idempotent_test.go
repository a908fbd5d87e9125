package router

import (
	"context"
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestP52_TheSlotIsToldWhatMayRunTwice(t *testing.T) {
	r := newRig(t, snapshot(0), map[string]slottest.Handler{"echo": slottest.Echo})
	r.post("echo", "{}", "Workerpool-Idempotent", "true")
	r.post("echo", "{}")
	calls := r.a.Calls()
	if len(calls) != 2 || !calls[0].Idempotent || calls[1].Idempotent {
		t.Errorf("the slot was told %+v; want the first marked alone", calls)
	}
}

// TestP53_AnOpenBreakerCostsTheCanaryNothing: what the canary's breaker refuses goes to the stable, counts as shed, and
// says nothing to the trip, either way.
func TestP53_AnOpenBreakerCostsTheCanaryNothing(t *testing.T) {
	refuse := func(_ context.Context, call slottest.Call) (string, error) {
		if call.Revision == "r2" {
			return "", pool.NewBreakerOpen("p", 1)
		}
		return "1", nil
	}
	r := newRig(t, snapshot(5000), map[string]slottest.Handler{"work": refuse})
	for range 40 {
		if a := r.post("work", "{}"); a.code != 200 || a.header.Get("Workerpool-Revision") != "r1" {
			t.Fatalf("%d %s by %s; want the stable's answer", a.code, a.body, a.header.Get("Workerpool-Revision"))
		}
	}
	canary := r.revisionFigures("r2")
	if canary.Infrastructure != 0 || canary.Shed != 20 || canary.Requests != 20 {
		t.Errorf("the canary's figures: %+v; want 20 requests, all shed", canary)
	}
	if st := r.status(); st.Trip != nil {
		t.Errorf("tripped: %+v", st.Trip)
	}
}
