package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// BootError is why a worker didn't become ready. Two starts that fail for the same reason have equal BootErrors:
// nothing in them names the one process.
type BootError struct {
	Message   string
	Traceback string // of the user's module, or the last lines of output; "" when there is none
	// Crowd is what became of it for want of something that workers share, and so may not befall fewer that start at the
	// same time, as in "8 starts at once took longer than 5s"; "": others have nothing to do with it.
	Crowd string
}

// Error implements error.
func (e *BootError) Error() string { return e.Message }

const protocolVersion = 1

type hello struct {
	PID      int    `json:"pid"`
	Python   string `json:"python"`
	Protocol int    `json:"protocol"`
}

type initPayload struct {
	Worker     string   `json:"worker"`
	Mode       string   `json:"mode"`
	Module     string   `json:"module"`
	SysPath    []string `json:"sysPath"`
	MaxPayload int      `json:"maxPayload"`
	// Concurrency is absent where the worker serves one request at a time.
	Concurrency int `json:"concurrency,omitempty"`
	// Memory is the smallest payload that goes by it, in bytes; absent where there is none.
	Memory int `json:"memory,omitempty"`
}

type initReply struct {
	Worker   string   `json:"worker"`
	Mode     string   `json:"mode"`
	Codec    string   `json:"codec"`
	Commands []string `json:"commands"`
	// Concurrency that it was told, if it was.
	Concurrency int `json:"concurrency"`
	// Memory tells that it was told of one and has mapped it.
	Memory bool `json:"memory"`
	// Stack is how to ask for its handlers' stacks; absent where it can't tell them.
	Stack *stackSource `json:"stack"`
}

// How a worker's process was made.
const (
	modeSpawn = "spawn"
	modeFork  = "fork" // by a Zygote
)

// Ready waits until the worker can serve. When it can't, or ctx ends first, the process group has been killed and
// reaped when Ready returns; the error is a *BootError, or the cause of ctx.
func (w *Worker) Ready(ctx context.Context) error {
	err := w.handshake(ctx)
	if err == nil {
		return nil
	}
	if !errors.As(err, new(*BootError)) && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.awaitExit() // for its status: the pipe ends before the process
	}
	w.Kill(ReasonBoot)
	<-w.gone
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return w.explain(err)
}

// handshake runs Hello, Init, Result within the init timeout.
func (w *Worker) handshake(ctx context.Context) error {
	start := time.Now()
	deadline := start.Add(w.spec.initTimeout())
	if w.mode == modeSpawn { // else the Zygote has waited for it
		if err := w.greet(ctx, start, w.spec.initTimeout()); err != nil {
			return err
		}
	}
	if err := w.watch.begin(ctx, deadline, start); err != nil {
		return err
	}
	defer w.watch.done()
	if err := w.sendInit(); err != nil {
		return err
	}
	return w.readInitReply()
}

// greet waits for Hello.
func (w *Worker) greet(ctx context.Context, now time.Time, patience time.Duration) error {
	if err := w.watch.begin(ctx, now.Add(patience), now); err != nil {
		return err
	}
	defer w.watch.done()
	return w.readHello()
}

func (s *Spec) initTimeout() time.Duration {
	if s.InitTimeout > 0 {
		return s.InitTimeout
	}
	return DefaultInitTimeout
}

func (s *Spec) maxPayload() int {
	if s.MaxPayload > 0 {
		return s.MaxPayload
	}
	return frame.DefaultMaxPayload
}

// concurrency as it is on the wire: absent where it is 1.
func (s *Spec) concurrency() int {
	if s.Concurrency == 1 {
		return 0
	}
	return s.Concurrency
}

func (w *Worker) readHello() error {
	var f frame.Frame
	if err := w.reader.Read(&f); err != nil {
		return err
	}
	var h hello
	if f.Kind != frame.Hello || json.Unmarshal(f.Payload, &h) != nil {
		return &BootError{Message: "the worker's first frame is no Hello; is " + w.spec.PythonDir + " the poolworker package of this version?"}
	}
	if h.Protocol != protocolVersion {
		return &BootError{Message: fmt.Sprintf("the worker speaks protocol %d, this supervisor %d; install both from one image",
			h.Protocol, protocolVersion)}
	}
	if w.mode == modeFork && h.PID != w.proc.pid {
		return &BootError{Message: "another process than the forked worker has answered, so it isn't admitted"}
	}
	return nil
}

