package worker

import (
	"testing"
	"time"
)

// TestP102_ForksThatWereGivenUpAreTriedRarely has forks fail, and says after each step what is told and when the next try may be.
func TestP102_ForksThatWereGivenUpAreTriedRarely(t *testing.T) {
	start := time.Unix(1000, 0)
	dies, hangs, lacks := &forkError{message: "dies"}, &forkError{message: "hangs", hung: true}, &forkError{message: "no memory", lives: true}
	for name, tc := range map[string]struct {
		failures []*forkError
		then     func(*zygoteRecord)
		reason   string
		wait     time.Duration
	}{
		"nothing":                  {nil, nil, "", 0},
		"two deaths":               {[]*forkError{dies, dies}, nil, "", 0},
		"a third":                  {[]*forkError{dies, lacks, dies}, nil, "dies", forkRetry},
		"one that hangs":           {[]*forkError{hangs}, nil, "hangs", forkRetry},
		"a fork between":           {[]*forkError{dies, dies, nil, dies, dies}, nil, "", 0},
		"its end, which follows":   {[]*forkError{hangs}, func(r *zygoteRecord) { r.died(start, start) }, "hangs", forkRetry},
		"a try that fails again":   {[]*forkError{hangs, dies}, nil, "dies", forkRetry},
		"a try without a fork":     {[]*forkError{hangs}, func(r *zygoteRecord) { r.died(start, start.Add(time.Hour)) }, "hangs", time.Hour + forkRetry},
		"a try that works":         {[]*forkError{hangs, nil}, func(r *zygoteRecord) { r.notBefore = start }, "", 0},
		"what stands against them": {nil, func(r *zygoteRecord) { r.refused = "a thread" }, "a thread", 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			var r zygoteRecord
			for _, e := range tc.failures {
				switch {
				case e == nil:
					r.forked()
				case !r.failed(e):
					r.giveUp(e.Error(), start)
				}
			}
			if tc.then != nil {
				tc.then(&r)
			}
			if r.reason() != tc.reason {
				t.Errorf("it tells %q; want %q", r.reason(), tc.reason)
			}
			if at := start.Add(tc.wait); (tc.wait > 0 && r.mayStart(at.Add(-1))) || (r.refused == "" && !r.mayStart(at)) {
				t.Errorf("another zygote may start at %v; want %v after the start", r.notBefore, tc.wait)
			}
		})
	}
}
