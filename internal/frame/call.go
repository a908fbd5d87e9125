package frame

import (
	"bytes"
	"strconv"
	"time"
)

// Call is what the meta of a Request holds: the command; with FlagProgram NUL and the hash; with FlagContext NUL and the
// session's id, NUL and the program's id; with FlagStream NUL and Idle in µs, or nothing when there is no limit. Only the
// command may have a NUL in it.
type Call struct {
	Command string
	Hash    string // of the Program whose arguments are merged with the payload's; "": a plain command
	Session string // id; "": anonymous
	Program string // id; "": a plain command
	Batch   bool   // of many inputs; it is in the flags alone

	Stream bool          // the result is wanted in Chunks
	Idle   time.Duration // of a stream: how long it may send nothing although it has credit; 0: as long as it likes
}

// Flags returns those of a Request with this meta.
func (c *Call) Flags() (flags uint8) {
	if c.Hash != "" {
		flags |= FlagProgram
	}
	if c.Session != "" || c.Program != "" {
		flags |= FlagContext
	}
	if c.Batch {
		flags |= FlagBatch
	}
	if c.Stream {
		flags |= FlagStream
	}
	return flags
}

// Meta returns the meta of a Request with these Flags.
func (c *Call) Meta() []byte {
	meta := make([]byte, 0, len(c.Command)+len(c.Hash)+len(c.Session)+len(c.Program)+3)
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
	return meta
}

// Call reads a Request's meta. Parts that its flags promise and that aren't there, or can't be read, stay empty.
func (f *Frame) Call() (c Call) {
	rest := f.Meta
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
	c.Command, c.Batch = string(rest), f.Flags&FlagBatch != 0
	return c
}

func cutLast(meta []byte) (rest []byte, last string) {
	i := bytes.LastIndexByte(meta, 0)
	if i < 0 {
		return meta, ""
	}
	return meta[:i], string(meta[i+1:])
}
