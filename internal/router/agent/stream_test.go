package agent

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
)

// dyingStream fails while a message is being sent and one more snapshot has just come.
type dyingStream struct {
	controlpb.Agent_StreamClient
	sending chan struct{} // closed when Send was called
	got     int           // snapshots so far; only Recv uses it
}

func (s *dyingStream) Send(*controlpb.AgentMessage) error {
	close(s.sending)
	return io.EOF
}

func (s *dyingStream) Recv() (*controlpb.ControlMessage, error) {
	<-s.sending
	if s.got++; s.got > 1 {
		return nil, errors.New("connection reset")
	}
	return &controlpb.ControlMessage{Snapshot: at(1, 1)}, nil
}

// TestStreamThatDiesWithASnapshotUnheard: Send has failed, and the reason comes only after the snapshot was heard.
func TestStreamThatDiesWithASnapshotUnheard(t *testing.T) {
	a := New(Options{Pod: newPod(), Logger: slog.New(slog.DiscardHandler)})
	stream := &dyingStream{sending: make(chan struct{})}
	received, failed, ended := make(chan *controlpb.Snapshot), make(chan error, 1), make(chan error, 1)
	go func() { failed <- receive(t.Context(), stream, received) }()
	go func() {
		_, err := a.converse(t.Context(), stream, received, failed)
		ended <- err
	}()
	a.verdicts.put(ack(at(1, 0)))
	select {
	case err := <-ended:
		if err == nil || err.Error() != "connection reset" {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the agent waits for a stream that is dead")
	}
	if _, s := a.take(t.Context()); s.GetSequence() != 1 {
		t.Errorf("the snapshot that came last is lost: %v", s)
	}
	a.release()
}
