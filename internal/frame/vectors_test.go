package frame_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// vector is one entry of testdata/vectors.json, which the Python decoder reads too.
type vector struct {
	Name       string     `json:"name"`
	Hex        hexBytes   `json:"hex"`
	Kind       frame.Kind `json:"kind"`
	Flags      uint8      `json:"flags"`
	Generation uint32     `json:"generation"`
	ID         uint64     `json:"id"`
	Budget     int64      `json:"budget"` // µs
	Meta       hexBytes   `json:"meta"`
	Payload    hexBytes   `json:"payload"`
	Memory     memory     `json:"memory"`

	MaxPayload int    `json:"maxPayload"`
	Error      string `json:"error"`
}

func (v *vector) frame() frame.Frame {
	return frame.Frame{
		Kind: v.Kind, Flags: v.Flags, Generation: v.Generation, ID: v.ID,
		Budget: time.Duration(v.Budget) * time.Microsecond, Meta: v.Meta, Payload: v.Payload,
	}
}

// memory is a size, of a payload that lies in it; or true, when there is one at all.
type memory int

func (m *memory) UnmarshalJSON(data []byte) error {
	if string(data) == "true" {
		*m = 1
		return nil
	}
	return json.Unmarshal(data, (*int)(m))
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectors struct {
	Valid   []vector `json:"valid"`
	Router  []vector `json:"router"` // valid for Go, which is at both ends, and for no worker
	Invalid []vector `json:"invalid"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Valid) == 0 || len(v.Router) == 0 || len(v.Invalid) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func TestP32_ValidVectors(t *testing.T) {
	for _, v := range slices.Concat(readVectors(t).Valid, readVectors(t).Router) {
		t.Run(v.Name, func(t *testing.T) {
			want := v.frame()
			encoded, err := frame.Append(nil, &want)
			if err != nil || !bytes.Equal(encoded, v.Hex) {
				t.Errorf("Append = %x, %v; want %x", encoded, err, []byte(v.Hex))
			}
			var got frame.Frame
			r := frame.NewReader(bytes.NewReader(v.Hex), 0)
			if v.Flags&frame.FlagMemory != 0 {
				r.UseMemory(func(size int) []byte { return bytes.Repeat([]byte("m"), size) })
				want.Payload = bytes.Repeat([]byte("m"), int(v.Memory))
			}
			if err := r.Read(&got); err != nil {
				t.Fatal(err)
			}
			assertEqual(t, &got, &want)
			if err := r.Read(&got); !errors.Is(err, io.EOF) {
				t.Errorf("after the frame: %v, want io.EOF", err)
			}
		})
	}
}

func TestP33_InvalidVectors(t *testing.T) {
	wants := map[string]error{
		"malformed": frame.ErrMalformed,
		"too large": frame.ErrTooLarge,
		"truncated": io.ErrUnexpectedEOF,
	}
	for _, v := range readVectors(t).Invalid {
		t.Run(v.Name, func(t *testing.T) {
			var got frame.Frame
			r := frame.NewReader(bytes.NewReader(v.Hex), v.MaxPayload)
			if v.Memory != 0 {
				r.UseMemory(func(size int) []byte { t.Errorf("%d bytes are fetched", size); return nil })
			}
			err := r.Read(&got)
			if want := wants[v.Error]; want == nil || !errors.Is(err, want) {
				t.Errorf("Read = %v, want %s", err, v.Error)
			}
		})
	}
}

func assertEqual(t interface{ Errorf(string, ...any) }, got, want *frame.Frame) {
	same := got.Kind == want.Kind && got.Flags == want.Flags && got.Generation == want.Generation &&
		got.ID == want.ID && got.Budget == want.Budget &&
		bytes.Equal(got.Meta, want.Meta) && bytes.Equal(got.Payload, want.Payload)
	if !same {
		t.Errorf("frame is %+v, want %+v", got, want)
	}
}
