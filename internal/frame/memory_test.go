package frame_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// Only what carries a payload for somebody may lie in memory.
func TestP113_OnlyRequestsAndResultsLieInMemory(t *testing.T) {
	for kind := range frame.Kind(20) {
		stream, err := frame.Append(nil, &frame.Frame{Kind: kind, Flags: frame.FlagMemory, Payload: frame.AppendReference(nil, 3)})
		if err != nil {
			t.Fatal(err)
		}
		r := frame.NewReader(bytes.NewReader(stream), 0)
		r.UseMemory(func(size int) []byte { return make([]byte, size) })
		var f frame.Frame
		err = r.Read(&f)
		if taken := kind == frame.Request || kind == frame.Result; taken != (err == nil) || !taken && !errors.Is(err, frame.ErrMalformed) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

// A payload from memory is the frame's own: neither Own nor the next Read touches it. Its meta is, too.
func TestP113_APayloadFromMemoryIsKept(t *testing.T) {
	var stream []byte
	for _, f := range []frame.Frame{
		{Kind: frame.Result, Flags: frame.FlagMemory, Meta: []byte("meta"), Payload: frame.AppendReference(nil, 2)},
		{Kind: frame.Result, Meta: []byte("next"), Payload: []byte("next payload")},
	} {
		var err error
		if stream, err = frame.Append(stream, &f); err != nil {
			t.Fatal(err)
		}
	}
	r := frame.NewReader(bytes.NewReader(stream), 0)
	fetched := []byte("ab")
	r.UseMemory(func(int) []byte { return fetched })
	var first, second frame.Frame
	if err := r.Read(&first); err != nil {
		t.Fatal(err)
	}
	r.Own(&first)
	if err := r.Read(&second); err != nil {
		t.Fatal(err)
	}
	if string(first.Meta) != "meta" || &first.Payload[0] != &fetched[0] || string(second.Payload) != "next payload" {
		t.Errorf("read %q, %q (fetched once: %v), then %q", first.Meta, first.Payload, &first.Payload[0] == &fetched[0], second.Payload)
	}
}
