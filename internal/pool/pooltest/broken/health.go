package broken

import (
	"context"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// health are faults in what is made of workers that don't answer.
var health = []Pool{
	{
		Fault: "healthy is whoever has processes", Version: pool.V1, Test: "TestP95_AllWorkersStoppedWhileIdle", Says: "for: unhealthy",
		Limit: 4 * time.Second,
		make:  func() fault { return fault{stats: func(s *pool.Stats) { s.Unhealthy = nil }} },
	},
	{
		Fault: "idle workers aren't asked", Version: pool.V2, Test: "TestP95_OneOfTwoStopped", Says: "the hung one ended", Limit: 4 * time.Second,
		make: func() fault {
			return fault{launch: pinging(func(crew.Worker, context.Context, time.Time) worker.Reason { return "" })}
		},
	},
	{
		Fault: "a worker out of time says nothing of its pool", Version: pool.V2, Test: "TestP95_AllWorkersStoppedWhileBusy", Says: "for: unhealthy",
		Limit: 4 * time.Second,
		make:  func() fault { return fault{launch: unpunctual} },
	},
	{
		Fault: "one hung worker makes a pool unhealthy", Version: pool.V2, Test: "TestP95_OneOfTwoStopped", Says: "unhealthy without a reason",
		make: func() fault {
			return fault{stats: func(s *pool.Stats) {
				if s.Exits["hung"] > 0 {
					s.Unhealthy = pool.NewUnhealthy(1, time.Now())
				}
			}}
		},
	},
	{
		Fault: "workers that are busy for long are unhealthy", Version: pool.V1, Test: "TestP96_BusyWorkersAreHealthy", Says: "unhealthy without a reason",
		make: func() fault {
			return fault{stats: func(s *pool.Stats) {
				if s.Busy > 0 && s.Ready == 0 {
					s.Unhealthy = pool.NewUnhealthy(1, time.Now())
				}
			}}
		},
	},
	{
		Fault: "a ping counts as a request", Version: pool.V1, Test: "TestP96_PingsAreNoRequests", Says: "counts",
		make: func() fault {
			return fault{launch: pinging(func(w crew.Worker, ctx context.Context, deadline time.Time) worker.Reason {
				return w.RoundTrip(ctx, worker.Call{Command: "pid", Payload: []byte("{}"), Deadline: deadline}).Discard
			})}
		},
	},
}

// pinging makes workers that are asked in another way whether they still answer.
func pinging(ping func(crew.Worker, context.Context, time.Time) worker.Reason) func(crew.Launch) crew.Launch {
	return func(launch crew.Launch) crew.Launch {
		return func() (crew.Worker, error) {
			w, err := launch()
			if err != nil {
				return nil, err
			}
			return pinger{w, ping}, nil
		}
	}
}

type pinger struct {
	crew.Worker
	ping func(crew.Worker, context.Context, time.Time) worker.Reason
}

func (p pinger) Ping(ctx context.Context, deadline time.Time) worker.Reason {
	return p.ping(p.Worker, ctx, deadline)
}

// unpunctual makes workers that say of an end for a timeout that they were retired.
func unpunctual(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		return untimely{w}, nil
	}
}

type untimely struct{ crew.Worker }

func (u untimely) Ending() (worker.Reason, bool) {
	r, asked := u.Worker.Ending()
	if r == worker.ReasonTimeout {
		r = worker.ReasonRetired
	}
	return r, asked
}
