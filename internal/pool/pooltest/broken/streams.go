package broken

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// streams are faults in results that come item by item.
var streams = []Pool{
	{
		Fault: "a stream is taken whatever its reader does", Version: pool.V1, Test: "TestP109_SlowReaderHoldsTheHandlerBack",
		Says: "items were made for a reader that had taken two",
		make: func() fault { return fault{do: buffering} },
	},
	{
		Fault: "a place is given back at the first item", Version: pool.V2, Test: "TestP109_PlaceIsHeldForASlowReader",
		Says: "waited 1s for: a request that waits for a slow reader", Limit: time.Second,
		make: func() fault { return fault{do: buffering} },
	},
	{
		Fault: "readers get each other's items", Version: pool.V2, Test: "TestP109_ItemsInOrder", Says: "item 1 of items is 0",
		make: func() fault {
			last := []byte("0")
			return reading(func(take pool.Stream, ctx context.Context, chunk []byte) error {
				last, chunk = bytes.Clone(chunk), last
				return take(ctx, chunk)
			})
		},
	},
	{
		Fault: "an item is lost now and then", Version: pool.V1, Test: "TestP109_ItemsInOrder", Says: "item 500 of items is 501",
		make: func() fault {
			return reading(func(take pool.Stream, ctx context.Context, chunk []byte) error {
				if string(chunk) == "500" {
					return nil
				}
				return take(ctx, chunk)
			})
		},
	},
	{
		Fault: "a stream is never too long", Version: pool.V2, Test: "TestP109_TotalDeadline", Says: pooltest.Hangs,
		Limit: time.Second,
		make: func() fault {
			return changing(func(req *pool.Request) { req.Deadline = time.Time{} })
		},
	},
	{
		Fault: "a worker may be silent in a stream", Version: pool.V1, Test: "TestP109_IdleDeadline", Says: pooltest.Hangs, Limit: 2 * time.Second,
		make: func() fault { return changing(func(req *pool.Request) { req.Idle = 0 }) },
	},
	{
		Fault: "a slow reader is taken for a silent worker", Version: pool.V2, Test: "TestP109_IdleDeadline", Says: "a slow reader's stream ended with",
		make: func() fault {
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				take := req.Stream
				req.Stream = func(ctx context.Context, chunk []byte) error {
					start := time.Now()
					if err := take(ctx, chunk); err != nil {
						return err
					}
					if time.Since(start) > req.Idle {
						return errors.New("too slow")
					}
					return nil
				}
				if req.Idle == 0 {
					req.Stream = take
				}
				return right.Do(ctx, req)
			}}
		},
	},
	{
		Fault: "a reader's error is nobody's business", Version: pool.V2, Test: "TestP109_CancelClosesTheGenerator", Says: "the reader has an error: sent true",
		Limit: 2 * time.Second,
		make: func() fault {
			return reading(func(take pool.Stream, ctx context.Context, chunk []byte) error {
				_ = take(ctx, chunk)
				return nil
			})
		},
	},
	{
		Fault: "a stream that broke is begun again", Version: pool.V2, Test: "TestP109_NoSecondTryAfterItems", Says: "want true, and each of 20 once",
		Limit: 5 * time.Second,
		make: func() fault {
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				reply, err := right.Do(ctx, req)
				if req.Stream == nil || err == nil {
					return reply, err
				}
				req.Stream = func(context.Context, []byte) error { return errors.New("once is enough") }
				_, _ = right.Do(ctx, req)
				return reply, err
			}}
		},
	},
	{
		Fault: "an error after items is an end like any other", Version: pool.V1, Test: "TestP109_ErrorAfterItems",
		Says: "succeeded; want communication_error/python_error",
		make: func() fault { return answering(func(r pool.Reply, _ error) (pool.Reply, error) { return r, nil }) },
	},
	{
		Fault: "a slow reader stops the reader of its worker", Version: pool.V2, Test: "TestP109_SlowReaderBlocksNoOtherOfItsWorker",
		Says: "echo: timeout_error/command_timeout", Limit: time.Second,
		make: func() fault {
			one := make(chan struct{}, 1)
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				select {
				case one <- struct{}{}:
					defer func() { <-one }()
					return w.RoundTrip(ctx, c)
				case <-time.After(time.Until(c.Deadline)):
					return worker.Outcome{Err: pool.NewTaskTimeout("tested", w.ID(), c.Command, time.Second)}
				}
			}}
		},
	},
}

// changing changes what a worker is asked.
func changing(change func(*pool.Request)) fault {
	return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
		change(&req)
		return right.Do(ctx, req)
	}}
}

// reading changes how items are taken.
func reading(change func(take pool.Stream, ctx context.Context, chunk []byte) error) fault {
	return changing(func(req *pool.Request) {
		if take := req.Stream; take != nil {
			req.Stream = func(ctx context.Context, chunk []byte) error { return change(take, ctx, chunk) }
		}
	})
}

// buffering takes all items as fast as they come, and hands them over when their worker is free again.
func buffering(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
	take := req.Stream
	if take == nil {
		return right.Do(ctx, req)
	}
	var items [][]byte
	req.Stream = func(_ context.Context, chunk []byte) error {
		items = append(items, bytes.Clone(chunk))
		return nil
	}
	reply, err := right.Do(ctx, req)
	for _, item := range items {
		_ = take(ctx, item)
	}
	return reply, err
}
