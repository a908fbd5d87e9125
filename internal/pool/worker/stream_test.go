package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// tripper is a Worker or a Shared one.
type tripper interface {
	RoundTrip(ctx context.Context, c Call) Outcome
}

// streamers tells a test of streams with either kind of worker.
func streamers(t *testing.T, tell func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, shared bool)) {
	t.Run("alone", func(t *testing.T) {
		tell(t, func(play func(*frame.Reader, *os.File)) tripper { return scripted(t, 1024, play) }, false)
	})
	t.Run("shared", func(t *testing.T) {
		tell(t, func(play func(*frame.Reader, *os.File)) tripper { return sharedScript(t, play) }, true)
	})
}

func chunkOf(request frame.Frame, payload string) frame.Frame {
	f := result(request, payload)
	f.Kind = frame.Chunk
	return f
}

// collect is a Call whose chunks go to a slice.
func collect(within time.Duration) (Call, *[]string) {
	got := &[]string{}
	return Call{Command: "c", Payload: []byte("{}"), Deadline: time.Now().Add(within), Stream: func(_ context.Context, chunk []byte) error {
		*got = append(*got, string(chunk))
		return nil
	}}, got
}

// TestP109_CreditFollowsTheReader has a worker that sends whatever it has credit for: all chunks come, in order, and it
// never has more credit than the reader has taken.
func TestP109_CreditFollowsTheReader(t *testing.T) {
	streamers(t, func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, _ bool) {
		const n = 500
		w := script(func(requests *frame.Reader, replies *os.File) {
			request := next(requests, 1)[0]
			if request.Flags != frame.FlagStream || string(request.Meta) != "c\x00" {
				t.Errorf("the request has flags %#x and meta %q", request.Flags, request.Meta)
			}
			credit := frame.StreamWindow
			for i := range n {
				for credit <= 0 {
					f := next(requests, 1)
					more, err := f[0].Credit()
					if f[0].Kind != frame.Credit || f[0].ID != request.ID || err != nil || more == 0 {
						t.Errorf("got %+v, %v; want a Credit", f[0], err)
						return
					}
					credit += more
				}
				credit--
				_, _ = replies.Write(encode(chunkOf(request, fmt.Sprint(i))))
			}
			_, _ = replies.Write(encode(result(request, "500")))
			next(requests, 100)
		})
		call, got := collect(time.Minute)
		out := w.RoundTrip(t.Context(), call)
		if out.Err != nil || string(out.Payload) != "500" || out.Discard != "" || out.Held != nil {
			t.Fatalf("ended with %q, %v, discard %q", out.Payload, out.Err, out.Discard)
		}
		for i, chunk := range *got {
			if chunk != fmt.Sprint(i) {
				t.Fatalf("chunk %d is %s", i, chunk)
			}
		}
		if len(*got) != n {
			t.Errorf("%d chunks, want %d", len(*got), n)
		}
	})
}

// TestP109_NoCreditBeforeTheReaderHasTaken has a reader that stops at its first chunk: the worker gets no Credit until it
// goes on.
func TestP109_NoCreditBeforeTheReaderHasTaken(t *testing.T) {
	streamers(t, func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, _ bool) {
		goOn, credited := make(chan struct{}), make(chan struct{})
		w := script(func(requests *frame.Reader, replies *os.File) {
			request := next(requests, 1)[0]
			for range frame.StreamWindow {
				_, _ = replies.Write(encode(chunkOf(request, "1")))
			}
			next(requests, 1)
			close(credited)
			_, _ = replies.Write(encode(result(request, "16")))
			next(requests, 100)
		})
		call, _ := collect(time.Minute)
		call.Idle = 10 * time.Millisecond // which is for the worker, and it is the reader who is slow
		taken := 0
		call.Stream = func(context.Context, []byte) error {
			if taken++; taken == 1 {
				<-goOn
			}
			return nil
		}
		ended := make(chan Outcome, 1)
		go func() { ended <- w.RoundTrip(t.Context(), call) }()
		select {
		case <-credited:
			t.Error("the worker got credit for what nobody has taken")
		case out := <-ended:
			t.Errorf("ended with %v while its reader was slow", out.Err)
		case <-time.After(100 * time.Millisecond):
		}
		close(goOn)
		if out := <-ended; out.Err != nil || taken != 16 {
			t.Errorf("ended with %v after %d chunks", out.Err, taken)
		}
	})
}

