package broken

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// figures are faults in what Stats tells.
var figures = []Pool{
	{
		Fault: "a counter never moves", Version: pool.V1, Test: "TestP94_P97_CountersMove", Says: "Shed is 0, want 1",
		make: func() fault { return telling(func(s *pool.Stats) { s.Shed = 0 }) },
	},
	{
		Fault: "timeouts are counted twice", Version: pool.V2, Test: "TestP94_P97_CountersMove", Says: "Timeouts is 2, want 1",
		make: func() fault { return telling(func(s *pool.Stats) { s.Timeouts *= 2 }) },
	},
	{
		Fault: "histograms are missing", Version: pool.V2, Test: "TestP94_P97_CountersMove", Says: "nil pointer",
		make: func() fault { return telling(func(s *pool.Stats) { s.Wait, s.Service, s.Start = nil, nil, nil }) },
	},
	{
		Fault: "the reasons of exits are missing", Version: pool.V1, Test: "TestP94_P97_CountersMove", Says: "Exits[timeout] is 0",
		make: func() fault { return telling(func(s *pool.Stats) { s.Exits = nil }) },
	},
	{
		Fault: "workers that are being replaced are busy and starting", Version: pool.V2, Test: "TestP93_FiguresAddUp", Says: "isn't spawned",
		make: func() fault { return telling(func(s *pool.Stats) { s.Busy += s.Starting }) },
	},
	{
		Fault: "a failure to start isn't told", Version: pool.V1, Test: "TestP8_DeterministicBootFailure", Says: "boot failure reported",
		Limit: time.Second,
		make:  func() fault { return telling(func(s *pool.Stats) { s.Boot = nil }) },
	},
	{
		Fault: "why no worker starts isn't told", Version: pool.V2, Test: "TestP6_BadInterpreter", Says: "doesn't name the interpreter",
		make: func() fault {
			return telling(func(s *pool.Stats) {
				if s.Boot != nil {
					s.Boot = &pool.BootFailure{Reason: s.Boot.Reason, Message: "no worker starts"}
				}
			})
		},
	},
	{
		Fault: "operations hold the lock of the figures", Version: pool.V2, Test: "TestP16_StalledOperationDelaysNobody",
		Says: "beside a stalled operation",
		make: lockedFigures,
	},
	{
		Fault: "overflow is accepted and ignored", Version: pool.V2, Test: "TestP14_OverflowComesAndGoes", Says: "two extra workers under load",
		Limit: time.Second,
		make:  func() fault { return fault{limits: func(l *pool.Limits) { l.Overflow = 0 }} },
	},
	{
		Fault: "overflow is never retired", Version: pool.V2, Test: "TestP14_OverflowComesAndGoes", Says: "extra workers retired when idle",
		Limit: 6500 * time.Millisecond,
		make: func() fault {
			return fault{
				limits: func(l *pool.Limits) { l.Size, l.Overflow = l.Size+l.Overflow, 0 },
				stats: func(s *pool.Stats) {
					s.Overflow = max(0, s.Busy+s.Ready+s.Starting-1)
				},
			}
		},
	},
}

func telling(wrong func(*pool.Stats)) fault { return fault{stats: wrong} }

// lockedFigures makes Stats wait for the operations that run, though not for ever.
func lockedFigures() fault {
	var running atomic.Int64
	return fault{
		do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
			running.Add(1)
			defer running.Add(-1)
			return right.Do(ctx, req)
		},
		stats: func(*pool.Stats) {
			for until := time.Now().Add(15 * time.Millisecond); running.Load() > 0 && time.Now().Before(until); {
				time.Sleep(time.Millisecond)
			}
		},
	}
}