func (w *Worker) sendInit() error {
	payload, err := json.Marshal(initPayload{
		Worker: w.id, Mode: w.mode, Module: w.spec.Module, SysPath: []string{w.spec.WorkingDir}, MaxPayload: w.maxPayload(),
		Concurrency: w.spec.concurrency(), Memory: w.memory.threshold(),
	})
	if err != nil {
		return err
	}
	w.sequence++
	return w.writer.Write(&frame.Frame{Kind: frame.Init, Generation: w.generation, ID: w.sequence, Payload: payload})
}

// readInitReply admits the worker only when it echoes who it was told to be.
func (w *Worker) readInitReply() error {
	var f frame.Frame
	if err := w.reader.Read(&f); err != nil {
		return err
	}
	if f.ID != w.sequence || f.Generation != w.generation || w.reader.Buffered() > 0 {
		return &BootError{Message: "the worker's answer to Init isn't one to this worker"}
	}
	switch f.Kind {
	case frame.Result:
		var r initReply
		if err := json.Unmarshal(f.Payload, &r); err != nil || r.Worker != w.id || r.Mode != w.mode {
			return &BootError{Message: "the worker didn't echo its id and mode, so it isn't admitted"}
		}
		if r.Concurrency != w.spec.concurrency() {
			return &BootError{Message: "the worker didn't echo its concurrency, so it isn't admitted; install poolworker and poold from one image"}
		}
		w.commands, w.codec, w.stacks.source = r.Commands, r.Codec, r.Stack
		w.useMemory(r.Memory)
		return nil
	case frame.Error:
		return bootErrorFrom(f.Payload)
	default:
		return &BootError{Message: fmt.Sprintf("the worker answered Init with a frame of kind %d", f.Kind)}
	}
}

func bootErrorFrom(payload []byte) *BootError {
	var e pool.Error
	if err := json.Unmarshal(payload, &e); err != nil {
		return &BootError{Message: "the worker failed to start and its reason can't be read: " + err.Error()}
	}
	traceback, _ := e.Context["traceback"].(string)
	return &BootError{Message: e.Message, Traceback: traceback}
}

// explain turns a failed handshake into a BootError. The process is gone.
func (w *Worker) explain(err error) *BootError {
	var boot *BootError
	if errors.As(err, &boot) {
		return boot
	}
	tail := strings.Join(w.output.last(), "\n")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		boot = w.spec.tooSlow(tail)
		boot.Crowd = "took longer than " + w.spec.initTimeout().String()
		return boot
	}
	if errors.Is(err, frame.ErrMalformed) || errors.Is(err, frame.ErrTooLarge) {
		return &BootError{Traceback: tail, Message: "the worker's answer to Init isn't a frame: " + err.Error()}
	}
	boot = w.spec.endedEarly(w.Exit(), tail)
	if exit := w.Exit(); exit.Shortage != nil || exit.OOM {
		boot.Crowd = "took more memory than their container has"
	}
	return boot
}

func (s *Spec) tooSlow(tail string) *BootError {
	return &BootError{Traceback: tail, Message: fmt.Sprintf(
		"module %s wasn't ready after %s, so its worker was ended; import less, or raise spec.timeouts.start",
		s.Module, s.initTimeout())}
}

func (s *Spec) endedEarly(exit Exit, tail string) *BootError {
	message := fmt.Sprintf("the worker of module %s %s before it was ready", s.Module, exit)
	if exit.Shortage != nil {
		message = fmt.Sprintf("a worker of module %s was ended before it was ready, as it took most of its container's memory and that was nearly "+
			"used up; import less, lower spec.size, or raise spec.worker.resources.limits.memory", s.Module)
	}
	if exit.Overfill != nil {
		message = fmt.Sprintf("a worker of module %s was ended before it was ready, as it had most of the files below /tmp, and there were %d MiB of at most %d; "+
			"write less at import, or raise spec.worker.tmp.sizeLimit", s.Module, exit.Overfill.Used>>20, exit.Overfill.Limit>>20)
	}
	return &BootError{Traceback: tail, Message: message}
}
