package worker

import (
	"os"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
)

// TestP16_APayloadThatIsBeingEncodedHoldsUpNobody has one call stall where its payload is encoded, and all that others
// may want of the worker meanwhile: above all what is asked under a pool's lock.
func TestP16_APayloadThatIsBeingEncodedHoldsUpNobody(t *testing.T) {
	s := sharedScript(t, func(requests *frame.Reader, replies *os.File) {
		var f frame.Frame
		for requests.Read(&f) == nil {
			answer := result(f, `"small"`)
			if f.Kind == frame.Ping {
				answer = frame.Frame{Kind: frame.Pong, Generation: f.Generation, ID: f.ID}
			}
			if _, err := replies.Write(encode(answer)); err != nil {
				return
			}
		}
	})
	stalled, proceed := make(chan struct{}), make(chan struct{})
	s.encode = func(dst []byte, f *frame.Frame) ([]byte, error) {
		if string(f.Payload) == "huge" {
			close(stalled)
			<-proceed
		}
		return frame.Append(dst, f)
	}
	huge := s.goCall(t.Context(), "huge", time.Minute)
	<-stalled
	if out := <-s.goCall(t.Context(), "{}", time.Minute); out.Err != nil {
		t.Errorf("another call: %v", out.Err)
	}
	if why := s.Ping(t.Context(), time.Now().Add(time.Minute)); why != "" {
		t.Errorf("a ping: %s", why)
	}
	if why, asked := s.Ending(); asked { // a pool asks under its lock
		t.Errorf("it ends: %s", why)
	}
	if !s.mu.TryLock() {
		t.Fatal("the worker is locked")
	}
	s.mu.Unlock()
	s.Discard(ReasonRecycled) // and so takes no new calls
	close(proceed)
	if out := <-huge; out.Err == nil || out.Err.Type != pool.NotAvailable || !out.Retriable() {
		t.Errorf("the call that came too late: %+v; want one that another worker may run", out)
	}
}

// TestP16_APayloadIsJudgedWithoutTheLock gives large answers, whose decoding must hold up nobody either.
func TestP16_APayloadIsJudgedWithoutTheLock(t *testing.T) {
	s := sharedScript(t, func(*frame.Reader, *os.File) {})
	p := &pending{id: 1, start: time.Now(), done: make(chan Outcome, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, f := range []frame.Frame{
			{Kind: frame.Result, Payload: []byte(`"a result"`)},
			{Kind: frame.Error, Payload: []byte(`{"category":"request_error","type":"invalid_payload","message":"m","context":{}}`)},
		} {
			if _, err := s.outcome(&f, p); err != nil {
				t.Errorf("kind %d: %v", f.Kind, err)
			}
		}
	}()
	<-done // or the test hangs
}
