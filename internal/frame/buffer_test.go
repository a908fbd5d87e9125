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
