package router

import (
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

func TestP89_ResetByHandReachesTheSlots(t *testing.T) {
	r := newRig(t, snapshot(5000), nil)
	for _, tc := range []struct {
		name, fails string
		a, b        int // resets after it
	}{
		{"", "", 1, 1},
		{"b", "", 1, 2},
		{"c", `there is no slot "c"; name a or b`, 1, 2},
	} {
		answer, err := r.ResetByHand(tc.name)
		if (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("reset of %q: %+v, %v; want %q", tc.name, answer, err, tc.fails)
		}
		r.until(func() bool { return r.a.Resets() == tc.a && r.b.Resets() == tc.b })
	}
	alone := newRig(t, changed(snapshot(0), func(s *controlpb.Snapshot) { s.Canary, s.Slots[1].Revision = "", nil }), nil)
	if _, err := alone.ResetByHand("b"); err == nil || !strings.Contains(err.Error(), "slot b is idle") {
		t.Errorf("reset of an idle slot: %v", err)
	}
}

// TestP89_PooldCtlReset: real workers are replaced while requests go on.
func TestP89_PooldCtlReset(t *testing.T) {
	p := newPod(t, samples(0))
	before := p.slot("a").Workers
	if code, out := p.ctl("reset", "--slot", "a"); code != 0 || !strings.Contains(out, "slot a) are replaced") {
		t.Fatalf("exit code %d: %s", code, out)
	}
	p.until(func() bool {
		if a := p.post("pid", "{}"); a.code != 200 {
			t.Errorf("a request failed for a reset: %d %s", a.code, a.body)
		}
		s := p.slot("a")
		return s.Destroyed == uint64(len(before)) && s.Ready == len(before)
	})
	if code, out := p.ctl("reset", "--slot", "x"); code != 1 || !strings.Contains(out, "name a or b") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
