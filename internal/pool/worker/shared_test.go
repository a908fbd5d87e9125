package worker

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// sharedScript is a Shared worker whose other end is a function of the test.
func sharedScript(t *testing.T, play func(requests *frame.Reader, replies *os.File)) *Shared {
	t.Helper()
	s := NewShared(scripted(t, 1024, play))
	s.grace = 50 * time.Millisecond
	go s.write()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.read()
	}()
	t.Cleanup(func() {
		_ = s.requests.Close()
		<-ended
	})
	return s
}

// goCall runs a call in the background.
func (s *Shared) goCall(ctx context.Context, payload string, within time.Duration) <-chan Outcome {
	out := make(chan Outcome, 1)
	go func() {
		out <- s.RoundTrip(ctx, Call{Command: "c", Payload: []byte(payload), Deadline: time.Now().Add(within)})
	}()
	return out
}

// released waits until the worker is done with a call that was given up.
func released(t *testing.T, out Outcome) Reason {
	t.Helper()
	if out.Held == nil {
		t.Fatalf("the call wasn't held: %+v", out)
	}
	left := make(chan Reason, 1)
	out.Held(func(r Reason) { left <- r })
	return <-left
}

// next returns copies of the n frames that come next.
func next(requests *frame.Reader, n int) []frame.Frame {
	frames := make([]frame.Frame, n)
	for i := range frames {
		if requests.Read(&frames[i]) != nil {
			return nil
		}
		frames[i].Payload = []byte(string(frames[i].Payload))
	}
	return frames
}

func TestP107_AnswersInAnyOrderReachTheirCalls(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
		got := next(requests, 3)
		for _, i := range []int{2, 0, 1} {
			_, _ = replies.Write(encode(result(got[i], string(got[i].Payload))))
		}
		next(requests, 1)
	})
	calls := map[string]<-chan Outcome{}
	for _, payload := range []string{"1", "2", "3"} {
		calls[payload] = s.goCall(t.Context(), payload, time.Minute)
	}
	for payload, call := range calls {
		if out := <-call; out.Err != nil || string(out.Payload) != payload || out.Discard != "" || out.Service <= 0 {
			t.Errorf("call %s got %q, %+v", payload, out.Payload, out)
		}
	}
	if s.Served() != 3 {
		t.Errorf("served %d; want 3", s.Served())
	}
}

func TestP107_LateFrameOfAnExpiredIDIsDropped(t *testing.T) {
	for name, give := range map[string]struct {
		within time.Duration
		cancel bool
		want   pool.Type
	}{
		"deadline": {within: 5 * time.Millisecond, want: pool.CommandTimeout},
		"cancel":   {within: time.Minute, cancel: true, want: pool.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			var cancelled frame.Frame
			s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
				first := next(requests, 2)
				cancelled = first[1]
				_, _ = replies.Write(encode(result(first[0], "late")))
				_, _ = replies.Write(encode(result(next(requests, 1)[0], "in time")))
				next(requests, 1)
			})
			ctx, cancel := context.WithCancel(t.Context())
			call := s.goCall(ctx, "{}", give.within)
			if give.cancel {
				s.awaitQueue(t)
				cancel()
			}
			out := <-call
			cancel()
			if out.Err == nil || out.Err.Type != give.want || !out.Err.Sent || out.Discard != "" {
				t.Fatalf("got %+v, %v; want %s and a worker that is kept", out, out.Err, give.want)
			}
			if r := released(t, out); r != "" {
				t.Fatalf("discarded for %q, although it answered within its grace", r)
			}
			if cancelled.Kind != frame.Cancel || cancelled.ID == 0 {
				t.Errorf("the worker was sent %+v; want a Cancel of the request", cancelled)
			}
			if out := <-s.goCall(t.Context(), "{}", time.Minute); out.Err != nil || string(out.Payload) != "in time" {
				t.Errorf("the next call got %q, %v", out.Payload, out.Err)
			}
		})
	}
}

// awaitQueue waits until a call has been written.
func (s *Shared) awaitQueue(t *testing.T) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		written := len(s.calls) > 0 && len(s.queue) == 0
		s.mu.Unlock()
		if written {
			return
		}
		if time.Now().After(until) {
			t.Fatal("no call was written")
		}
	}
}

