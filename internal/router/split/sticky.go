package split

import (
	"crypto/sha256"
	"encoding/binary"
)

// Sticky reports whether a session is the canary's at that weight: a pure function, the same in every pod and after every
// restart. Each session has its own place among the weights, which depends on the canary's revision too, so that the
// next rollout begins with other sessions. As the weight rises a session goes over once and stays.
func Sticky(session, revision string, weight uint32) bool {
	text := make([]byte, 0, 512)
	text = append(text, revision...)
	text = append(text, 0)
	text = append(text, session...)
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])%Whole < uint64(weight)
}
