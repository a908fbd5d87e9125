package slotclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var serving = slotproto.Config{
	Pool: "summarizer", Revision: "r1", Version: pool.V2, Size: 2, Worker: &slotproto.Worker{Module: "m"},
	Checkout: time.Second, Op: time.Second,
}

// start runs a client of the slot until the test ends.
func start(t *testing.T, slot *slottest.Slot) *Client {
	t.Helper()
	c := New(Options{
		Name: "a", Socket: slot.Socket, Instance: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// configured is start and a configuration that the slot has accepted and reported.
func configured(t *testing.T, slot *slottest.Slot) *Client {
	t.Helper()
	c := start(t, slot)
	accept(t, c, serving)
	until(t, c, func() bool { return c.Ready("r1") })
	return c
}

func accept(t *testing.T, c *Client, cfg slotproto.Config) {
	t.Helper()
	number, err := c.Configure(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Accepted(ctx, number); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition of the client's state.
func until(t *testing.T, c *Client, holds func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		changed := c.Changed()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the client's state stays %+v", c.State())
		}
	}
}

func request(command, payload string) Request {
	return Request{Command: command, Payload: []byte(payload), Deadline: time.Now().Add(5 * time.Second)}
}

func TestDoReturnsTheReplyAndItsServiceTime(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", func(_ context.Context, call slottest.Call) (string, error) {
		time.Sleep(5 * time.Millisecond)
		return call.Command + call.Payload, nil
	})
	c := configured(t, slot)
	for i := range 20 {
		reply, err := c.Do(t.Context(), request("echo", fmt.Sprint(i)))
		if err != nil || string(reply.Payload) != fmt.Sprint("echo", i) {
			t.Fatalf("call %d: %q, %v", i, reply.Payload, err)
		}
		if reply.Service < 5*time.Millisecond || reply.Service > time.Second {
			t.Errorf("service time %v, the handler took 5ms", reply.Service)
		}
	}
	if n := slot.Opened(); n != 1 {
		t.Errorf("%d data connections for calls one after the other, want 1", n)
	}
	for _, call := range slot.Calls() {
		if call.Budget <= 4*time.Second || call.Budget > 5*time.Second {
			t.Errorf("budget %v of a call with 5s left", call.Budget)
		}
	}
}

func TestLargeRepliesAreTheCallersToKeep(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", func(_ context.Context, call slottest.Call) (string, error) {
		return strings.Repeat(call.Payload, 3*copyLimit), nil
	})
	c := configured(t, slot)
	var kept [][]byte
	for _, letter := range []string{"a", "b", "c"} {
		reply, err := c.Do(t.Context(), request("x", letter))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, reply.Payload)
	}
	for i, letter := range []string{"a", "b", "c"} {
		if string(kept[i]) != strings.Repeat(letter, 3*copyLimit) {
			t.Errorf("reply %q changed after it was returned", letter)
		}
	}
	if n := slot.Opened(); n != 1 {
		t.Errorf("%d data connections, want 1", n)
	}
}

