package worker

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
)

func pong(request frame.Frame) frame.Frame {
	return frame.Frame{Kind: frame.Pong, Generation: request.Generation, ID: request.ID}
}

// TestP95_Ping has a worker answer a ping in every way, also one that serves several requests.
func TestP95_Ping(t *testing.T) {
	for name, tc := range map[string]struct {
		play   func(requests *frame.Reader, replies *os.File)
		want   Reason
		shared Reason
	}{
		"answered": {answering(func(f frame.Frame) []byte { return encode(pong(f)) }), "", ""},
		"another's answer": {answering(func(f frame.Frame) []byte {
			f.ID++
			return encode(pong(f))
		}), ReasonProtocol, ReasonProtocol},
		"a result": {answering(func(f frame.Frame) []byte { return encode(result(f, "1")) }), ReasonProtocol, ReasonProtocol},
		"two answers": {answering(func(f frame.Frame) []byte {
			return append(encode(pong(f)), encode(pong(f))...)
		}), ReasonProtocol, ""}, // the second one ends a shared worker when it is read
		"no frame": {answering(func(frame.Frame) []byte { return make([]byte, 64) }), ReasonProtocol, ReasonProtocol},
		"silence":  {func(requests *frame.Reader, _ *os.File) { next(requests, 2) }, ReasonHung, ReasonHung},
		"its end":  {func(requests *frame.Reader, _ *os.File) { next(requests, 1) }, ReasonExited, ReasonExited},
	} {
		t.Run(name, func(t *testing.T) {
			soon := func() time.Time { return time.Now().Add(200 * time.Millisecond) }
			if got := scripted(t, 0, tc.play).Ping(t.Context(), soon()); got != tc.want {
				t.Errorf("a worker: %q, want %q", got, tc.want)
			}
			if got := sharedScript(t, tc.play).Ping(t.Context(), soon()); got != tc.shared {
				t.Errorf("a shared worker: %q, want %q", got, tc.shared)
			}
		})
	}
}

// A ping is no request: it isn't counted, and the worker serves before and after.
func TestP96_PingBetweenRequests(t *testing.T) {
	play := answering(func(f frame.Frame) []byte {
		if f.Kind == frame.Ping {
			return encode(pong(f))
		}
		return encode(result(f, string(f.Payload)))
	})
	plain, shared := scripted(t, 0, play), sharedScript(t, play)
	for name, w := range map[string]interface {
		Ping(ctx context.Context, deadline time.Time) Reason
		RoundTrip(ctx context.Context, c Call) Outcome
		Served() uint64
	}{"plain": plain, "shared": shared} {
		for range 3 {
			deadline := time.Now().Add(20 * time.Second)
			if out := w.RoundTrip(t.Context(), Call{Command: "c", Payload: []byte("7"), Deadline: deadline}); out.Err != nil || string(out.Payload) != "7" {
				t.Fatalf("%s: a request got %q, %v", name, out.Payload, out.Err)
			}
			if got := w.Ping(t.Context(), deadline); got != "" {
				t.Fatalf("%s: ping: %q", name, got)
			}
		}
		if n := w.Served(); n != 3 {
			t.Errorf("%s: %d served, want 3", name, n)
		}
	}
}

// The end of a shared worker doesn't wait for a ping that isn't answered.
func TestP95_HungSharedWorkerIsKilled(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, _ *os.File) { next(requests, 2) })
	if got := s.Ping(t.Context(), time.Now().Add(50*time.Millisecond)); got != ReasonHung {
		t.Fatalf("ping: %q", got)
	}
	s.Discard(ReasonHung)
	if r := s.ending.Load(); r == nil || *r != ReasonHung || !s.proc.killed {
		t.Errorf("it isn't killed: ending %v, killed %v", r, s.proc.killed)
	}
}
