package broken

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
)

// requests are faults in what a caller asks and gets.
var requests = []Pool{
	{
		Fault: "errors are swallowed", Version: pool.V1, Test: "TestP44_PythonExceptionKeepsWorker",
		Says: "succeeded; want communication_error/python_error",
		make: func() fault {
			return answering(func(r pool.Reply, err error) (pool.Reply, error) {
				if err != nil {
					r.Payload = []byte("null")
				}
				return r, nil
			})
		},
	},
	{
		Fault: "the wrong category", Version: pool.V2, Test: "TestP23_CheckoutTimeout", Says: "want timeout_error/checkout_timeout",
		make: func() fault {
			return failing(func(e *pool.Error) error { e.Category = pool.ResourceError; return e })
		},
	},
	{
		Fault: "an error without context", Version: pool.V1, Test: "TestP45_FourPartsAlways", Says: "one of the four parts is missing",
		make: func() fault { return failing(func(e *pool.Error) error { e.Context = nil; return e }) },
	},
	{
		Fault: "an error of another type", Version: pool.V2, Test: "TestP45_FourPartsAlways", Says: "not a *pool.Error",
		make: func() fault { return failing(func(e *pool.Error) error { return fmt.Errorf("pool: %w", e) }) },
	},
	{
		Fault: "a text of its own", Version: pool.V2, Test: "TestP49_SameTexts", Says: "want request_error/unknown_command: Unknown command: nothing",
		make: func() fault { return failing(func(e *pool.Error) error { e.Message = "v2: " + e.Message; return e }) },
	},
	{
		Fault: "an unknown command is the handler's failure", Version: pool.V1, Test: "TestP47_UnknownCommand", Says: "want request_error/unknown_command",
		make: func() fault {
			return failing(func(e *pool.Error) error { e.Category, e.Type = pool.CommunicationError, pool.PythonError; return e })
		},
	},
	{
		Fault: "how a worker ended is forgotten", Version: pool.V2, Test: "TestP77_EndsAreDistinguishable", Says: "want exit_status 5",
		make: func() fault {
			return failing(func(e *pool.Error) error { delete(e.Context, "exit_status"); return e })
		},
	},
	{
		Fault: "which signal ended a worker is forgotten", Version: pool.V1, Test: "TestP73_KilledWhileBusy", Says: "want signal SIGKILL",
		make: func() fault {
			return failing(func(e *pool.Error) error { delete(e.Context, "signal"); return e })
		},
	},
	{
		Fault: "payloads are cleaned", Version: pool.V2, Test: "TestP43_FuzzedEcho", Says: "echo (-want +got)",
		make: func() fault {
			return answering(func(r pool.Reply, err error) (pool.Reply, error) {
				r.Payload = bytes.ReplaceAll(r.Payload, []byte(`\u0000`), nil)
				return r, err
			})
		},
	},
	{
		Fault: "a handler isn't told its caller's deadline", Version: pool.V2, Test: "TestP110_HandlerSeesItsDeadline",
		Says: "the handler of a request with 30 s sees",
		make: func() fault {
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				req.Deadline = time.Time{}
				return right.Do(ctx, req)
			}}
		},
	},
	{
		Fault: "a batch's outputs change places", Version: pool.V1, Test: "TestP112_BatchAnswersInOrder", Says: "output 0 is",
		make: func() fault {
			return answering(func(r pool.Reply, err error) (pool.Reply, error) {
				r.Payload = bytes.ReplaceAll(r.Payload, []byte(`"result":1}`), []byte(`"result":4}`))
				return r, err
			})
		},
	},
	{
		Fault: "an expired request is executed", Version: pool.V1, Test: "TestP26_PastDeadlineIsNotExecuted",
		Says: "succeeded; want timeout_error/deadline_exceeded",
		make: func() fault {
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				if req.Deadline.Before(time.Now()) {
					req.Deadline = time.Time{}
				}
				return right.Do(ctx, req)
			}}
		},
	},
	{
		Fault: "who has gone still waits", Version: pool.V2, Test: "TestP83_CallerGoneBeforeHandOver", Says: "queued 1; want false, 0",
		make: func() fault { return fault{do: abandoning} },
	},
	{
		Fault: "what was sent is sent again", Version: pool.V1, Test: "TestP52_NeverSentTwice", Says: "want true, once",
		make: func() fault {
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				if reply, err := right.Do(ctx, req); err == nil {
					return reply, nil
				}
				return right.Do(ctx, req)
			}}
		},
	},
	{
		Fault: "callers get each other's replies", Version: pool.V2, Test: "TestP48_HalfFail", Says: "echo",
		make: mixing,
	},
	{
		Fault: "a broken pool keeps its callers waiting", Version: pool.V1, Test: "TestP6_BadModule", Says: "refused after",
		make: func() fault {
			return failing(func(e *pool.Error) error {
				if e.Type == pool.NotAvailable {
					time.Sleep(2100 * time.Millisecond)
				}
				return e
			})
		},
	},
	{
		Fault: "V2 is serial", Version: pool.V2, Test: "TestP14_Parallel", Says: "4 sleeps of 1000 ms on 4 workers took",
		make: func() fault {
			var one sync.Mutex
			return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
				one.Lock()
				defer one.Unlock()
				return right.Do(ctx, req)
			}}
		},
	},
}

// answering changes how operations end.
func answering(change func(pool.Reply, error) (pool.Reply, error)) fault {
	return fault{do: func(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
		return change(right.Do(ctx, req))
	}}
}

// failing changes failures.
func failing(change func(*pool.Error) error) fault {
	return answering(func(r pool.Reply, err error) (pool.Reply, error) {
		if e, ok := err.(*pool.Error); ok { //nolint:errorlint // the contract: Do returns a *pool.Error itself
			return r, change(e)
		}
		return r, err
	})
}

// abandoning tells a caller that it has given up, and nobody else.
func abandoning(ctx context.Context, right pool.Pool, req pool.Request) (pool.Reply, error) {
	type end struct {
		reply pool.Reply
		err   error
	}
	ended := make(chan end, 1)
	go func() {
		reply, err := right.Do(context.WithoutCancel(ctx), req)
		ended <- end{reply, err}
	}()
	select {
	case e := <-ended:
		return e.reply, e.err
	case <-ctx.Done():
		return pool.Reply{}, pool.NewCancelled("tested")
	}
}

// mixing gives each caller the reply of the one before.
func mixing() fault {
	var mu sync.Mutex
	last := pool.Reply{Payload: []byte("null")}
	return answering(func(r pool.Reply, err error) (pool.Reply, error) {
		if err != nil {
			return r, err
		}
		mu.Lock()
		defer mu.Unlock()
		last, r = r, last
		return r, nil
	})
}
