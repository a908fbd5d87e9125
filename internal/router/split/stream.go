package split

import "sync/atomic"

// stream splits one sequence of requests. It is divided into blocks, each of as many requests as make one of the
// canary's (10 at weight 10 %, 3⅓ at 30 %), and each block has its one at a random place. So after any number of
// requests the canary has had the sum of their weights, rounded down or up; and each request had exactly its weight as
// its chance.
//
// This is ordered pivotal sampling (Deville and Tillé 1998). Each request may have another weight, so that a weight which
// changes in mid-stream leaves all of that true.
type stream struct {
	command string
	state   atomic.Uint64 // see pack
	used    atomic.Bool   // since the last review, not counting the first request
}

func (s *stream) use() {
	if !s.used.Load() { // a line that is only read is every processor's
		s.used.Store(true)
	}
}

// block is what the present block has come to.
type block struct {
	owed   uint64 // in 1/Whole of a request; below Whole
	picked bool   // its request has been picked: the chance of that is always owed
}

// A state is one word, so that a request is one exchange: 48 bits of a random sequence above the block's 16.
const blockBits = 16

func pack(sequence uint64, b block) uint64 {
	state := sequence<<blockBits | b.owed<<1
	if b.picked {
		state |= 1
	}
	return state
}

func unpack(state uint64) (sequence uint64, b block) {
	return state >> blockBits, block{owed: state >> 1 % (1 << (blockBits - 1)), picked: state&1 == 1}
}

// begin makes a new stream start somewhere in the random sequence.
func (s *stream) begin(seed uint64) { s.state.Store(pack(seed, block{})) }

// next reports whether the next request goes to the canary. weight is above 0 and below Whole.
func (s *stream) next(weight uint32) bool {
	for {
		state := s.state.Load()
		sequence, before := unpack(state)
		after, pick := before.step(uint64(weight), sequence>>16)
		if s.state.CompareAndSwap(state, pack(following(sequence), after)) {
			return pick
		}
	}
}

// following is the next of a sequence of numbers of 48 bits, of which the upper 32 are random (drand48).
func following(sequence uint64) uint64 { return sequence*0x5deece66d + 0xb }

// step is one request. The four cases are whether it lies in this block or reaches into the next, and whether this
// block's request has been picked. random is a number of 32 bits.
func (b block) step(weight, random uint64) (after block, pick bool) {
	reached := b.owed + weight
	switch {
	case reached < Whole && b.picked:
		return block{reached, true}, false
	case reached < Whole:
		pick = draw(weight, Whole-b.owed, random)
		return block{reached, pick}, pick
	case b.picked: // for the next block, perhaps
		reached -= Whole
		pick = draw(reached, b.owed, random)
		return block{reached, pick}, pick
	}
	return block{reached - Whole, false}, true // the last that this block has
}

// draw reports true with a chance of part in whole.
func draw(part, whole, random uint64) bool { return random*whole < part<<32 }
