package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pod is a Pod that does as the test scripts.
type pod struct {
	mu        sync.Mutex
	apply     func(ctx context.Context, s *controlpb.Snapshot) error // guarded by mu
	applied   []state.Position                                       // guarded by mu
	tries     int                                                    // guarded by mu
	connected bool                                                   // guarded by mu
	changed   [2]chan struct{}                                       // guarded by mu
	tripped   chan struct{}                                          // guarded by mu
	reports   uint64                                                 // guarded by mu

	rolledBack *controlpb.RolledBack // what the pod keeps of a rollback
}

func newPod() *pod {
	return &pod{changed: [2]chan struct{}{make(chan struct{}), make(chan struct{})}, tripped: make(chan struct{})}
}

func (p *pod) Apply(ctx context.Context, s *controlpb.Snapshot) error {
	p.mu.Lock()
	apply := p.apply
	p.tries++
	p.mu.Unlock()
	if apply != nil {
		if err := apply(ctx, s); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = append(p.applied, state.PositionOf(s))
	return nil
}

func (p *pod) Kept() *controlpb.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.applied) == 0 {
		return nil
	}
	last := p.applied[len(p.applied)-1]
	return &controlpb.Snapshot{
		Epoch: last.Epoch, Sequence: last.Sequence, RolledBack: p.rolledBack, Trip: &controlpb.TripRule{Token: "fixed"},
	}
}

func (p *pod) Report() *controlpb.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports++
	return &controlpb.Report{RouterRssBytes: p.reports}
}

func (p *pod) Changed() [2]<-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return [2]<-chan struct{}{p.changed[0], p.changed[1]}
}

func (p *pod) Tripped() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tripped
}

func (p *pod) trip() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.tripped)
	p.tripped = make(chan struct{})
}

func (p *pod) change(slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed[slot])
	p.changed[slot] = make(chan struct{})
}

func (p *pod) SetConnected(connected bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected = connected
}

func (p *pod) isConnected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connected
}

func (p *pod) script(apply func(ctx context.Context, s *controlpb.Snapshot) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apply = apply
}

func (p *pod) triesSoFar() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tries
}

