package worker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// scripted is a Worker whose other end is a function of this test instead of a process. When the function returns,
// the "process" has exited with status 0.
func scripted(t *testing.T, maxPayload int, play func(requests *frame.Reader, replies *os.File)) *Worker {
	t.Helper()
	p, err := newPipes(nil, &Spec{MemoryFrom: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	closeAll(p.output, p.outputTheirs)
	proc := &process{pid: -1, done: make(chan struct{}), reaped: true}
	w := &Worker{
		id: "a-1", generation: 1, mode: modeSpawn, spec: &Spec{Pool: "p", Module: "m", MaxPayload: maxPayload, InitTimeout: time.Second},
		proc: proc, requests: p.requests, replies: p.replies, gone: make(chan struct{}),
		output: &outputReader{}, programs: pool.NewRecent[struct{}](2, 100),
	}
	if err := w.connect(); err != nil {
		t.Fatal(err)
	}
	go func() {
		play(frame.NewReader(p.requestsTheirs, 0), p.repliesTheirs)
		closeAll(p.requestsTheirs, p.repliesTheirs)
		close(proc.done)
		close(w.gone)
	}()
	t.Cleanup(func() {
		closeAll(w.requests, w.replies)
		<-w.gone
	})
	return w
}

// answering replies to each request with what answer makes of it.
func answering(answer func(request frame.Frame) []byte) func(*frame.Reader, *os.File) {
	return func(requests *frame.Reader, replies *os.File) {
		var f frame.Frame
		for requests.Read(&f) == nil {
			if _, err := replies.Write(answer(f)); err != nil {
				return
			}
		}
	}
}

func encode(f frame.Frame) []byte {
	b, err := frame.Append(nil, &f)
	if err != nil {
		panic(err)
	}
	return b
}

func result(request frame.Frame, payload string) frame.Frame {
	return frame.Frame{Kind: frame.Result, Generation: request.Generation, ID: request.ID, Payload: []byte(payload)}
}

func failure(request frame.Frame, payload string) frame.Frame {
	f := result(request, payload)
	f.Kind = frame.Error
	return f
}

func (w *Worker) try(t *testing.T, d time.Duration) Outcome {
	t.Helper()
	return w.RoundTrip(t.Context(), Call{Command: "c", Payload: []byte("{}"), Deadline: time.Now().Add(d)})
}

var badReplies = map[string]struct {
	answer func(frame.Frame) []byte
	want   pool.Type
}{
	"P34_another id":         {func(r frame.Frame) []byte { r.ID++; return encode(result(r, "1")) }, pool.ResponseMismatch},
	"P34_another generation": {func(r frame.Frame) []byte { r.Generation++; return encode(result(r, "1")) }, pool.ResponseMismatch},
	"P34_another kind": {func(r frame.Frame) []byte {
		f := result(r, "1")
		f.Kind = frame.Pong
		return encode(f)
	}, pool.DecodeError},
	"P35_an error that is no JSON":    {func(r frame.Frame) []byte { return encode(failure(r, "{")) }, pool.DecodeError},
	"P36_an error without a category": {lacking("category"), pool.DecodeError},
	"P36_an error without a type":     {lacking("type"), pool.DecodeError},
	"P36_an error without a message":  {lacking("message"), pool.DecodeError},
	"P36_an error without a context":  {lacking("context"), pool.DecodeError},
	"P36_an empty error":              {func(r frame.Frame) []byte { return encode(failure(r, "")) }, pool.DecodeError},
	"P36_an empty result":             {func(r frame.Frame) []byte { return encode(result(r, "")) }, pool.DecodeError},
	"P36_an unknown kind": {func(r frame.Frame) []byte {
		f := result(r, "1")
		f.Kind = 99
		return encode(f)
	}, pool.DecodeError},
	"P36_no frame at all": {func(frame.Frame) []byte {
		b := make([]byte, frame.HeaderSize)
		binary.BigEndian.PutUint32(b, 1)
		return b
	}, pool.DecodeError},
	"P33_too large": {func(r frame.Frame) []byte { return encode(result(r, strings.Repeat("x", 1025))) }, pool.FrameTooLarge},
}

// lacking answers with an error that has all parts but one.
func lacking(part string) func(frame.Frame) []byte {
	return func(r frame.Frame) []byte {
		parts := map[string]any{"category": "request_error", "type": "invalid_payload", "message": "m", "context": map[string]any{}}
		delete(parts, part)
		text, err := json.Marshal(parts)
		if err != nil {
			panic(err)
		}
		return encode(failure(r, string(text)))
	}
}

func TestBadReplyDiscardsWorker(t *testing.T) {
	for name, tc := range badReplies {
		t.Run("Test"+name, func(t *testing.T) {
			w := scripted(t, 1024, answering(tc.answer))
			out := w.try(t, time.Minute)
			if out.Err == nil || out.Err.Type != tc.want || out.Err.Category != pool.CommunicationError || !out.Err.Infrastructure() {
				t.Fatalf("got %v, want communication_error/%s", out.Err, tc.want)
			}
			if out.Discard != ReasonProtocol || !out.Err.Sent || out.Retriable() {
				t.Errorf("discard %q, sent %v, retriable %v; want protocol, true, false", out.Discard, out.Err.Sent, out.Retriable())
			}
		})
	}
}

// TestP36_WholeErrorKeepsWorker: with no part lacking, the same answer is the handler's own error.
func TestP36_WholeErrorKeepsWorker(t *testing.T) {
	w := scripted(t, 1024, answering(lacking("nothing")))
	if out := w.try(t, time.Minute); out.Err == nil || out.Err.Type != pool.InvalidPayload || out.Discard != "" {
		t.Errorf("got %v, discard %q; want request_error/invalid_payload, worker kept", out.Err, out.Discard)
	}
}

func TestP33_RequestTooLargeIsNotSent(t *testing.T) {
	w := scripted(t, 8, answering(func(r frame.Frame) []byte { return encode(result(r, "1")) }))
	out := w.RoundTrip(t.Context(), Call{Command: "c", Payload: make([]byte, 9), Deadline: time.Now().Add(time.Minute)})
	if out.Err == nil || out.Err.Category != pool.RequestError || out.Err.Type != pool.FrameTooLarge || out.Err.Sent || out.Discard != "" {
		t.Fatalf("got %v, discard %q; want request_error/frame_too_large, worker kept", out.Err, out.Discard)
	}
	if out := w.try(t, time.Minute); out.Err != nil {
		t.Errorf("the next request: %v", out.Err)
	}
}

func TestReusableOnlyWithNothingBehindTheReply(t *testing.T) {
	for name, tc := range map[string]struct {
		behind  []byte
		discard Reason
	}{
		"nothing":     {nil, ""},
		"half a byte": {[]byte{0}, ReasonProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			w := scripted(t, 0, answering(func(r frame.Frame) []byte { return append(encode(result(r, "7")), tc.behind...) }))
			out := w.try(t, time.Minute)
			if out.Err != nil || string(out.Payload) != "7" || out.Discard != tc.discard {
				t.Errorf("got %q, %v, discard %q; want 7, discard %q", out.Payload, out.Err, out.Discard, tc.discard)
			}
		})
	}
}

// TestP27_LateReply lets the reply race its deadline until a thousand were late: whoever gets a reply gets his own.
func TestP27_LateReply(t *testing.T) {
	play := answering(func(r frame.Frame) []byte {
		time.Sleep(time.Millisecond/2 + rand.N(time.Millisecond))
		return encode(result(r, string(r.Payload)))
	})
	w, late, intime := scripted(t, 0, play), 0, 0
	for i := 0; late < 1000; i++ {
		payload := fmt.Sprint(i)
		out := w.RoundTrip(t.Context(), Call{Command: "c", Payload: []byte(payload), Deadline: time.Now().Add(time.Millisecond)})
		switch {
		case out.Err == nil && string(out.Payload) != payload:
			t.Fatalf("request %d got the reply of request %s", i, out.Payload)
		case out.Err == nil:
			intime++
		// A request that was too late to be sent leaves no reply behind: its worker may be used again.
		case out.Err.Sent && out.Discard == "":
			t.Fatalf("request %d failed with %v and its worker is used again", i, out.Err)
		case out.Err.Sent:
			late++
		}
		if out.Discard != "" {
			closeAll(w.requests)
			w = scripted(t, 0, play)
		}
	}
	if intime == 0 {
		t.Error("no reply was in time: the race has shown nothing")
	}
}

func TestDeadWorkerGetsNothing(t *testing.T) {
	w := scripted(t, 0, func(*frame.Reader, *os.File) {})
	<-w.gone
	out := w.try(t, time.Minute)
	if out.Err == nil || out.Err.Type != pool.PortExited || out.Err.Sent || !out.Retriable() {
		t.Errorf("got %v, retriable %v; want port_exited that another worker may run", out.Err, out.Retriable())
	}
}

func TestCancelledContextIsForgottenAfterTheReply(t *testing.T) {
	w := scripted(t, 0, answering(func(r frame.Frame) []byte { return encode(result(r, "1")) }))
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		out := w.RoundTrip(ctx, Call{Command: "c", Deadline: time.Now().Add(time.Minute)})
		go cancel()
		if out.Err != nil {
			t.Fatalf("an earlier caller's cancel ended this request: %v", out.Err)
		}
	}
}

