// Package frame is the wire format between router, slot and worker: a length, a fixed binary header, a short
// meta section and an opaque payload. Whoever only carries a payload never parses it.
//
//	offset  size  field       all integers big-endian
//	0       4     length      bytes that follow this field: 24 + meta + payload
//	4       1     kind
//	5       1     flags       those named Flag… below, or 0; a receiver refuses flags it doesn't know
//	6       2     meta length
//	8       4     generation  of the worker (slot ↔ worker) or 0
//	12      8     id          of the request; a reply bears its request's
//	20      8     budget      remaining time in µs; 0: none
//	28            meta, then payload
//
// docs/protocol.md says which kinds travel where and what their meta and payload hold.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Kind says what a frame is for. The numbers are part of the protocol.
type Kind uint8

// Kinds of frames. The direction and the content of each are listed in docs/protocol.md.
const (
	Hello     Kind = 1  // opens a connection; payload: JSON
	Init      Kind = 2  // supervisor → worker: who you are; payload: JSON
	Ping      Kind = 3  // empty
	Pong      Kind = 4  // empty
	Request   Kind = 5  // meta: command; payload: its JSON arguments
	Result    Kind = 6  // payload: the JSON result
	Error     Kind = 7  // payload: JSON of the four parts
	Cancel    Kind = 8  // id: the request to cancel
	Shutdown  Kind = 9  // finish what is running, then exit 0
	Configure Kind = 10 // router → slot: JSON slotproto.Config
	Status    Kind = 11 // slot → router: JSON slotproto.Status
	Program   Kind = 12 // meta: hash; payload: arguments that Requests with FlagProgram name by it
	Forget    Kind = 13 // meta: hash of a Program that no Request will name any more
	Recall    Kind = 14 // router → slot; id: the request to give back if no worker has it
	Chunk     Kind = 15 // payload: the JSON of one item of a Request with FlagStream; Result or Error ends them
	Credit    Kind = 16 // id: of a stream; payload: how much more of it may be sent; see StreamWindow
	Reset     Kind = 17 // router → slot: replace all workers
)

// FlagSent in an Error from a slot: the request had been sent to a worker, so it can have had an effect.
const FlagSent uint8 = 1 << 0

// Flags of a Request say what its meta has beside the command; see Call.
const (
	FlagProgram uint8 = 1 << 1 // the hash of a Program
	FlagContext uint8 = 1 << 2 // the ids of session and program
)

// FlagBatch in a Request: its payload has the arguments of many calls, which the worker makes one after the other.
const FlagBatch uint8 = 1 << 3

// FlagStream in a Request: its result is wanted in Chunks, and its meta has how long there may be none.
const FlagStream uint8 = 1 << 5

// FlagAffinity in a Request from the router: its meta has the mode of affinity to the worker that served the session
// last. A worker isn't told.
const FlagAffinity uint8 = 1 << 6

// FlagIdempotent in a Request from the router: it may run more than once. A worker isn't told.
const FlagIdempotent uint8 = 1 << 7

// knownFlags are those of a stream without memory; see FlagMemory.
const knownFlags = FlagSent | FlagProgram | FlagContext | FlagBatch | FlagStream | FlagAffinity | FlagIdempotent

// HeaderSize is the length field and the fixed header, in bytes.
const HeaderSize = 28

// MaxMeta is the longest meta section, in bytes.
const MaxMeta = 1<<16 - 1

// DefaultMaxPayload bounds a payload where nothing else is configured, in bytes.
const DefaultMaxPayload = 16 << 20

const fixedAfterLength = HeaderSize - 4

// maxBudget is the longest time that a time.Duration holds, in µs.
const maxBudget = uint64(1<<63-1) / uint64(time.Microsecond)

// Frame is one message. After Reader.Read, Meta and Payload point into the reader's buffer and are valid only
// until its next Read, unless Reader.Own is called.
type Frame struct {
	Kind       Kind
	Flags      uint8
	Generation uint32
	ID         uint64
	Budget     time.Duration // rounded down to µs on the wire; 0: none
	Meta       []byte
	Payload    []byte
}

// Errors of a malformed or oversized frame. After any of them the stream is out of step: close it.
var (
	ErrTooLarge  = errors.New("frame too large")
	ErrMalformed = errors.New("malformed frame")
)

// Append appends the encoded frame to dst. It fails with ErrTooLarge when meta or payload exceed the format.
func Append(dst []byte, f *Frame) ([]byte, error) {
	if len(f.Meta) > MaxMeta {
		return dst, fmt.Errorf("%w: meta of %d bytes, at most %d", ErrTooLarge, len(f.Meta), MaxMeta)
	}
	if uint64(len(f.Payload)) > 1<<31 {
		return dst, fmt.Errorf("%w: payload of %d bytes", ErrTooLarge, len(f.Payload))
	}
	dst = appendHeader(dst, f)
	dst = append(dst, f.Meta...)
	return append(dst, f.Payload...), nil
}

