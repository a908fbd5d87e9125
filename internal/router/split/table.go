package split

import "math/bits"

// table finds streams by their commands in half the time that a map takes. One that is in use is never changed.
type table struct {
	places [2 * maxCommands]*stream // each at its hash, or at the first free place after it
	size   int
}

// find returns nil when the command has no stream.
func (t *table) find(command string) *stream {
	for at := hash(command); ; at++ {
		found := t.places[at%uint64(len(t.places))]
		if found == nil || found.command == command {
			return found
		}
	}
}

// add needs room for one more, so that a search always meets a place that is free.
func (t *table) add(s *stream) {
	at := hash(s.command)
	for t.places[at%uint64(len(t.places))] != nil {
		at++
	}
	t.places[at%uint64(len(t.places))] = s
	t.size++
}

func hash(command string) uint64 {
	var h uint64
	for i := range len(command) {
		h = bits.RotateLeft64(h, 7) ^ uint64(command[i])
	}
	return h * 0x9e3779b97f4a7c15 >> 32
}
