// Package contestant is a process that the benchmark starts for each pool, or other way to Python, that takes part:
// it starts its workers, says that it is ready, and then runs rounds of calls, one for each line of its standard input,
// until that ends. python/peers.py is the same for the pools that a Python program would use.
package contestant

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/dspex/workerpool-operator/hack/bench-pool/table"
)

// Setup is what a contestant is started with.
type Setup struct {
	Workers   int    // how many it has
	Python    string // interpreter of its workers
	PythonDir string // the folder hack/bench-pool/python
	PoolDir   string // the folder python, with poolworker
	Payloads  string // folder that WritePayloads has filled
	Scratch   string // an empty folder of its own, for sockets
}

// Order asks for one round.
type Order struct {
	Command string        `json:"command"` // echo, sleep, burn or start
	Size    string        `json:"size"`    // name of the payload
	Callers int           `json:"callers"`
	Length  time.Duration `json:"length"` // nanoseconds
}

// Answer ends a round, or the start: with figures, or the reason why there are none.
type Answer struct {
	table.Figures
	Error string `json:"error,omitempty"`
}

// rig is a contestant that has been started.
type rig interface {
	// caller prepares calls of a command with a payload, made by so many callers, and has checked that one is answered
	// as it must be.
	caller(ctx context.Context, command string, p Payload, callers int) (Caller, error)
	close(ctx context.Context) error
}

// starting is a rig that starts workers instead of being called.
type starting interface {
	starts(ctx context.Context, p Payload, workers int) (table.Figures, error)
}

// batching is a rig whose calls have several inputs each, which are what is counted.
type batching interface {
	inputs() int
}

// starters are the contestants by name.
var starters = map[string]func(ctx context.Context, s Setup) (rig, error){
	"v1": startV1, "v2": startV2, "v2-opaque": startOpaqueV2, "v2-opaque-pipe": startOpaquePipeV2, "v2-json": startStandardV2,
	"pingpong": startPingPong, "pingpong-json": startJSONPingPong, "sleepers": startSleepers,
	"v2-batch": startBatchV2, "forked": startForks, "spawned": startSpawns,
	"gunicorn": startGunicorn, "uvicorn": startUvicorn, "uwsgi": startUWSGI,
}

// Serve is the whole life of the contestant of that name. The error is for whoever reads the process's log; the other
// end has it already.
func Serve(ctx context.Context, name string, s Setup, orders io.Reader, answers io.Writer) error {
	encoder := json.NewEncoder(answers)
	start := starters[name]
	if start == nil {
		return fmt.Errorf("there is no contestant %q", name)
	}
	r, err := start(ctx, s)
	if err != nil {
		_ = encoder.Encode(Answer{Error: err.Error()})
		return err
	}
	defer r.close(context.WithoutCancel(ctx)) //nolint:errcheck // the process ends now, and its workers with it
	if err := encoder.Encode(Answer{}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		if err := encoder.Encode(answer(ctx, r, s, lines.Bytes())); err != nil {
			return err
		}
	}
	return nil
}

func answer(ctx context.Context, r rig, s Setup, line []byte) Answer {
	var o Order
	err := json.Unmarshal(line, &o)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	figures, err := round(ctx, r, s, o)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	return Answer{Figures: figures}
}

func round(ctx context.Context, r rig, setup Setup, o Order) (table.Figures, error) {
	p, err := readPayload(setup.Payloads, o.Size)
	if err != nil {
		return table.Figures{}, err
	}
	if s, ok := r.(starting); ok {
		return s.starts(ctx, p, setup.Workers)
	}
	call, err := r.caller(ctx, o.Command, p, o.Callers)
	if err != nil {
		return table.Figures{}, err
	}
	figures, err := closedLoop(ctx, o.Callers, setup.Workers, o.Length, call)
	if b, ok := r.(batching); ok {
		figures.Count *= b.inputs()
		figures.Rate *= float64(b.inputs())
	}
	return figures, err
}
