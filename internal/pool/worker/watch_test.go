package worker

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// soon is far less than any deadline here that must not be waited for, and far more than what it takes.
const soon = 5 * time.Second

// hold answers a request when the duration in its payload is over.
func hold(r frame.Frame) []byte {
	d, err := time.ParseDuration(string(r.Payload))
	if err != nil {
		panic(err)
	}
	time.Sleep(d)
	return encode(result(r, string(r.Payload)))
}

// silent reads requests and answers none.
func silent(requests *frame.Reader, _ *os.File) {
	var f frame.Frame
	for requests.Read(&f) == nil {
	}
}

func TestAContextEndsARoundTripWheneverItEnds(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"before it is watched": attention / 10, "about then": attention, "when it is watched": 3 * attention,
	} {
		t.Run(name, func(t *testing.T) {
			w := scripted(t, 0, silent)
			ctx, cancel := context.WithCancel(t.Context())
			defer time.AfterFunc(after, cancel).Stop()
			start := time.Now()
			out := w.RoundTrip(ctx, Call{Command: "c", Deadline: start.Add(time.Minute)})
			if out.Err == nil || out.Err.Type != pool.Cancelled || !out.Err.Sent || out.Discard != ReasonCancelled {
				t.Errorf("got %v, discard %q", out.Err, out.Discard)
			}
			if took := time.Since(start); took < after || took > soon {
				t.Errorf("it took %s, cancelled after %s", took, after)
			}
		})
	}
}

func TestADeadlineEndsARoundTripWhateverTheContext(t *testing.T) {
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"never cancelled": context.Background(), "cancellable": cancellable} {
		for _, d := range []time.Duration{attention / 5, 5 * attention} {
			t.Run(name+" "+d.String(), func(t *testing.T) {
				w := scripted(t, 0, silent)
				start := time.Now()
				out := w.RoundTrip(ctx, Call{Command: "c", Deadline: start.Add(d)})
				if out.Err == nil || out.Err.Type != pool.CommandTimeout || out.Discard != ReasonTimeout {
					t.Errorf("got %v, discard %q", out.Err, out.Discard)
				}
				if took := time.Since(start); took < d || took > soon {
					t.Errorf("it took %s, with %s to go", took, d)
				}
			})
		}
	}
}

// TestATimerThatIsFarAwayIsMoved: the timer of an operation with much time is still set when one with little comes.
func TestATimerThatIsFarAwayIsMoved(t *testing.T) {
	w := scripted(t, 0, func(requests *frame.Reader, replies *os.File) {
		var f frame.Frame
		if requests.Read(&f) == nil {
			_, _ = replies.Write(encode(result(f, "1")))
		}
		silent(requests, replies)
	})
	call := func(d time.Duration) Outcome {
		return w.RoundTrip(context.Background(), Call{Command: "c", Deadline: time.Now().Add(d)})
	}
	if out := call(time.Hour); out.Err != nil {
		t.Fatal(out.Err)
	}
	start := time.Now()
	out := call(50 * time.Millisecond)
	if took := time.Since(start); out.Err == nil || out.Err.Type != pool.CommandTimeout || took > soon {
		t.Errorf("%v after %s; want a time-out after 50ms", out.Err, took)
	}
}

// TestAWorkerIsAsGoodAsNewAfterAReplyThatCameInTime lets cancels race replies: whatever an operation that got its reply
// leaves behind, the next one has its own context and deadline alone.
func TestAWorkerIsAsGoodAsNewAfterAReplyThatCameInTime(t *testing.T) {
	w, cancelled := scripted(t, 0, answering(hold)), 0
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		d := rand.N(2 * attention)
		timer := time.AfterFunc(d, cancel)
		out := w.RoundTrip(ctx, Call{Command: "c", Payload: []byte(d.String()), Deadline: time.Now().Add(time.Minute)})
		timer.Stop()
		go cancel()
		if out.Discard != "" {
			if out.Err.Type != pool.Cancelled {
				t.Fatal(out.Err)
			}
			closeAll(w.requests)
			w, cancelled = scripted(t, 0, answering(hold)), cancelled+1
			continue
		}
		if next := w.RoundTrip(t.Context(), Call{Command: "c", Payload: []byte("0s"), Deadline: time.Now().Add(time.Minute)}); next.Err != nil {
			t.Fatalf("the next operation: %v", next.Err)
		}
	}
	if cancelled == 0 || cancelled == 100 {
		t.Errorf("%d of 100 were cancelled: the race has shown nothing", cancelled)
	}
}

