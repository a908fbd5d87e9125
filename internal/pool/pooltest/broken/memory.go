package broken

import (
	"bytes"
	"context"
	"sync"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/crew"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
)

// memory are faults in what is done with large payloads.
var memory = []Pool{
	{
		Fault: "a reply is read from another worker's memory", Version: pool.V2, Test: "TestP113_PayloadsOfManyCallersNeverCross",
		Says: "bytes: ", make: func() fault { return fault{trip: crossing()} },
	},
	{
		Fault: "a reply isn't copied out of memory", Version: pool.V1, Test: "TestP113_RepliesAreTheirCallersToKeep",
		Says: "has changed with the next one", make: func() fault { return fault{launch: uncopied} },
	},
	{
		Fault: "memory has no room for the largest payload", Version: pool.V2, Test: "TestP113_PayloadsOfAnySize",
		Says: "a result of 2097152 bytes: 1048576 bytes",
		make: func() fault {
			return fault{trip: func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
				out := w.RoundTrip(ctx, c)
				out.Payload = out.Payload[:min(len(out.Payload), 1<<20)]
				return out
			}}
		},
	},
}

// crossing gives a large reply of one caller to another that gets one at about the same time.
func crossing() func(crew.Worker, context.Context, worker.Call) worker.Outcome {
	var mu sync.Mutex
	var before []byte
	return func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
		out := w.RoundTrip(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		if len(out.Payload) >= worker.DefaultMemoryFrom {
			out.Payload, before = before, out.Payload
		}
		return out
	}
}

// uncopied makes workers whose large replies all lie in the same place.
func uncopied(launch crew.Launch) crew.Launch {
	return func() (crew.Worker, error) {
		w, err := launch()
		if err != nil {
			return nil, err
		}
		area := bytes.NewBuffer(nil)
		return tripper{w, func(w crew.Worker, ctx context.Context, c worker.Call) worker.Outcome {
			out := w.RoundTrip(ctx, c)
			if len(out.Payload) >= worker.DefaultMemoryFrom {
				area.Reset()
				area.Write(out.Payload)
				out.Payload = area.Bytes()
			}
			return out
		}}, nil
	}
}