func TestP109_BadStreamsEndTheWorker(t *testing.T) {
	many := func(r frame.Frame, n int) (all []byte) {
		for range n {
			all = append(all, encode(chunkOf(r, "1"))...)
		}
		return all
	}
	for name, tc := range map[string]struct {
		answer func(frame.Frame) []byte
		plain  bool // the call wants no stream
		want   pool.Type
	}{
		"a chunk of another":      {answer: func(r frame.Frame) []byte { r.ID += 7; return many(r, 1) }, want: pool.ResponseMismatch},
		"of another generation":   {answer: func(r frame.Frame) []byte { r.Generation++; return many(r, 1) }, want: pool.ResponseMismatch},
		"another kind":            {answer: func(r frame.Frame) []byte { f := result(r, "1"); f.Kind = frame.Pong; return encode(f) }, want: pool.DecodeError},
		"nobody wanted a stream":  {answer: func(r frame.Frame) []byte { return many(r, 1) }, plain: true, want: pool.DecodeError},
		"a chunk too large":       {answer: func(r frame.Frame) []byte { return encode(chunkOf(r, strings.Repeat("x", 1025))) }, want: pool.FrameTooLarge},
		"its end after one chunk": {answer: func(r frame.Frame) []byte { return many(r, 1) }, want: pool.PortExited},
	} {
		t.Run(name, func(t *testing.T) {
			streamers(t, func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, _ bool) {
				w := script(func(requests *frame.Reader, replies *os.File) {
					_, _ = replies.Write(tc.answer(next(requests, 1)[0]))
					if tc.want != pool.PortExited {
						next(requests, 1)
					}
				})
				call, _ := collect(time.Minute)
				if tc.plain {
					call.Stream = nil
				}
				out := w.RoundTrip(t.Context(), call)
				if out.Err == nil || out.Err.Type != tc.want || !out.Err.Sent || out.Discard == "" || out.Retriable() {
					t.Errorf("got %+v, %v; want %s, sent, and the worker discarded", out, out.Err, tc.want)
				}
			})
		})
	}
}

// TestP109_BeyondItsCredit: a caller that is slow lets a worker that heeds no credit fill nothing but its window.
func TestP109_BeyondItsCredit(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
		request := next(requests, 1)[0]
		for range frame.StreamWindow + 1 {
			_, _ = replies.Write(encode(chunkOf(request, "1")))
		}
		next(requests, 1)
	})
	call, _ := collect(time.Minute)
	call.Stream = func(context.Context, []byte) error {
		<-s.written // nothing is written to it any more: it has been ended
		return nil
	}
	out := s.RoundTrip(t.Context(), call)
	if out.Err == nil || out.Err.Type != pool.ResponseMismatch || !strings.Contains(out.Err.Message, "credit") || !out.Err.Sent {
		t.Errorf("got %+v, %v; want a response_mismatch for its credit", out, out.Err)
	}
	if out.Discard != ReasonProtocol || out.Retriable() {
		t.Errorf("discard %q, retriable %v", out.Discard, out.Retriable())
	}
}

func TestP109_WhatEndsAStreamEarly(t *testing.T) {
	left := errors.New("the reader has left")
	for name, tc := range map[string]struct {
		within, idle time.Duration
		read         func(ctx context.Context, cancel func()) error // the second chunk
		want         pool.Type
		says         string
		discard      Reason // of a worker that serves nothing else
	}{
		"the worker is silent":      {time.Minute, 30 * time.Millisecond, nil, pool.CommandTimeout, "sent nothing of command c for 30ms although", ReasonTimeout},
		"its time is over":          {50 * time.Millisecond, 0, nil, pool.CommandTimeout, "hadn't finished after 50ms", ReasonTimeout},
		"its time ends before idle": {50 * time.Millisecond, time.Minute, nil, pool.CommandTimeout, "hadn't finished after 50ms", ReasonTimeout},
		"the reader is too slow": {50 * time.Millisecond, time.Millisecond * 40, func(ctx context.Context, _ func()) error {
			<-ctx.Done()
			return ctx.Err()
		}, pool.CommandTimeout, "hadn't finished after 50ms", ReasonTimeout},
		"the reader has an error": {time.Minute, 0, func(context.Context, func()) error { return left }, pool.Cancelled, "gave up", ReasonCancelled},
		"the caller leaves":       {time.Minute, 0, func(_ context.Context, cancel func()) error { cancel(); return nil }, pool.Cancelled, "gave up", ReasonCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			streamers(t, func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, shared bool) {
				w := script(func(requests *frame.Reader, replies *os.File) {
					request := next(requests, 1)[0]
					_, _ = replies.Write(append(encode(chunkOf(request, "1")), encode(chunkOf(request, "2"))...))
					if f := next(requests, 1); shared && (f[0].Kind != frame.Cancel || f[0].ID != request.ID) {
						t.Errorf("the worker was sent %+v; want a Cancel", f[0])
					}
					_, _ = replies.Write(append(encode(chunkOf(request, "late")), encode(result(request, "3"))...))
					next(requests, 1)
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				call, got := collect(tc.within)
				take := call.Stream
				call.Idle = tc.idle
				call.Stream = func(ctx context.Context, chunk []byte) error {
					if string(chunk) == "2" && tc.read != nil {
						return tc.read(ctx, cancel)
					}
					return take(ctx, chunk)
				}
				out := w.RoundTrip(ctx, call)
				if out.Err == nil || out.Err.Type != tc.want || !strings.Contains(out.Err.Message, tc.says) || !out.Err.Sent || out.Service <= 0 {
					t.Errorf("got %+v, %v; want %s, %q, sent", out, out.Err, tc.want, tc.says)
				}
				if shared {
					if r := released(t, out); r != "" {
						t.Errorf("discarded for %q, although it answered within its grace", r)
					}
				} else if out.Discard != tc.discard {
					t.Errorf("discarded for %q, want %q", out.Discard, tc.discard)
				}
				if slices.Contains(*got, "late") || (*got)[0] != "1" {
					t.Errorf("the reader got %q", *got)
				}
			})
		})
	}
}

