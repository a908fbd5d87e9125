package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The file's buckets. What every use changes is apart from what may be large.
var (
	sessionsBucket = []byte("sessions") // session id → sessionRecord
	programsBucket = []byte("programs") // programKey → programRecord
	usesBucket     = []byte("uses")     // session id, or programKey → useRecord

	buckets = [][]byte{sessionsBucket, programsBucket, usesBucket}
)

type sessionRecord struct {
	StartedAt time.Time       `json:"startedAt"`
	Version   uint64          `json:"version,omitempty"`
	Data      json.RawMessage `json:"-"`
}

type programRecord struct {
	Command   string          `json:"command"`
	Inputs    json.RawMessage `json:"-"`
	Hash      string          `json:"hash"`
	CreatedAt time.Time       `json:"createdAt"`
}

// The part of a record that may be large is kept beside its JSON, so that using it doesn't mean reading through it.
func (r sessionRecord) large() []byte { return r.Data }
func (r programRecord) large() []byte { return r.Inputs }
func (u useRecord) large() []byte     { return nil }

func (r *sessionRecord) setLarge(text []byte) { r.Data = text }
func (r *programRecord) setLarge(text []byte) { r.Inputs = text }
func (u *useRecord) setLarge([]byte)          {}

type useRecord struct {
	LastUsedAt time.Time `json:"lastUsedAt"`
	Operations uint64    `json:"operations"`
}

// again is the record after one more use. A clock that goes back doesn't take it along.
func (u useRecord) again(now time.Time) useRecord {
	if now.After(u.LastUsedAt) {
		u.LastUsedAt = now
	}
	u.Operations++
	return u
}

// separator can be part of no id.
const separator = "\x00"

func programKey(session, id string) []byte { return []byte(session + separator + id) }

// splitKey undoes programKey; ok is false for a session's key.
func splitKey(key []byte) (session, id string, ok bool) {
	s, i, ok := bytes.Cut(key, []byte(separator))
	return string(s), string(i), ok
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealHeader is what a sealed record begins with: a checksum of key and all the rest, and the length of the JSON that
// follows, both big-endian. The large part comes last.
const sealHeader = 8 // bytes

// seal encodes a record.
func seal(key []byte, record interface{ large() []byte }) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, sealHeader))
	if err := encode(out, record); err != nil {
		return nil, fmt.Errorf("encode the record of %q: %w", shown(string(key)), err)
	}
	length := out.Len() - sealHeader
	out.Write(record.large())
	value := out.Bytes()
	binary.BigEndian.PutUint32(value[4:], uint32(length))
	binary.BigEndian.PutUint32(value, checksum(key, value[4:]))
	return value, nil
}

// encode writes JSON without making it longer than the application did.
func encode(out *bytes.Buffer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the line's end
	return nil
}

func checksum(key, text []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, text)
}

// intact reports what is wrong with a sealed value.
func intact(key, value []byte) error {
	if len(value) < sealHeader || checksum(key, value[4:]) != binary.BigEndian.Uint32(value) {
		return fmt.Errorf("the record of %q is damaged: its checksum differs", shown(string(key)))
	}
	return nil
}

// unseal decodes a record, whose large part stays where it is: in the file's memory, which ends with the transaction.
func unseal(key, value []byte, record interface{ setLarge(text []byte) }) error {
	if err := intact(key, value); err != nil {
		return err
	}
	text := value[sealHeader:]
	length := int64(binary.BigEndian.Uint32(value[4:]))
	if length > int64(len(text)) {
		return fmt.Errorf("the record of %q can't be read: it ends early", shown(string(key)))
	}
	if err := json.Unmarshal(text[:length], record); err != nil {
		return fmt.Errorf("the record of %q can't be read: %w", shown(string(key)), err)
	}
	if int64(len(text)) > length {
		record.setLarge(text[length:len(text):len(text)])
	}
	return nil
}

// load reads the record of a key from a bucket.
func load(b *bolt.Bucket, key []byte, record interface{ setLarge(text []byte) }) (known bool, err error) {
	value := b.Get(key)
	if value == nil {
		return false, nil
	}
	return true, unseal(key, value, record)
}

// save writes the record of a key, and returns how many bytes the bucket grew by.
func save(b *bolt.Bucket, key []byte, record interface{ large() []byte }) (grown int, err error) {
	value, err := seal(key, record)
	if err != nil {
		return 0, err
	}
	return len(value) - len(b.Get(key)), b.Put(key, value)
}
