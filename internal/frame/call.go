package frame

import (
	"bytes"
	"strconv"
	"time"
)

// Call is what the meta of a Request holds: the command; with FlagProgram NUL and the hash; with FlagContext NUL and the
// session's id, NUL and the program's id; with FlagStream NUL and Idle in µs, or nothing when there is no limit; with
// FlagAffinity NUL and its mode. Only the command may have a NUL in it.
type Call struct {
	Command string
	Hash    string // of the Program whose arguments are merged with the payload's; "": a plain command
	Session string // id; "": anonymous
	Program string // id; "": a plain command
	// Affinity is a pool.AffinityMode to the worker of the session, router → slot only; "": none.
	Affinity string

	Stream bool          // the result is wanted in Chunks
	Idle   time.Duration // of a stream: how long it may send nothing although it has credit; 0: as long as it likes

	// In the flags alone.
	Batch      bool // of many inputs
	Idempotent bool // it may run more than once; never to a worker
}

// Flags returns those of a Request with this meta.
func (c *Call) Flags() (flags uint8) {
	if c.Hash != "" {
		flags |= FlagProgram
	}
	if c.Session != "" || c.Program != "" {
		flags |= FlagContext
	}
	if c.Affinity != "" {
		flags |= FlagAffinity
	}
	if c.Batch {
		flags |= FlagBatch
	}
	if c.Idempotent {
		flags |= FlagIdempotent
	}
	if c.Stream {
		flags |= FlagStream
	}
	return flags
}

// Meta returns the meta of a Request with these Flags.
func (c *Call) Meta() []byte {
	meta := make([]byte, 0, len(c.Command)+len(c.Hash)+len(c.Session)+len(c.Program)+len(c.Affinity)+4)
	meta = append(meta, c.Command...)
	if c.Hash != "" {
		meta = append(append(meta, 0), c.Hash...)
	}
	if c.Session != "" || c.Program != "" {
		meta = append(append(meta, 0), c.Session...)
		meta = append(append(meta, 0), c.Program...)
	}
	if c.Stream {
		meta = append(meta, 0)
		if c.Idle > 0 {
			meta = strconv.AppendInt(meta, int64(max(c.Idle/time.Microsecond, 1)), 10)
		}
	}
	if c.Affinity != "" {
		meta = append(append(meta, 0), c.Affinity...)
	}
	return meta
}

// Call reads a Request's meta. Parts that its flags promise and that aren't there, or can't be read, stay empty.
func (f *Frame) Call() (c Call) {
	rest := f.Meta
	if f.Flags&FlagAffinity != 0 {
		rest, c.Affinity = cutLast(rest)
	}
	if f.Flags&FlagStream != 0 {
		var idle string
		rest, idle = cutLast(rest)
		us, _ := strconv.ParseUint(idle, 10, 63)
		c.Stream, c.Idle = true, time.Duration(min(us, maxBudget))*time.Microsecond
	}
	if f.Flags&FlagContext != 0 {
		rest, c.Program = cutLast(rest)
		rest, c.Session = cutLast(rest)
	}
	if f.Flags&FlagProgram != 0 {
		rest, c.Hash = cutLast(rest)
	}
	c.Command, c.Batch, c.Idempotent = string(rest), f.Flags&FlagBatch != 0, f.Flags&FlagIdempotent != 0
	return c
}

func cutLast(meta []byte) (rest []byte, last string) {
	i := bytes.LastIndexByte(meta, 0)
	if i < 0 {
		return meta, ""
	}
	return meta[:i], string(meta[i+1:])
}
