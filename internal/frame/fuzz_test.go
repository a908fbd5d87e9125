package frame

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"
)

// FuzzReader_P42 reads arbitrary bytes: no panic, only the errors that the package names, no more room than the
// limit allows, and what decodes encodes to the same bytes.
func FuzzReader_P42(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte, limit uint16, memory bool) {
		maxPayload := int(limit) + 1
		r := NewReader(iotest.HalfReader(bytes.NewReader(data)), maxPayload)
		if memory {
			r.UseMemory(func(size int) []byte {
				if size > maxPayload {
					t.Fatalf("%d bytes of memory for a limit of %d", size, maxPayload)
				}
				return make([]byte, size)
			})
		}
		rest := data
		for {
			var got Frame
			err := r.Read(&got)
			if room := max(4096, HeaderSize+MaxMeta+maxPayload); len(r.buf) > room {
				t.Fatalf("a buffer of %d bytes for a limit of %d", len(r.buf), maxPayload)
			}
			if err != nil {
				checkEnd(t, err, rest)
				return
			}
			if got.Flags&FlagMemory != 0 {
				got.Payload = AppendReference(nil, len(got.Payload))
			}
			encoded, err := Append(nil, &got)
			if err != nil {
				t.Fatalf("%+v was read and can't be written: %v", got, err)
			}
			if !bytes.HasPrefix(rest, encoded) {
				t.Fatalf("read %+v from %x, which encodes to %x", got, rest, encoded)
			}
			rest = rest[len(encoded):]
		}
	})
}

func checkEnd(t *testing.T, err error, rest []byte) {
	t.Helper()
	switch {
	case errors.Is(err, io.EOF):
		if len(rest) > 0 {
			t.Fatalf("io.EOF with %d bytes unread", len(rest))
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrMalformed), errors.Is(err, ErrTooLarge):
	default:
		t.Fatalf("an error without a name: %v", err)
	}
}

func addSeeds(f *testing.F) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(data, &v); err != nil {
		f.Fatal(err)
	}
	for _, group := range []string{"valid", "invalid"} {
		var entries []struct{ Hex string }
		if err := json.Unmarshal(v[group], &entries); err != nil || len(entries) == 0 {
			f.Fatalf("%s: %v, %d entries", group, err, len(entries))
		}
		var all []byte
		for _, e := range entries {
			raw, err := hex.DecodeString(e.Hex)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw, uint16(1000), false)
			f.Add(raw, uint16(50000), true)
			all = append(all, raw...)
		}
		f.Add(all, uint16(10), false)
		f.Add(all, uint16(10), true)
	}
}
