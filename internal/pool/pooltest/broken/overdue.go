package broken

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// overdue are faults in what becomes of operations that don't end by themselves.
var overdue = []Pool{
	{
		Fault: "a hung worker is killed without a word", Version: pool.V1, Test: "TestP30_EachStepHasItsTime", Says: "SIGINT at 0.000",
		make: func() fault {
			return afterTimeout(func(w crew.Worker, _ worker.Outcome) { w.Kill(worker.ReasonTimeout) })
		},
	},
	{
		Fault: "a timeout doesn't tell where the handler was", Version: pool.V2, Test: "TestP30_StackOfASleep", Says: "the stack of nap lacks",
		make: func() fault {
			return afterTimeout(func(_ crew.Worker, out worker.Outcome) { delete(out.Err.Context, "stack") })
		},
	},
	{
		Fault: "errors wait for a stack that doesn't come", Version: pool.V1, Test: "TestP28_StackTakesNoLongerThanItsBound", Says: "freeze: the error came after",
		make: func() fault {
			return afterTimeout(func(crew.Worker, worker.Outcome) { time.Sleep(time.Second) })
		},
	},
}

// afterTimeout changes what becomes of an operation that ran out of time.
func afterTimeout(change func(crew.Worker, worker.Outcome)) fault {
	return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
		out := w.RoundTrip(ctx, c)
		if out.Discard == worker.ReasonTimeout {
			change(w, out)
		}
		return out
	}}
}