type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// scene is an operator, an agent's files, and the agent's pod; the agent isn't running yet.
type scene struct {
	*operator
	ca    *authority
	files identity
	pod   *pod
	log   *log
	agent *Agent
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{ca: newAuthority(t), files: newIdentity(t), pod: newPod(), log: &log{}}
	s.operator = serve(t, s.ca, "")
	s.files.put(s.files.ca, s.ca.pem)
	s.files.put(s.files.token, []byte("token-1\n"))
	s.agent = New(Options{
		Address: s.address, CAFile: s.files.ca, TokenFile: s.files.token,
		Pool: "summarizer", PoolUID: "uid-1", Instance: "i-1", Version: "v1.2.3",
		Pod: s.pod, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	return s
}

func at(epoch, sequence uint64) *controlpb.Snapshot {
	return &controlpb.Snapshot{Epoch: epoch, Sequence: sequence}
}

// eventually waits for what has no event of its own.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestHelloSaysWhoAndWhere(t *testing.T) {
	s := newScene(t)
	s.pod.applied, s.pod.rolledBack = []state.Position{{Epoch: 4, Sequence: 2}}, &controlpb.RolledBack{Revision: "r2", AtUnix: 7}
	run(t, s.agent)
	stream := s.next()
	want := &controlpb.Hello{Pool: "summarizer", PoolUid: "uid-1", Instance: "i-1", Version: "v1.2.3", Epoch: 4, Sequence: 2,
		RolledBack: &controlpb.RolledBack{Revision: "r2", AtUnix: 7}, TripToken: "fixed",
	}
	if stream.hello.String() != want.String() {
		t.Errorf("got %v, want %v", stream.hello, want)
	}
	if stream.token != "Bearer token-1" {
		t.Errorf("token %q", stream.token)
	}
	if s.pod.isConnected() {
		t.Error("connected before the operator has said anything")
	}
	stream.send(at(4, 3))
	stream.awaitAck(4, 3)
	if !s.pod.isConnected() {
		t.Error("not connected after a snapshot")
	}
}

func TestO45_NackSaysWhy(t *testing.T) {
	s := newScene(t)
	refusal := fmt.Errorf("%w: epoch 3 is older", state.ErrRefused)
	s.pod.script(func(context.Context, *controlpb.Snapshot) error { return refusal })
	run(t, s.agent)
	stream := s.next()
	stream.send(at(3, 1))
	if reason := stream.awaitNack(3, 1); !strings.Contains(reason, "epoch 3 is older") {
		t.Errorf("reason %q", reason)
	}
	stream.awaitReport()
	if n := s.pod.triesSoFar(); n != 1 {
		t.Errorf("a snapshot refused for good was tried %d times", n)
	}
}

func TestNackThenAckOnceTheSlotTakesIt(t *testing.T) {
	s := newScene(t)
	var mu sync.Mutex
	away := errors.New("slot b is not reachable")
	s.pod.script(func(context.Context, *controlpb.Snapshot) error {
		mu.Lock()
		defer mu.Unlock()
		return away
	})
	run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	if reason := stream.awaitNack(1, 1); reason != "slot b is not reachable" {
		t.Errorf("reason %q", reason)
	}
	eventually(t, "it is tried again", func() bool { return s.pod.triesSoFar() >= 3 })
	mu.Lock()
	away = nil
	mu.Unlock()
	stream.await("Ack, with no second Nack for the same reason", func(m *controlpb.AgentMessage) bool {
		if m.GetNack() != nil {
			t.Errorf("a second Nack: %v", m)
		}
		return m.GetAck().GetSequence() == 1
	})
}

func TestNewerSnapshotDoesNotWaitForTheOneBefore(t *testing.T) {
	s := newScene(t)
	stuck := make(chan struct{})
	s.pod.script(func(ctx context.Context, snapshot *controlpb.Snapshot) error {
		if snapshot.GetSequence() > 1 {
			return nil
		}
		close(stuck)
		<-ctx.Done()
		return ctx.Err()
	})
	run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	<-stuck
	stream.send(at(1, 2))
	stream.await("Ack of the second alone", func(m *controlpb.AgentMessage) bool {
		if m.GetAck().GetSequence() == 1 || m.GetNack() != nil {
			t.Errorf("the superseded snapshot was answered: %v", m)
		}
		return m.GetAck().GetSequence() == 2
	})
}

func TestO47_TokenExpiresAndCertificatesRotate(t *testing.T) {
	s := newScene(t)
	run(t, s.agent)
	stream := s.next()
	stream.send(at(1, 1))
	stream.awaitAck(1, 1)

	// A new CA: the bundle holds both before the server's certificate changes.
	rotated := newAuthority(t)
	s.files.put(s.files.ca, append(append([]byte{}, s.ca.pem...), rotated.pem...))
	s.files.put(s.files.token, []byte("token-2"))
	stream.awaitReport() // the stream goes on
	stream.end(status.Error(codes.Unauthenticated, "the token expired"))
	start := time.Now()
	stream = s.next()
	if waited := time.Since(start); waited > 2*time.Second {
		t.Errorf("%v without a stream", waited)
	}
	if stream.token != "Bearer token-2" {
		t.Errorf("token %q on the second stream", stream.token)
	}
	stream.send(at(1, 1))
	stream.awaitAck(1, 1)

	s.stop()
	next := serve(t, rotated, s.address)
	stream = next.next()
	stream.send(at(2, 1))
	stream.awaitAck(2, 1)
}

func TestO42_GoesOnUntilThereIsAnOperator(t *testing.T) {
	s := newScene(t)
	if err := os.Remove(s.files.ca); err != nil {
		t.Fatal(err)
	}
	run(t, s.agent)
	eventually(t, "the missing CA bundle is logged", func() bool {
		return strings.Contains(s.log.String(), "the operator's CA bundle: open")
	})
	eventually(t, "it is tried again and again", func() bool { return s.accepted.Load() >= 4 })
	if n := strings.Count(s.log.String(), "no stream to the operator"); n != 1 {
		t.Errorf("the same problem was logged %d times:\n%s", n, s.log)
	}
	s.files.put(s.files.ca, s.ca.pem)
	stream := s.next()
	stream.send(at(1, 1))
	stream.awaitAck(1, 1)
	stream.awaitReport()

	s.stop()
	eventually(t, "the end is noticed", func() bool { return !s.pod.isConnected() })
	if n := s.pod.triesSoFar(); n != 1 {
		t.Errorf("losing the operator applied something: %d tries", n)
	}
	back := serve(t, s.ca, s.address)
	back.next().awaitReport()
}

func TestStrangersAreNotTrusted(t *testing.T) {
	s := newScene(t)
	s.files.put(s.files.ca, newAuthority(t).pem)
	run(t, s.agent)
	eventually(t, "the unknown authority is logged", func() bool {
		return strings.Contains(s.log.String(), "certificate signed by unknown authority")
	})
	if len(s.streams) > 0 {
		t.Error("a stream, and with it the token, went to a server that isn't trusted")
	}
	if strings.Contains(s.log.String(), "token-1") {
		t.Errorf("the token is in the log:\n%s", s.log)
	}
}

func TestEndsWhileTheOperatorHangs(t *testing.T) {
	s := newScene(t)
	stop := run(t, s.agent)
	s.next() // and say nothing, ever
	start := time.Now()
	stop()
	if took := time.Since(start); took > 5*farewellTimeout {
		t.Errorf("the end took %v", took)
	}
}