func TestP5_HandshakeEcho(t *testing.T) {
	const good = `{"worker":"a-1","mode":"spawn","commands":[]}`
	for name, tc := range map[string]struct {
		hello, reply string
		admitted     bool
	}{
		"echoed":           {`{"protocol":1}`, good, true},
		"another worker":   {`{"protocol":1}`, `{"worker":"a-2","mode":"spawn"}`, false},
		"another mode":     {`{"protocol":1}`, `{"worker":"a-1","mode":"fork"}`, false},
		"nothing":          {`{"protocol":1}`, `{}`, false},
		"no JSON":          {`{"protocol":1}`, `x`, false},
		"another protocol": {`{"protocol":2}`, good, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := scripted(t, 0, func(requests *frame.Reader, replies *os.File) {
				_, _ = replies.Write(encode(frame.Frame{Kind: frame.Hello, Payload: []byte(tc.hello)}))
				answering(func(r frame.Frame) []byte { return encode(result(r, tc.reply)) })(requests, replies)
			})
			err := w.handshake(t.Context())
			if (err == nil) != tc.admitted {
				t.Fatalf("handshake: %v; want admitted %v", err, tc.admitted)
			}
			if err != nil && !errors.As(err, new(*BootError)) {
				t.Errorf("a %T instead of a *BootError", err)
			}
		})
	}
}
