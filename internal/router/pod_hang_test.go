package router

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// TestAHangingSlotIsNoticedAndItsRequestsGoElsewhere stops a slot's supervisor and lets it go on, first the canary's, then
// the stable's.
func TestAHangingSlotIsNoticedAndItsRequestsGoElsewhere(t *testing.T) {
	p := newPod(t, changed(samples(5000), func(s *controlpb.Snapshot) { s.Limits.CheckoutMs, s.Limits.OperationMs = 20_000, 20_000 }))
	for _, tc := range []struct{ slot, other string }{{"b", "v1"}, {"a", "v2"}} {
		if err := p.procs[tc.slot].Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		p.until(func() bool { return !p.slot(tc.slot).Reachable })
		if problem := p.slot(tc.slot).Problem; !strings.Contains(problem, "nothing") {
			t.Errorf("slot %s: problem %q", tc.slot, problem)
		}
		for i := range 20 {
			if a := p.post("echo", fmt.Sprintf(`{"text": "%d"}`, i)); a.code != http.StatusOK || a.header.Get("Workerpool-Version") != tc.other {
				t.Errorf("request %d while slot %s hangs: %d %s by %s", i, tc.slot, a.code, a.body, a.header.Get("Workerpool-Version"))
			}
		}
		if err := p.procs[tc.slot].Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		p.until(func() bool { s := p.slot(tc.slot); return s.Reachable && s.Ready == 2 })
	}
	by := map[string]int{}
	for range 20 {
		by[p.post("echo", `{"text": "x"}`).header.Get("Workerpool-Version")]++
	}
	if by["v1"] == 0 || by["v2"] == 0 {
		t.Errorf("afterwards requests are served by %v", by)
	}
}