func TestP14_CallersRunInParallel(t *testing.T) {
	const callers = 16
	var inside sync.WaitGroup
	inside.Add(callers)
	slot := slottest.New(t, t.TempDir(), "a", func(context.Context, slottest.Call) (string, error) {
		inside.Done()
		inside.Wait() // all of them at once, or never
		return "{}", nil
	})
	c := configured(t, slot)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := c.Do(t.Context(), request("meet", "{}")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAnErrorKeepsItsFourPartsAndWhetherItWasSent(t *testing.T) {
	for name, sent := range map[string]bool{"sent": true, "not sent": false} {
		t.Run(name, func(t *testing.T) {
			want := pool.NewError(pool.CommunicationError, pool.PythonError, "ValueError: no").With("slot", "a")
			want.Sent = sent
			slot := slottest.New(t, t.TempDir(), "a", func(context.Context, slottest.Call) (string, error) { return "", want })
			c := configured(t, slot)
			for range 2 { // the connection stays in step
				_, err := c.Do(t.Context(), request("fail", "{}"))
				var got *pool.Error
				if !errors.As(err, &got) || cmp.Diff(want, got) != "" {
					t.Fatalf("(-want +got)\n%s", cmp.Diff(want, got))
				}
			}
			if n := slot.Opened(); n != 1 {
				t.Errorf("%d data connections, want 1", n)
			}
		})
	}
}

func TestP29_CallerGivesUp(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	slot := slottest.New(t, t.TempDir(), "a", func(ctx context.Context, call slottest.Call) (string, error) {
		if call.Command == "echo" {
			return call.Payload, nil
		}
		close(entered)
		<-ctx.Done() // only the router's Cancel ends it
		close(left)
		return "late", nil
	})
	c := configured(t, slot)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := c.Do(ctx, request("hang", "{}"))
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.Cancelled || !e.Sent {
		t.Fatalf("got %v, want a cancelled request that was sent", err)
	}
	<-left
	if reply, err := c.Do(t.Context(), request("echo", "mine")); err != nil || string(reply.Payload) != "mine" {
		t.Errorf("the next caller got %q, %v", reply.Payload, err)
	}
}

func TestP26_PastItsDeadlineIsNotSent(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	c := configured(t, slot)
	_, err := c.Do(t.Context(), Request{Command: "echo", Payload: []byte("{}"), Deadline: time.Now().Add(-time.Second)})
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.DeadlineExceeded || e.Sent {
		t.Fatalf("got %v, want deadline_exceeded, not sent", err)
	}
	if calls := slot.Calls(); len(calls) != 0 {
		t.Errorf("the slot got %v", calls)
	}
}

// TestSlotCancelsForNobody: a cancel that no caller asked for is the pod's failure, and keeps whether it was sent.
func TestSlotCancelsForNobody(t *testing.T) {
	for name, sent := range map[string]bool{"sent": true, "not sent": false} {
		t.Run(name, func(t *testing.T) {
			entered := make(chan struct{})
			slot := slottest.New(t, t.TempDir(), "a", func(ctx context.Context, _ slottest.Call) (string, error) {
				close(entered)
				<-ctx.Done() // the control connection is gone
				e := pool.NewCancelled("summarizer")
				e.Sent = sent
				return "", e
			})
			c := configured(t, slot)
			go func() {
				<-entered
				c.mu.Lock()
				defer c.mu.Unlock()
				_ = c.session.nc.Close()
			}()
			_, err := c.Do(t.Context(), request("hang", "{}"))
			var e *pool.Error
			if !errors.As(err, &e) || e.Type != pool.PortExited || e.Category != pool.CommunicationError || e.Sent != sent {
				t.Errorf("got %v, want port_exited", err)
			}
		})
	}
}

// TestCallerEndsWhileTheConnectionOpens: the slot that is slow to greet isn't blamed for a caller that doesn't wait.
func TestCallerEndsWhileTheConnectionOpens(t *testing.T) {
	for name, test := range map[string]struct {
		budget time.Duration
		want   pool.Type
	}{
		"P29 gives up":      {time.Minute, pool.Cancelled},
		"P26 deadline ends": {50 * time.Millisecond, pool.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
			c := configured(t, slot)
			arrived := make(chan struct{})
			slot.Mute(arrived)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-arrived
				if test.want == pool.Cancelled {
					cancel()
				}
			}()
			start := time.Now()
			_, err := c.Do(ctx, Request{Command: "echo", Payload: []byte("{}"), Deadline: start.Add(test.budget)})
			var e *pool.Error
			if !errors.As(err, &e) || e.Type != test.want || e.Sent || errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v, want %s, not sent", err, test.want)
			}
			if took := time.Since(start); took >= handshakeTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestBadReplies shows what a caller hears when the slot's answer is no answer, and that the connection isn't used
// again.
func TestBadReplies(t *testing.T) {
	encode := func(f frame.Frame) []byte {
		b, err := frame.Append(nil, &f)
		if err != nil {
			panic(err)
		}
		return b
	}
	for name, test := range map[string]struct {
		bytes func(id uint64) []byte // nil: close the connection instead
		want  pool.Type
	}{
		"P34 another id":      {func(id uint64) []byte { return encode(frame.Frame{Kind: frame.Result, ID: id + 1}) }, pool.ResponseMismatch},
		"P36 no reply's kind": {func(id uint64) []byte { return encode(frame.Frame{Kind: frame.Status, ID: id}) }, pool.DecodeError},
		"P35 bad JSON error": {func(id uint64) []byte {
			return encode(frame.Frame{Kind: frame.Error, Flags: frame.FlagSent, ID: id, Payload: []byte("{")})
		}, pool.DecodeError},
		"P36 error without a context": {func(id uint64) []byte {
			return encode(frame.Frame{
				Kind: frame.Error, Flags: frame.FlagSent, ID: id, Payload: []byte(`{"category":"request_error","type":"x","message":"m"}`),
			})
		}, pool.DecodeError},
		"P42 random bytes": {func(uint64) []byte { return []byte(strings.Repeat("\x00\x00\x00\x05", 20)) }, pool.DecodeError},
		"P33 over the limit": {func(uint64) []byte {
			return binary.BigEndian.AppendUint32(nil, 24+frame.DefaultMaxPayload+1)
		}, pool.FrameTooLarge},
		"slot ends": {nil, pool.PortExited},
	} {
		t.Run(name, func(t *testing.T) {
			slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
			c := configured(t, slot)
			slot.Raw(func(conn net.Conn, call slottest.Call) {
				if test.bytes != nil {
					_, _ = conn.Write(append(test.bytes(call.ID), make([]byte, frame.HeaderSize)...))
					_, _ = io.Copy(io.Discard, conn)
				}
				_ = conn.Close()
			})
			_, err := c.Do(t.Context(), request("x", "{}"))
			var e *pool.Error
			if !errors.As(err, &e) || e.Type != test.want || !e.Sent {
				t.Fatalf("got %v, want %s, sent", err, test.want)
			}
			slot.Raw(nil)
			if reply, err := c.Do(t.Context(), request("x", "fine")); err != nil || string(reply.Payload) != "fine" {
				t.Errorf("the next call got %q, %v", reply.Payload, err)
			}
		})
	}
}

func TestP37_UnsolicitedFrameClosesTheConnection(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	c := configured(t, slot)
	late, written := make(chan struct{}), make(chan struct{})
	slot.Raw(func(conn net.Conn, call slottest.Call) {
		reply, _ := frame.Append(nil, &frame.Frame{Kind: frame.Result, ID: call.ID, Payload: []byte("first")})
		_, _ = conn.Write(reply)
		<-late
		_, _ = conn.Write(reply)
		close(written)
	})
	if reply, err := c.Do(t.Context(), request("x", "{}")); err != nil || string(reply.Payload) != "first" {
		t.Fatalf("%q, %v", reply.Payload, err)
	}
	slot.Raw(nil)
	close(late)
	<-written
	if reply, err := c.Do(t.Context(), request("x", "mine")); err != nil || string(reply.Payload) != "mine" {
		t.Fatalf("the next caller got %q, %v", reply.Payload, err)
	}
	if n := slot.Opened(); n != 2 {
		t.Errorf("%d data connections were opened, want a second one after the late frame", n)
	}
}