func TestP107_WhatNoCallWaitsForEndsTheWorker(t *testing.T) {
	answer := func(first frame.Frame) frame.Frame { return result(first, "1") }
	for name, tc := range map[string]struct {
		answers func(first frame.Frame) []byte
		want    pool.Type
	}{
		"an unknown id":         {func(f frame.Frame) []byte { f.ID += 7; return encode(answer(f)) }, pool.ResponseMismatch},
		"another generation":    {func(f frame.Frame) []byte { f.Generation++; return encode(answer(f)) }, pool.ResponseMismatch},
		"a second answer":       {func(f frame.Frame) []byte { return append(encode(answer(f)), encode(answer(f))...) }, pool.ResponseMismatch},
		"another kind":          {func(f frame.Frame) []byte { r := answer(f); r.Kind = frame.Pong; return encode(r) }, pool.DecodeError},
		"an error of no form":   {func(f frame.Frame) []byte { return encode(failure(f, "{}")) }, pool.DecodeError},
		"no frame":              {func(frame.Frame) []byte { return make([]byte, frame.HeaderSize) }, pool.DecodeError},
		"an answer too large":   {func(f frame.Frame) []byte { return encode(result(f, strings.Repeat("x", 1025))) }, pool.FrameTooLarge},
		"the end of its output": {func(frame.Frame) []byte { return nil }, pool.PortExited},
	} {
		t.Run(name, func(t *testing.T) {
			s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
				got := next(requests, 2)
				_, _ = replies.Write(tc.answers(got[0]))
				if tc.want != pool.PortExited {
					next(requests, 1)
				}
			})
			first := s.goCall(t.Context(), "1", time.Minute)
			s.awaitQueue(t)
			second := s.goCall(t.Context(), "2", time.Minute)
			out := <-second // the first may have had its answer
			if out.Err == nil || out.Err.Type != tc.want || !out.Err.Sent || out.Discard == "" || out.Retriable() {
				t.Errorf("got %+v, %v; want %s, sent, and the worker discarded", out, out.Err, tc.want)
			}
			<-first
			if out := <-s.goCall(t.Context(), "3", time.Minute); !out.Retriable() {
				t.Errorf("a call to the ended worker: %+v, %v; want one that another worker may run", out, out.Err)
			}
		})
	}
}

func TestP107_PastItsGraceATaskQuarantinesItsWorker(t *testing.T) {
	finish := make(chan struct{})
	s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
		got := next(requests, 2)
		<-finish
		var last frame.Frame
		for _, f := range got {
			if string(f.Payload) == "kept" {
				last = f
			}
		}
		_, _ = replies.Write(encode(result(last, "well")))
		next(requests, 100)
	})
	kept := s.goCall(t.Context(), "kept", time.Minute)
	out := <-s.goCall(t.Context(), "stuck", 5*time.Millisecond)
	if r := released(t, out); r != ReasonTimeout {
		t.Fatalf("discarded for %q; want timeout", r)
	}
	if r, asked := s.Ending(); !asked || r != ReasonTimeout {
		t.Errorf("ending %q, %v; want timeout, true", r, asked)
	}
	if out := <-s.goCall(t.Context(), "new", time.Minute); !out.Retriable() || out.Discard != ReasonTimeout {
		t.Errorf("a call to a quarantined worker: %+v; want one that another worker may run", out)
	}
	if _, ended := s.Worker.Ending(); ended {
		t.Error("the worker is ended although a call runs")
	}
	close(finish)
	if out := <-kept; out.Err != nil || string(out.Payload) != "well" {
		t.Errorf("the call that was there got %q, %v", out.Payload, out.Err)
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, ended := s.Worker.Ending(); ended {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the worker isn't ended after its last call")
		}
	}
}

func TestP107_GivingUpLeavesNoHalfFrame(t *testing.T) {
	read := make(chan struct{})
	var got []frame.Frame
	done := make(chan struct{})
	s := sharedScript(t, func(requests *frame.Reader, _ *os.File) {
		defer close(done)
		<-read // the pipe is full before
		got = next(requests, 400)
	})
	s.spec.MaxPayload = 0
	s.grace = time.Minute
	big := strings.Repeat("x", 1<<10)
	var held []Outcome
	for range 200 {
		held = append(held, <-s.goCall(t.Context(), big, time.Millisecond))
	}
	close(read)
	<-done
	if len(got) != 400 {
		t.Fatal("the stream of requests is torn")
	}
	for i, f := range got {
		if want := []frame.Kind{frame.Request, frame.Cancel}[i%2]; f.Kind != want || f.ID != got[i-i%2].ID {
			t.Fatalf("frame %d is of kind %d with id %d", i, f.Kind, f.ID)
		}
	}
	for _, out := range held {
		if out.Err == nil || out.Err.Type != pool.CommandTimeout || out.Held == nil {
			t.Fatalf("got %+v, %v; want a command_timeout that is held", out, out.Err)
		}
	}
}

func TestBadReplyEndsSharedWorker(t *testing.T) {
	for name, tc := range badReplies {
		t.Run("Test"+name, func(t *testing.T) {
			s := sharedScript(t, answering(tc.answer))
			out := <-s.goCall(t.Context(), "{}", time.Minute)
			if out.Err == nil || out.Err.Type != tc.want || out.Err.Category != pool.CommunicationError || out.Discard != ReasonProtocol {
				t.Fatalf("got %v, discard %q; want communication_error/%s, protocol", out.Err, out.Discard, tc.want)
			}
			if why, asked := s.Ending(); !asked || why != ReasonProtocol {
				t.Errorf("ending %v, %q; want that the process is told to end", asked, why)
			}
		})
	}
}
