package frame

import "bytes"

// ProgramMeta is the meta of a Request with FlagProgram: the command, NUL, and the hash of the Program whose arguments
// are to be merged with the payload's.
func ProgramMeta(command, hash string) []byte {
	meta := make([]byte, 0, len(command)+1+len(hash))
	meta = append(meta, command...)
	meta = append(meta, 0)
	return append(meta, hash...)
}

// Call returns a Request's command, and the hash of the Program that it names; "" without one.
func (f *Frame) Call() (command, hash string) {
	if f.Flags&FlagProgram == 0 {
		return string(f.Meta), ""
	}
	i := bytes.LastIndexByte(f.Meta, 0) // a hash has none
	if i < 0 {
		return string(f.Meta), ""
	}
	return string(f.Meta[:i]), string(f.Meta[i+1:])
}
