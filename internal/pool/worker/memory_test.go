package worker

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

const testLimit = 64 << 10 // of payloads

// remembering is a scripted worker with memory, of which the function is the other end, too: payloads from one byte on
// go by it.
func remembering(t *testing.T, play func(m *memory, request frame.Frame) frame.Frame) *Worker {
	t.Helper()
	m, theirs, err := newMemory(testLimit, 1)
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	t.Cleanup(m.close)
	w := scripted(t, testLimit, func(requests *frame.Reader, replies *os.File) {
		requests.UseMemory(func(size int) []byte { return bytes.Clone(m.data[:size]) })
		answering(func(f frame.Frame) []byte { return encode(play(m, f)) })(requests, replies)
	})
	w.memory = m
	w.useMemory(true)
	return w
}

// inMemory is a result that says that it has so many bytes in memory.
func inMemory(request frame.Frame, size uint32) frame.Frame {
	f := result(request, "")
	f.Flags, f.Payload = frame.FlagMemory, binary.BigEndian.AppendUint32(nil, size)
	return f
}

func TestP113_HostileReferences(t *testing.T) {
	for name, tc := range map[string]struct {
		play func(*memory, frame.Frame) frame.Frame
		want pool.Type // "": it is served
	}{
		"the limit":   {func(_ *memory, r frame.Frame) frame.Frame { return inMemory(r, testLimit) }, ""},
		"one over":    {func(_ *memory, r frame.Frame) frame.Frame { return inMemory(r, testLimit+1) }, pool.FrameTooLarge},
		"far behind":  {func(_ *memory, r frame.Frame) frame.Frame { return inMemory(r, 4*testLimit) }, pool.FrameTooLarge},
		"the largest": {func(_ *memory, r frame.Frame) frame.Frame { return inMemory(r, 1<<32-1) }, pool.FrameTooLarge},
		"three bytes": {func(_ *memory, r frame.Frame) frame.Frame {
			f := inMemory(r, 0)
			f.Payload = f.Payload[1:]
			return f
		}, pool.DecodeError},
		"no reference": {func(_ *memory, r frame.Frame) frame.Frame {
			f := inMemory(r, 0)
			f.Payload = nil
			return f
		}, pool.DecodeError},
		"an error": {func(_ *memory, r frame.Frame) frame.Frame {
			f := inMemory(r, 2)
			f.Kind = frame.Error
			return f
		}, pool.DecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			out := remembering(t, tc.play).try(t, time.Minute)
			if tc.want == "" {
				if out.Err != nil || len(out.Payload) != testLimit || out.Discard != "" {
					t.Errorf("%d bytes, %v, discard %q; want %d", len(out.Payload), out.Err, out.Discard, testLimit)
				}
				return
			}
			if out.Err == nil || out.Err.Type != tc.want || out.Discard != ReasonProtocol {
				t.Errorf("got %v, discard %q; want communication_error/%s, protocol", out.Err, out.Discard, tc.want)
			}
		})
	}
}

func TestP113_AReferenceWithoutMemoryIsNoFrame(t *testing.T) {
	w := scripted(t, 0, answering(func(r frame.Frame) []byte { return encode(inMemory(r, 0)) }))
	if out := w.try(t, time.Minute); out.Err == nil || out.Err.Type != pool.DecodeError || out.Discard != ReasonProtocol {
		t.Errorf("got %v, discard %q; want decode_error, protocol", out.Err, out.Discard)
	}
}

func TestP113_OnlyLargePayloadsLieInMemory(t *testing.T) {
	const from = 1000
	m, theirs, err := newMemory(testLimit, from)
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	defer m.close()
	m.active = true
	for size, want := range map[int]bool{0: false, from - 1: false, from: true, testLimit: true} {
		f := frame.Frame{Payload: make([]byte, size)}
		m.put(&f)
		if got := f.Flags&frame.FlagMemory != 0; got != want || !want && len(f.Payload) != size {
			t.Errorf("of %d bytes %d are in the frame, in memory: %v; want %v", size, len(f.Payload), got, want)
		}
	}
}

// What a worker writes after its reply changes nothing that a caller has.
func TestP113_AReplyIsCopiedOut(t *testing.T) {
	var area []byte
	w := remembering(t, func(m *memory, r frame.Frame) frame.Frame {
		area = m.data
		return inMemory(r, uint32(copy(area, r.Payload)))
	})
	call := Call{Command: "c", Payload: []byte("the caller's"), Deadline: time.Now().Add(time.Minute)}
	out := w.RoundTrip(t.Context(), call)
	copy(area, "another's...")
	if out.Err != nil || string(out.Payload) != "the caller's" {
		t.Errorf("got %q, %v", out.Payload, out.Err)
	}
}

// blocks is how many bytes of a file take memory.
func blocks(t *testing.T, fd int) int64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Blocks * 512
}

func TestP113_PagesAreGivenBack(t *testing.T) {
	const limit = 1 << 20
	m, theirs, err := newMemory(limit, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer m.close()
	m.active = true
	fd := int(theirs.Fd())
	if n := blocks(t, fd); n != 0 {
		t.Fatalf("%d bytes are taken before any payload", n)
	}
	trip := func(size int) {
		if err := m.begin(); err != nil {
			t.Fatal(err)
		}
		defer m.end()
		m.put(&frame.Frame{Payload: bytes.Repeat([]byte("x"), size)})
		if got := m.fetch(size); len(got) != size || got[size-1] != 'x' {
			t.Fatalf("%d bytes came back", len(got))
		}
	}
	trip(limit)
	if n := blocks(t, fd); n != limit {
		t.Errorf("%d bytes are taken by a payload of %d", n, limit)
	}
	const small = 3000
	kept := int64(os.Getpagesize())
	await(t, "all but what is used given back", func() bool { trip(small); return blocks(t, fd) == kept })
	await(t, "all given back", func() bool { return blocks(t, fd) == 0 })
	trip(small)
	await(t, "all given back again", func() bool { return blocks(t, fd) == 0 })
}

// While an operation is under way no page is given back under it, and nothing is unmapped.
func TestP113_AnOperationKeepsItsPages(t *testing.T) {
	m, theirs, err := newMemory(testLimit, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	m.active = true
	if err := m.begin(); err != nil {
		t.Fatal(err)
	}
	m.put(&frame.Frame{Payload: []byte("still read")})
	m.used = 0
	var ended []chan struct{}
	for _, end := range []func(){m.giveBack, m.close} {
		done := make(chan struct{})
		ended = append(ended, done)
		go func() { end(); close(done) }()
	}
	time.Sleep(50 * time.Millisecond) // for what must not happen
	if got := string(m.data[:10]); got != "still read" {
		t.Errorf("the payload is %q", got)
	}
	m.end()
	for _, done := range ended {
		<-done
	}
	if err := m.begin(); err == nil {
		t.Error("an operation begins after the end")
	}
}

func TestP113_SealedForBothSides(t *testing.T) {
	m, theirs, err := newMemory(testLimit, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	defer theirs.Close()
	for _, size := range []int64{0, 1, 8 * testLimit} {
		if err := theirs.Truncate(size); !os.IsPermission(err) {
			t.Errorf("resizing to %d: %v; want EPERM", size, err)
		}
	}
	if _, err := unix.FcntlInt(theirs.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err == nil {
		t.Error("a worker can add seals")
	}
	m.data[testLimit-1] = 1 // and the last byte is there
}
