package broken

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// sharing are faults in how workers serve several requests at the same time.
var sharing = []Pool{
	{
		Fault: "one place less than there are", Version: pool.V2, Test: "TestP107_RequestsOfOneWorkerAtOnce",
		Says: "one of 8 that wait for each other", Limit: time.Second,
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Concurrency-- }} },
	},
	{
		Fault: "places don't count in the queue", Version: pool.V2, Test: "TestP107_OneMoreThanPlacesWaits",
		Says: "six running and one waiting", Limit: time.Second,
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.QueueLimit -= 4 }} },
	},
	{
		Fault: "a caller that leaves costs its neighbours their worker", Version: pool.V2, Test: "TestP107_CancellingOneDisturbsNoOther",
		Says: "finally block of the handler", Limit: time.Second,
		make: func() fault {
			return afterGivingUp(func(w crew.Worker, _ *worker.Outcome) { w.Kill(worker.ReasonCancelled) })
		},
	},
	{
		Fault: "a place is free before its task has ended", Version: pool.V2, Test: "TestP107_LateAnswersReachNobody", Says: "among late answers",
		make: func() fault {
			return afterGivingUp(func(_ crew.Worker, out *worker.Outcome) { out.Held = nil })
		},
	},
	{
		Fault: "whoever gives up has the worker replaced", Version: pool.V2, Test: "TestP107_CancellingOneDisturbsNoOther",
		Says: "echo: timeout_error/checkout_timeout", Limit: time.Second,
		make: func() fault {
			return afterGivingUp(func(_ crew.Worker, out *worker.Outcome) {
				held := out.Held
				out.Held = func(done func(worker.Reason)) { held(func(worker.Reason) { done(worker.ReasonTimeout) }) }
			})
		},
	},
	{
		Fault: "a quarantined worker is ended at once", Version: pool.V2, Test: "TestP107_TaskPastItsGraceQuarantines",
		Says: "waited", Or: "a request that was let go: ", Limit: 3 * time.Second,
		make: func() fault {
			return afterGivingUp(func(w crew.Worker, out *worker.Outcome) {
				held := out.Held
				out.Held = func(done func(worker.Reason)) {
					held(func(r worker.Reason) {
						done(r)
						w.Kill(r)
					})
				}
			})
		},
	},
	{
		Fault: "shared workers serve twice what they may", Version: pool.V2, Test: "TestP85_NeverOneMoreOfSeveral", Says: "want none above 10",
		make: func() fault { return fault{limits: func(l *pool.Limits) { l.Recycle.MaxRequests *= 2 }} },
	},
	{
		Fault: "a pause of shared workers holds nothing", Version: pool.V2, Test: "TestP100_PauseOfSharedWorkersHolds", Says: "waited", Limit: time.Second,
		make: func() fault {
			return fault{pause: func(context.Context, pool.Pool) error { return nil }}
		},
	},
}

// afterGivingUp changes how calls end whose callers gave up before their answers.
func afterGivingUp(change func(crew.Worker, *worker.Outcome)) fault {
	return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
		out := w.RoundTrip(ctx, c)
		if out.Held != nil {
			change(w, &out)
		}
		return out
	}}
}
