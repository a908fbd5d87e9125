package frame

import (
	"encoding/binary"
	"fmt"
)

// A stream flows by credit: whoever sends Chunks may send one as long as its credit is above 0, and each costs what
// ChunkCost says. So what its receiver has to hold is StreamWindow small chunks, or StreamWindow × CreditUnit bytes, and at
// most one chunk beyond that, and a receiver that is slow keeps nobody else waiting.
const (
	// StreamWindow is the credit that every stream begins with.
	StreamWindow = 16
	// CreditUnit is how many bytes of payload one credit is worth.
	CreditUnit = 4 << 10
)

// ChunkCost is the credit that a Chunk takes: one for each CreditUnit of payload that is begun, and at least one.
func ChunkCost(payload []byte) int { return max(1, (len(payload)+CreditUnit-1)/CreditUnit) }

// NewCredit gives the stream of request id n more credit.
func NewCredit(generation uint32, id uint64, n int) *Frame {
	return &Frame{Kind: Credit, Generation: generation, ID: id, Payload: binary.BigEndian.AppendUint32(nil, uint32(n))}
}

// Credit reads how much a Credit gives.
func (f *Frame) Credit() (int, error) {
	if len(f.Payload) != 4 {
		return 0, fmt.Errorf("%w: a Credit of %d bytes instead of 4", ErrMalformed, len(f.Payload))
	}
	return int(binary.BigEndian.Uint32(f.Payload)), nil
}

// Window is the account of whoever receives a stream. The zero value is that of a stream without a Chunk yet. One who has
// each Chunk taken before the next is read needs no Receive: that its sender waits for credit shows to nobody else.
type Window struct {
	spent int // by the sender, of all that it has; what it got back doesn't count
	owed  int // of spent: by chunks that have been taken
}

// Receive books a Chunk that has come; false: its sender had no credit for it.
func (w *Window) Receive(payload []byte) bool {
	if w.spent >= StreamWindow {
		return false
	}
	w.spent += ChunkCost(payload)
	return true
}

// Take books a Chunk that its reader has taken, and returns how much credit is to be given back now: none until half of
// the window is owed, so that not every Chunk costs a Credit. A sender that has none left is always given some.
func (w *Window) Take(payload []byte) (giveBack int) {
	w.owed += ChunkCost(payload)
	if w.owed < StreamWindow/2 {
		return 0
	}
	giveBack, w.owed = w.owed, 0
	w.spent -= giveBack
	return giveBack
}
