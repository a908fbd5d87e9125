package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// fileName within the state folder. The folder is mounted in the router alone: a snapshot holds the literal
// environment of the workers.
const fileName = "snapshot"

// tempPattern is what any file of a Store is called, after its own name, while it is being written.
const tempPattern = ".*.tmp"

// magic opens the file; its number changes with the layout: magic, CRC-32C of the rest, the snapshot's protobuf.
var magic = []byte("workerpool-snapshot 1\n")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Store keeps one snapshot, and one trip, in a folder. Each of them is for one goroutine at a time.
type Store struct{ dir string }

// NewStore keeps its snapshot in dir; with "" it keeps nothing.
func NewStore(dir string) *Store { return &Store{dir: dir} }

// Save puts s in place of what was there: after a crash at any moment, Load finds one or the other, whole.
func (st *Store) Save(s *controlpb.Snapshot) error {
	if st.dir == "" {
		return nil
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if err := st.replace(fileName, seal(magic, body)); err != nil {
		return fmt.Errorf("keep the snapshot in %s: %w", st.dir, err)
	}
	return nil
}

// seal makes a file's text: its opening, the body's checksum, the body.
func seal(opening, body []byte) []byte {
	text := binary.BigEndian.AppendUint32(bytes.Clone(opening), crc32.Checksum(body, castagnoli))
	return append(text, body...)
}

// unseal returns the body; what says what the file holds, for errors.
func unseal(what string, opening, text []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(text, opening)
	if !ok || len(rest) < 4 {
		return nil, fmt.Errorf("its %d bytes don't begin like a %s", len(text), what)
	}
	body := rest[4:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(rest) {
		return nil, fmt.Errorf("its %d bytes are torn or corrupt: the checksum differs", len(text))
	}
	return body, nil
}

func (st *Store) replace(name string, text []byte) error {
	f, err := os.CreateTemp(st.dir, name+tempPattern) // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // nothing is left of it once it is renamed
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(st.dir, name)); err != nil {
		return err
	}
	return syncDir(st.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Load returns the snapshot that was saved last, nil when none was. A file that is torn, corrupt or of another
// layout is an error, and it is for the caller to go on without: the bootstrap and the operator are still there.
// Load also removes what saves have left that a crash cut short.
func (st *Store) Load() (*controlpb.Snapshot, error) {
	if st.dir == "" {
		return nil, nil
	}
	st.sweep()
	text, err := st.read(fileName)
	if text == nil || err != nil {
		return nil, err
	}
	s, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(st.dir, fileName), err)
	}
	return s, nil
}

// read returns nil when there is no such file.
func (st *Store) read(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(st.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// sweep removes leftovers. One that can't be removed does no harm but take its room.
func (st *Store) sweep() {
	for _, file := range []string{fileName, tripFile} {
		names, _ := fs.Glob(os.DirFS(st.dir), file+tempPattern) // the pattern is well-formed
		for _, name := range names {
			_ = os.Remove(filepath.Join(st.dir, name))
		}
	}
}

func decode(text []byte) (*controlpb.Snapshot, error) {
	body, err := unseal("snapshot", magic, text)
	if err != nil {
		return nil, err
	}
	var s controlpb.Snapshot
	if err := proto.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("its snapshot can't be read: %w", err)
	}
	if err := Validate(&s); err != nil {
		return nil, err
	}
	return &s, nil
}
