package slot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// markerBytes of randomness tell this pod's slot from all others whose processes it may see.
const markerBytes = 16

// Marker returns what marks the workers of slot name, whose socket is at path, in their environment. It is the same
// after a restart of the slot's container and differs between slots and pods, also where they see each other's
// processes (shareProcessNamespace, hostPID): paths are alike there. What makes it unique is kept in a file beside
// the socket. With an error the marker is good for this run of the slot only, so that no leftovers of an earlier one
// can be found by it.
func Marker(name, path string) (string, error) {
	file := path + ".id"
	if kept, err := os.ReadFile(file); err == nil && isMarkerID(kept) {
		return name + "-" + string(kept), nil
	}
	random := make([]byte, markerBytes)
	_, _ = rand.Read(random) // never fails
	id := hex.EncodeToString(random)
	if err := keep(file, id); err != nil {
		return name + "-" + id, fmt.Errorf("keeping the slot's id in %s: %w", file, err)
	}
	return name + "-" + id, nil
}

// isMarkerID is false for what a crash in the middle of a write has left.
func isMarkerID(text []byte) bool {
	id, err := hex.DecodeString(string(text))
	return err == nil && len(id) == markerBytes
}

// keep replaces the file.
func keep(file, id string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(id)
	return errors.Join(err, f.Close())
}