// TestP37_ARestedWorkerThatWroteIsSentNothing: what is in its pipe is seen before a request is in the other.
func TestP37_ARestedWorkerThatWroteIsSentNothing(t *testing.T) {
	stray := encode(frame.Frame{Kind: frame.Result, Generation: 1, ID: 2, Payload: []byte(`"stray"`)}) // as the next reply
	written, asked := make(chan struct{}), 0
	w := scripted(t, 0, func(requests *frame.Reader, replies *os.File) {
		var f frame.Frame
		for ; requests.Read(&f) == nil; asked++ {
			_, _ = replies.Write(encode(result(f, "1")))
			time.Sleep(2 * rest)
			_, _ = replies.Write(stray)
			close(written)
		}
	})
	if out := w.try(t, time.Minute); out.Err != nil || out.Discard != "" {
		t.Fatalf("%v, discard %q", out.Err, out.Discard)
	}
	<-written
	time.Sleep(2 * rest) // since the reply was read, however late that was
	out := w.try(t, time.Minute)
	if out.Err == nil || out.Err.Type != pool.ResponseMismatch || out.Err.Sent || out.Discard != ReasonProtocol || !out.Retriable() {
		t.Fatalf("got %s, %v, discard %q; want a mismatch that another worker may make good", out.Payload, out.Err, out.Discard)
	}
	if !strings.Contains(out.Err.Message, "while it had nothing to do") {
		t.Error(out.Err.Message)
	}
	closeAll(w.requests)
	<-w.gone
	if asked != 1 {
		t.Errorf("it was sent %d requests, want 1", asked)
	}
}

// TestP34_AStrayReplyIsNobodysReply: one that comes too soon to be looked for shows by its id.
func TestP34_AStrayReplyIsNobodysReply(t *testing.T) {
	written := make(chan struct{})
	w := scripted(t, 0, func(requests *frame.Reader, replies *os.File) {
		_, _ = replies.Write(encode(frame.Frame{Kind: frame.Result, Generation: 1, ID: 7, Payload: []byte(`"stray"`)}))
		close(written)
		answering(func(r frame.Frame) []byte { return encode(result(r, "1")) })(requests, replies)
	})
	<-written
	w.answered = time.Now().Add(time.Hour) // it has had no rest
	if out := w.try(t, time.Minute); out.Err == nil || out.Err.Type != pool.ResponseMismatch || out.Discard != ReasonProtocol {
		t.Errorf("got %s, %v, discard %q; want a mismatch", out.Payload, out.Err, out.Discard)
	}
}

// TestAWorkerThatClosedItsPipeIsSentNothing: its end is seen before a request is sent, which another may serve.
func TestAWorkerThatClosedItsPipeIsSentNothing(t *testing.T) {
	closed, leave := make(chan struct{}), make(chan struct{})
	w := scripted(t, 0, func(_ *frame.Reader, replies *os.File) {
		_ = replies.Close()
		close(closed)
		<-leave
	})
	<-closed
	time.AfterFunc(20*time.Millisecond, func() { close(leave) })
	if out := w.try(t, time.Minute); out.Err == nil || out.Err.Type != pool.PortExited || !out.Retriable() {
		t.Errorf("got %v, retriable %v; want port_exited that another worker may make good", out.Err, out.Retriable())
	}
}

// TestAContextThatEndsTooLateHasNoEffect: the call that tells of its end may already be on its way when the operation is
// done, and arrive when the next one is under way.
func TestAContextThatEndsTooLateHasNoEffect(t *testing.T) {
	cut := 0
	w := watch{setDeadlines: func(time.Time) error { cut++; return nil }}
	defer w.close()
	begin := func() uint64 {
		now := time.Now()
		if err := w.begin(t.Context(), now.Add(time.Hour), now); err != nil {
			t.Fatal(err)
		}
		return w.operation
	}
	first := begin()
	w.done()
	w.cancelled(first)
	second := begin()
	w.cancelled(first)
	if cut != 0 {
		t.Errorf("the pipes were cut %d times for an operation that was over", cut)
	}
	if w.cancelled(second); cut != 1 {
		t.Errorf("cut %d times for the one under way, want 1", cut)
	}
}