func appendHeader(dst []byte, f *Frame) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(fixedAfterLength+len(f.Meta)+len(f.Payload)))
	dst = append(dst, byte(f.Kind), f.Flags)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(f.Meta)))
	dst = binary.BigEndian.AppendUint32(dst, f.Generation)
	dst = binary.BigEndian.AppendUint64(dst, f.ID)
	return binary.BigEndian.AppendUint64(dst, uint64(max(f.Budget, 0)/time.Microsecond))
}

// Writer encodes frames into one buffer, which it writes with a single Write. Not safe for concurrent use.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// keepBuffer is the largest encode or decode buffer that is kept between frames, in bytes: one large payload
// must not pin its size for the life of a connection.
const keepBuffer = 256 << 10

// Write sends frames whole, in their order. A short write leaves the stream out of step: close it.
func (w *Writer) Write(frames ...*Frame) error {
	buf := w.buf[:0]
	for _, f := range frames {
		var err error
		if buf, err = Append(buf, f); err != nil {
			return err
		}
	}
	_, err := w.w.Write(buf)
	if cap(buf) <= keepBuffer {
		w.buf = buf
	} else {
		w.buf = nil
	}
	return err
}

// Reader decodes frames from a stream. Not safe for concurrent use.
type Reader struct {
	r          io.Reader
	max        int
	known      uint8                 // flags
	memory     func(size int) []byte // see UseMemory
	buf        []byte
	start, end int  // unread bytes are buf[start:end]
	given      bool // the last frame has its buffer to itself
}

// NewReader returns a Reader on r that refuses frames with more than maxPayload bytes of payload
// (DefaultMaxPayload when it isn't positive) before allocating room for them.
func NewReader(r io.Reader, maxPayload int) *Reader {
	if maxPayload <= 0 {
		maxPayload = DefaultMaxPayload
	}
	return &Reader{r: r, max: maxPayload, known: knownFlags, buf: make([]byte, 4096)}
}

// Buffered returns how many bytes were read from the stream and belong to no frame yet. A worker whose reader
// holds any after a reply isn't clean.
func (r *Reader) Buffered() int { return r.end - r.start }

// Read decodes the next frame into f. At a clean end of the stream it returns io.EOF, inside a frame
// io.ErrUnexpectedEOF.
func (r *Reader) Read(f *Frame) error {
	if err := r.fill(HeaderSize); err != nil {
		return err
	}
	h := r.buf[r.start:]
	length := int64(binary.BigEndian.Uint32(h))
	meta := int64(binary.BigEndian.Uint16(h[6:]))
	payload := length - fixedAfterLength - meta
	switch {
	case payload < 0:
		return fmt.Errorf("%w: length %d with %d bytes of meta", ErrMalformed, length, meta)
	case payload > int64(r.max):
		return fmt.Errorf("%w: payload of %d bytes, at most %d", ErrTooLarge, payload, r.max)
	case h[5]&^r.known != 0:
		return fmt.Errorf("%w: unknown flags %#02x", ErrMalformed, h[5])
	}
	budget := binary.BigEndian.Uint64(h[20:])
	if budget > maxBudget {
		return fmt.Errorf("%w: budget of %d µs", ErrMalformed, budget)
	}
	*f = Frame{
		Kind: Kind(h[4]), Flags: h[5], Generation: binary.BigEndian.Uint32(h[8:]), ID: binary.BigEndian.Uint64(h[12:]),
		Budget: time.Duration(budget) * time.Microsecond,
	}
	total := int(HeaderSize + meta + payload)
	if err := r.fill(total); err != nil {
		return noEOF(err)
	}
	body := r.buf[r.start+HeaderSize : r.start+total]
	f.Meta, f.Payload = body[:meta:meta], body[meta:]
	r.start += total
	r.give()
	if f.Flags&FlagMemory != 0 {
		return r.fetch(f)
	}
	return nil
}

// give leaves a large buffer to the frame that was read last: nobody knows when the next Read comes, and until then
// the stream must not pin it.
func (r *Reader) give() {
	r.given = len(r.buf) > keepBuffer && r.start == r.end
	if r.given {
		r.buf, r.start, r.end = nil, 0, 0
	}
}

// Own makes Meta and Payload of f, the frame that was read last, valid beyond the next Read. It copies them only if
// they are small.
func (r *Reader) Own(f *Frame) {
	if !r.given {
		f.Meta, f.Payload = bytes.Clone(f.Meta), bytes.Clone(f.Payload)
	}
}

// fill reads until n unread bytes are buffered.
func (r *Reader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start == r.end && len(r.buf) <= keepBuffer {
		r.start, r.end = 0, 0 // so that one Read of the stream gets as much as the buffer holds
	}
	r.makeRoom(n)
	for r.end-r.start < n {
		k, err := r.r.Read(r.buf[r.end:])
		r.end += k
		if r.end-r.start >= n {
			return nil
		}
		if err != nil {
			if r.end > r.start {
				return noEOF(err)
			}
			return err
		}
	}
	return nil
}

func (r *Reader) makeRoom(n int) {
	if len(r.buf)-r.start >= n {
		return
	}
	unread := r.buf[r.start:r.end]
	if len(r.buf) < n || (len(r.buf) > keepBuffer && n <= keepBuffer) {
		r.buf = make([]byte, max(n, 4096))
	}
	r.end = copy(r.buf, unread)
	r.start = 0
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