func TestP109_ChunksAheadOfAnErrorAreHandedOver(t *testing.T) {
	streamers(t, func(t *testing.T, script func(func(*frame.Reader, *os.File)) tripper, _ bool) {
		w := script(func(requests *frame.Reader, replies *os.File) {
			request := next(requests, 1)[0]
			all := encode(chunkOf(request, "1"))
			for range 9 {
				all = append(all, encode(chunkOf(request, "1"))...)
			}
			_, _ = replies.Write(append(all, encode(failure(request, `{"category":"communication_error","type":"python_error","message":"m","context":{}}`))...))
			next(requests, 100)
		})
		call, got := collect(time.Minute)
		out := w.RoundTrip(t.Context(), call)
		if out.Err == nil || out.Err.Type != pool.PythonError || !out.Err.Sent || out.Discard != "" || len(*got) != 10 {
			t.Errorf("%d chunks, then %+v, %v; want 10 and a python_error", len(*got), out, out.Err)
		}
	})
}

// TestP109_TheAnswerWaitsForItsChunks: the answer is there before the caller has looked at the chunks ahead of it.
func TestP109_TheAnswerWaitsForItsChunks(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, _ *os.File) { next(requests, 1) })
	for name, end := range map[string]Outcome{
		"a result": {Payload: []byte("2")}, "an error": {Err: pool.NewError(pool.CommunicationError, pool.PythonError, "m")},
	} {
		p := &pending{done: make(chan Outcome, 1), stream: &inbox{chunks: [][]byte{[]byte("1"), []byte("2")}}}
		p.done <- end
		call, got := collect(time.Minute)
		if out := s.receive(t.Context(), p, &call); len(*got) != 2 || out.Err != end.Err || string(out.Payload) != string(end.Payload) {
			t.Errorf("%s: %d chunks, then %q, %v", name, len(*got), out.Payload, out.Err)
		}
	}
	p := &pending{done: make(chan Outcome, 1), stream: &inbox{chunks: [][]byte{[]byte("1")}}}
	p.done <- Outcome{Payload: []byte("1")}
	call, _ := collect(time.Minute)
	call.Stream = func(context.Context, []byte) error { return errors.New("the reader has left") }
	if out := s.receive(t.Context(), p, &call); out.Err == nil || out.Err.Type != pool.Cancelled || out.Discard != "" || out.Held != nil {
		t.Errorf("a reader that leaves after the answer: %+v, %v; want cancelled, and the worker kept", out, out.Err)
	}
}

// TestP109_ASlowReaderBlocksNoOther: while one stream's caller takes nothing, the worker's only reader serves the others.
func TestP109_ASlowReaderBlocksNoOther(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
		slow := next(requests, 1)[0]
		for range frame.StreamWindow {
			_, _ = replies.Write(encode(chunkOf(slow, "1")))
		}
		for range 50 {
			_, _ = replies.Write(encode(result(next(requests, 1)[0], "beside")))
		}
		_, _ = replies.Write(encode(result(slow, "16")))
		next(requests, 100)
	})
	call, got := collect(time.Minute)
	take, goOn := call.Stream, make(chan struct{})
	call.Stream = func(ctx context.Context, chunk []byte) error {
		<-goOn
		return take(ctx, chunk)
	}
	ended := make(chan Outcome, 1)
	go func() { ended <- s.RoundTrip(t.Context(), call) }()
	s.awaitQueue(t)
	for range 50 {
		if out := <-s.goCall(t.Context(), "{}", 10*time.Second); out.Err != nil {
			t.Fatalf("beside a slow stream: %v", out.Err)
		}
	}
	close(goOn)
	if out := <-ended; out.Err != nil || len(*got) != 16 {
		t.Errorf("the slow stream: %d chunks, %v", len(*got), out.Err)
	}
}
