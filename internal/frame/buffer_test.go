package frame

import (
	"bytes"
	"testing"
)

func TestReaderAndWriter_KeepNoLargeBuffer(t *testing.T) {
	var stream bytes.Buffer
	w, r := NewWriter(&stream), NewReader(&stream, 0)
	for _, size := range []int{8 << 20, 10, 10} {
		if err := w.Write(&Frame{Kind: Result, Payload: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(new(Frame)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) > keepBuffer || cap(w.buf) > keepBuffer {
		t.Errorf("after a large frame and two small ones the reader holds %d bytes, the writer %d", len(r.buf), cap(w.buf))
	}
}

func TestReader_PinsNoLargeFrame(t *testing.T) {
	for name, tc := range map[string]struct {
		size   int
		copied bool
	}{
		"small": {100, true},
		"large": {8 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			var stream bytes.Buffer
			w, r := NewWriter(&stream), NewReader(&stream, 0)
			payload := bytes.Repeat([]byte{7}, tc.size)
			for _, p := range [][]byte{payload, []byte("next")} {
				if err := w.Write(&Frame{Kind: Result, Meta: []byte("m"), Payload: p}); err != nil {
					t.Fatal(err)
				}
			}
			var f, next Frame
			if err := r.Read(&f); err != nil {
				t.Fatal(err)
			}
			if len(r.buf) > keepBuffer {
				t.Errorf("the reader pins %d bytes after the frame", len(r.buf))
			}
			before := &f.Payload[0]
			r.Own(&f)
			if copied := &f.Payload[0] != before; copied != tc.copied {
				t.Errorf("copied %v, want %v", copied, tc.copied)
			}
			if err := r.Read(&next); err != nil || string(next.Payload) != "next" {
				t.Fatalf("next frame %q, %v", next.Payload, err)
			}
			if !bytes.Equal(f.Payload, payload) || string(f.Meta) != "m" {
				t.Error("the next Read has changed an owned frame")
			}
		})
	}
}
