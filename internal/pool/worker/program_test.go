package worker

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// TestAProgramReachesAWorkerOnce: the scripted worker holds two programs, or 100 bytes of them. Each call is told by
// the frames that it took.
func TestAProgramReachesAWorkerOnce(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	w := scripted(t, 1024, func(requests *frame.Reader, replies *os.File) {
		var f frame.Frame
		for requests.Read(&f) == nil {
			mu.Lock()
			seen = append(seen, describe(&f))
			mu.Unlock()
			if f.Kind == frame.Request {
				_, _ = replies.Write(encode(result(f, "1")))
			}
		}
	})
	for i, call := range []struct {
		hash string // "": a plain command
		size int
		want []string
	}{
		{"", 0, []string{`request c of ""`}},
		{"h1", 10, []string{"program h1 10", `request c of "h1"`}},
		{"h1", 10, []string{`request c of "h1"`}},
		{"h2", 10, []string{"program h2 10", `request c of "h2"`}},
		{"h1", 10, []string{`request c of "h1"`}},
		{"h3", 10, []string{"forget h2", "program h3 10", `request c of "h3"`}},
		{"", 0, []string{`request c of ""`}},
		{"h4", 95, []string{"forget h1", "forget h3", "program h4 95", `request c of "h4"`}},
		{"h5", 900, []string{"forget h4", "program h5 900", `request c of "h5"`}},
		{"h5", 900, []string{`request c of "h5"`}},
	} {
		c := Call{Command: "c", Payload: []byte("{}"), Deadline: time.Now().Add(time.Minute)}
		if call.hash != "" {
			c.Program = &pool.Program{Hash: call.hash, Body: []byte(strings.Repeat(" ", call.size))}
		}
		if out := w.RoundTrip(t.Context(), c); out.Err != nil || out.Discard != "" {
			t.Fatalf("call %d: %v, discard %q", i, out.Err, out.Discard)
		}
		mu.Lock()
		if diff := cmp.Diff(call.want, seen); diff != "" {
			t.Errorf("call %d took (-want +got)\n%s", i, diff)
		}
		seen = nil
		mu.Unlock()
	}
}

func describe(f *frame.Frame) string {
	switch f.Kind {
	case frame.Program:
		return fmt.Sprintf("program %s %d", f.Meta, len(f.Payload))
	case frame.Forget:
		return fmt.Sprintf("forget %s", f.Meta)
	default:
		call := f.Call()
		return fmt.Sprintf("request %s of %q", call.Command, call.Hash)
	}
}

func TestP33_ProgramTooLargeIsNotSent(t *testing.T) {
	w := scripted(t, 8, answering(func(r frame.Frame) []byte { return encode(result(r, "1")) }))
	out := w.RoundTrip(t.Context(), Call{
		Command: "c", Program: &pool.Program{Hash: "h", Body: make([]byte, 9)}, Deadline: time.Now().Add(time.Minute),
	})
	if out.Err == nil || out.Err.Category != pool.RequestError || out.Err.Type != pool.FrameTooLarge || out.Err.Sent || out.Discard != "" {
		t.Fatalf("got %v, discard %q; want request_error/frame_too_large, worker kept", out.Err, out.Discard)
	}
	if out := w.try(t, time.Minute); out.Err != nil {
		t.Errorf("the next request: %v", out.Err)
	}
}
