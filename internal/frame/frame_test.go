package frame_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/dspex/workerpool-operator/internal/frame"
)

// anyFrame draws frames of every shape, with payloads around the sizes where the reader's buffer changes.
func anyFrame() *rapid.Generator[frame.Frame] {
	return rapid.Custom(func(t *rapid.T) frame.Frame {
		size := rapid.OneOf(rapid.IntRange(0, 64), rapid.IntRange(4000, 4200), rapid.IntRange(0, 300<<10)).Draw(t, "size")
		fill := rapid.Byte().Draw(t, "fill")
		return frame.Frame{
			Kind:       frame.Kind(rapid.Byte().Draw(t, "kind")),
			Flags:      rapid.SampledFrom([]uint8{0, frame.FlagSent}).Draw(t, "flags"),
			Generation: rapid.Uint32().Draw(t, "generation"),
			ID:         rapid.Uint64().Draw(t, "id"),
			Budget:     time.Duration(rapid.Int64Range(0, 1<<53).Draw(t, "budget")) * time.Microsecond,
			Meta:       rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "meta"),
			Payload:    bytes.Repeat([]byte{fill}, size),
		}
	})
}

// chunked hands out a stream in pieces of the given sizes, over and over.
type chunked struct {
	data  []byte
	sizes []int
	turn  int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.sizes[c.turn%len(c.sizes)])], c.data)
	c.turn++
	c.data = c.data[n:]
	return n, nil
}

func TestP32_P43_FramesSurviveAnyChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frames := rapid.SliceOfN(anyFrame(), 1, 8).Draw(t, "frames")
		var stream []byte
		for i := range frames {
			var err error
			if stream, err = frame.Append(stream, &frames[i]); err != nil {
				t.Fatal(err)
			}
		}
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1, 70<<10)), 1, 6).Draw(t, "chunks")
		r := frame.NewReader(&chunked{data: stream, sizes: sizes}, 0)
		var got frame.Frame
		for i := range frames {
			if err := r.Read(&got); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			assertEqual(t, &got, &frames[i])
		}
		if err := r.Read(&got); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v, want io.EOF", err)
		}
	})
}

func TestP32_OneByteAtATime(t *testing.T) {
	want := frame.Frame{Kind: frame.Request, ID: 9, Meta: []byte("echo"), Payload: []byte(`{"a":1}`)}
	stream, err := frame.Append(nil, &want)
	if err != nil {
		t.Fatal(err)
	}
	var got frame.Frame
	if err := frame.NewReader(iotest.OneByteReader(bytes.NewReader(stream)), 0).Read(&got); err != nil {
		t.Fatal(err)
	}
	assertEqual(t, &got, &want)
}

func TestP33_NoAllocationForAPayloadOverTheLimit(t *testing.T) {
	header, err := frame.Append(nil, &frame.Frame{Kind: frame.Result})
	if err != nil {
		t.Fatal(err)
	}
	copy(header, []byte{0xff, 0xff, 0xff, 0xff}) // a length of 4 GiB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var f frame.Frame
	err = frame.NewReader(bytes.NewReader(header), 0).Read(&f)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, frame.ErrTooLarge) {
		t.Errorf("Read = %v, want ErrTooLarge", err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10 {
		t.Errorf("refusing a frame allocated %d bytes", grown)
	}
}

func TestP33_AppendRefusesWhatTheFormatCannotSay(t *testing.T) {
	var w bytes.Buffer
	err := frame.NewWriter(&w).Write(&frame.Frame{Kind: frame.Request, Meta: make([]byte, frame.MaxMeta+1)})
	if !errors.Is(err, frame.ErrTooLarge) || w.Len() != 0 {
		t.Errorf("Write = %v with %d bytes written, want ErrTooLarge and none", err, w.Len())
	}
	err = frame.NewWriter(&w).Write(&frame.Frame{Kind: frame.Request, Meta: make([]byte, frame.MaxMeta)})
	if err != nil {
		t.Errorf("the longest meta: %v", err)
	}
}

// A read that times out inside a frame leaves the reader able to go on: nothing that was read is lost.
func TestP32_ATimeoutInsideAFrameLosesNothing(t *testing.T) {
	want := frame.Frame{Kind: frame.Result, ID: 3, Payload: []byte("payload")}
	stream, err := frame.Append(nil, &want)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(stream) {
		r := frame.NewReader(io.MultiReader(
			bytes.NewReader(stream[:cut]), &failOnce{err: os.ErrDeadlineExceeded}, bytes.NewReader(stream[cut:])), 0)
		var got frame.Frame
		if err := r.Read(&got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: %v, want the time-out", cut, err)
		}
		if err := r.Read(&got); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		assertEqual(t, &got, &want)
	}
}

type failOnce struct {
	err    error
	failed bool
}

func (f *failOnce) Read([]byte) (int, error) {
	if f.failed {
		return 0, io.EOF
	}
	f.failed = true
	return 0, f.err
}

func TestP37_BufferedCountsWhatFollowsAFrame(t *testing.T) {
	reply := &frame.Frame{Kind: frame.Result, ID: 1, Payload: []byte("{}")}
	stream, err := frame.Append(nil, reply)
	if err != nil {
		t.Fatal(err)
	}
	clean := len(stream)
	for name, c := range map[string]struct {
		extra []byte
		want  int
	}{
		"nothing":        {nil, 0},
		"one byte":       {[]byte("x"), 1},
		"a second reply": {stream[:clean:clean], clean},
	} {
		t.Run(name, func(t *testing.T) {
			r := frame.NewReader(bytes.NewReader(append(stream[:clean:clean], c.extra...)), 0)
			var f frame.Frame
			if err := r.Read(&f); err != nil {
				t.Fatal(err)
			}
			if got := r.Buffered(); got != c.want {
				t.Errorf("Buffered = %d, want %d", got, c.want)
			}
		})
	}
}

// countingReader counts the reads of the stream: each is a system call on a pipe.
type countingReader struct {
	r     io.Reader
	reads int
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.reads++
	return c.r.Read(p)
}

func TestReader_OneReadForEachSmallReply(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	stream, err := frame.Append(nil, &frame.Frame{Kind: frame.Result, ID: 1, Payload: make([]byte, 200)})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 100 {
			if _, err := pw.Write(stream); err != nil {
				return
			}
		}
	}()
	counting := &countingReader{r: pr}
	r := frame.NewReader(counting, 0)
	var f frame.Frame
	for range 100 {
		if err := r.Read(&f); err != nil {
			t.Fatal(err)
		}
	}
	if counting.reads != 100 {
		t.Errorf("%d reads for 100 replies", counting.reads)
	}
}
