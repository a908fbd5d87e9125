package worker

import (
	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// What one process holds of programs at most: Python keeps each decoded, which takes a few times the bytes of its JSON.
const (
	maxPrograms     = 256
	maxProgramBytes = 8 << 20
)

// introduce returns what must go to the worker ahead of a request that names a program: nothing when the process
// holds that already, else the program, and which ones it may forget for it. The frames are as good as sent: if they
// aren't, the worker is given up.
func (w *Worker) introduce(p *pool.Program) []*frame.Frame {
	if _, held := w.programs.Get(p.Hash); held {
		return nil
	}
	var ahead []*frame.Frame
	for _, hash := range w.programs.Put(p.Hash, struct{}{}, len(p.Body)) {
		ahead = append(ahead, &frame.Frame{Kind: frame.Forget, Generation: w.generation, Meta: []byte(hash)})
	}
	return append(ahead, &frame.Frame{Kind: frame.Program, Generation: w.generation, Meta: []byte(p.Hash), Payload: p.Body})
}

// tooLarge reports whether a part of the call, whose request has that meta, is over what its frame may hold.
func (c *Call) tooLarge(maxPayload int, meta []byte) bool {
	body := 0
	if c.Program != nil {
		body = len(c.Program.Body)
	}
	return max(len(c.Payload), body) > maxPayload || len(meta) > frame.MaxMeta
}

func (w *Worker) tooLargeError(c *Call) *pool.Error {
	return pool.NewError(pool.RequestError, pool.FrameTooLarge,
		"the request has %d bytes and pool %s takes %d; send less, or a reference to the data",
		c.size(), w.spec.Pool, w.maxPayload()).With("pool", w.spec.Pool)
}

// frame is what goes into the meta of the call's request.
func (c *Call) frame() frame.Call {
	f := frame.Call{
		Command: c.Command, Session: c.Session, Program: c.ProgramID, Batch: c.Batch, Stream: c.Stream != nil, Idle: c.Idle,
	}
	if c.Program != nil {
		f.Hash = c.Program.Hash
	}
	return f
}

// size is what the call takes, in bytes.
func (c *Call) size() int {
	n := len(c.Command) + len(c.Payload)
	if c.Program != nil {
		n += len(c.Program.Body)
	}
	return n
}
