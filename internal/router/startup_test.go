package router

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

func TestHowLongAPodWithoutWorkersMayTake(t *testing.T) {
	begun := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for want, s := range map[string]*pool.Startup{
		"it has no workers yet": nil,
		"it has no workers yet: they have been starting since 2026-01-02T12:00:00Z, for 5m0s at most (spec.timeouts.start)": {Since: begun, Limit: 5 * time.Minute},
	} {
		if got := noWorkersYet(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What a slot says of its starts is in the pod's status at once, and in the operator's report once one lasts for long, so
// that it isn't news each second. What workers print stays in the pod.
func TestHowStartsGetOn(t *testing.T) {
	r := newRig(t, snapshot(0), nil)
	long, short := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		slot   pool.Startup
		report string
	}{
		"just begun": {pool.Startup{Since: short, Limit: time.Minute, Line: "loaded"}, ""},
		"for long":   {pool.Startup{Since: long, Limit: time.Minute, Line: "loaded"}, "limit_ms:60000"},
		"few at a time": {
			pool.Startup{Since: short, Limit: time.Minute, Pace: "8 starts at once took longer than 1m0s: starting 4 at a time"}, "starting 4 at a time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.a.StartUp(&tc.slot)
			r.until(func() bool {
				s := r.slots["a"].State().Status.Startup
				return s != nil && s.Since.Equal(tc.slot.Since) && s.Pace == tc.slot.Pace
			})
			s := read[Status](t, r.do(200, "GET", "/v1/status", "")).Slots[0].Startup
			if s == nil || !s.Since.Equal(tc.slot.Since) || s.LimitMS != 60_000 || s.Line != tc.slot.Line || s.Pace != tc.slot.Pace {
				t.Errorf("the status of the slot: %+v", s)
			}
			got := strings.ReplaceAll(r.Report().Slots[0].GetStartup().String(), "  ", " ") // protobuf varies its spaces
			if !strings.Contains(got, tc.report) || (tc.report == "") != (got == "<nil>" || got == "") || strings.Contains(got, "loaded") {
				t.Errorf("the report of the slot: %q, want %q in it", got, tc.report)
			}
		})
	}
}
