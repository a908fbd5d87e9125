package frame

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// FlagMemory in a Request or Result between supervisor and worker: its payload lies in memory that both have, and the
// frame holds the payload's size in its place.
const FlagMemory uint8 = 1 << 4

// referenceSize is that of what stands for a payload, in bytes.
const referenceSize = 4

// AppendReference appends what stands in a frame with FlagMemory for a payload of size bytes.
func AppendReference(dst []byte, size int) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(size))
}

// UseMemory makes the Reader take frames with FlagMemory, which it refuses otherwise. Read calls fetch with the size of
// each one's payload, which is within the limit, and the payload is what that returns: memory that nobody else writes to.
func (r *Reader) UseMemory(fetch func(size int) []byte) {
	r.known, r.memory = knownFlags|FlagMemory, fetch
}

// fetch replaces the reference in f, the frame that was read last, by its payload. The frame keeps its flag.
func (r *Reader) fetch(f *Frame) error {
	if f.Kind != Request && f.Kind != Result || len(f.Payload) != referenceSize {
		return fmt.Errorf("%w: a reference of %d bytes to memory in a frame of kind %d", ErrMalformed, len(f.Payload), f.Kind)
	}
	size := binary.BigEndian.Uint32(f.Payload)
	if int64(size) > int64(r.max) {
		return fmt.Errorf("%w: payload of %d bytes in memory, at most %d", ErrTooLarge, size, r.max)
	}
	f.Meta, f.Payload = bytes.Clone(f.Meta), r.memory(int(size))
	r.given = true
	return nil
}
