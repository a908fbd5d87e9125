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

func TestP14_CallersRunInParallel(t *testing.T) {
	const callers = 16
	var inside sync.WaitGroup
	inside.Add(callers)
	slot := slottest.New(t, t.TempDir(), "a", func(ctx context.Context, _ slottest.Call) (string, error) {
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
				conn.Close()
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

func TestSlotRestartIsConfiguredAgain(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	c := configured(t, slot)
	if _, err := c.Do(t.Context(), request("x", "{}")); err != nil {
		t.Fatal(err)
	}
	slot.Stop()
	until(t, c, func() bool { return !c.Serving() })
	if c.Ready("r1") || !c.HasBeenReady("r1") {
		t.Errorf("after the slot's end: ready %t, has been ready %t", c.Ready("r1"), c.HasBeenReady("r1"))
	}
	_, err := c.Do(t.Context(), request("x", "{}"))
	var e *pool.Error
	if !errors.Is(err, ErrUnreachable) || !errors.As(err, &e) || e.Type != pool.NotAvailable || e.Sent {
		t.Errorf("got %v, want an unreachable slot's error", err)
	}
	slot.Start()
	until(t, c, func() bool { return c.Ready("r1") })
	if reply, err := c.Do(t.Context(), request("x", "again")); err != nil || string(reply.Payload) != "again" {
		t.Errorf("after the restart: %q, %v", reply.Payload, err)
	}
	if diff := cmp.Diff([]slotproto.Config{serving, serving}, slot.Configs()); diff != "" {
		t.Errorf("configurations (-want +got)\n%s", diff)
	}
}

func TestInFlightWhenTheSlotDies(t *testing.T) {
	var slot *slottest.Slot
	entered := make(chan struct{})
	slot = slottest.New(t, t.TempDir(), "a", func(ctx context.Context, _ slottest.Call) (string, error) {
		close(entered)
		time.Sleep(50 * time.Millisecond) // longer than Stop needs to close the connections
		return "late", nil
	})
	c := configured(t, slot)
	go func() { <-entered; slot.Stop() }()
	_, err := c.Do(t.Context(), request("x", "{}"))
	var e *pool.Error
	if !errors.As(err, &e) || e.Type != pool.PortExited || !e.Sent || e.Context["slot"] != "a" {
		t.Errorf("got %v, want port_exited of slot a, sent", err)
	}
}

func TestConfigure(t *testing.T) {
	t.Run("the same again is one", func(t *testing.T) {
		slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
		c := configured(t, slot)
		accept(t, c, serving)
		bigger := serving
		bigger.Size = 6
		accept(t, c, bigger)
		if diff := cmp.Diff([]slotproto.Config{serving, bigger}, slot.Configs()); diff != "" {
			t.Errorf("configurations (-want +got)\n%s", diff)
		}
	})
	t.Run("refused with the slot's reason", func(t *testing.T) {
		slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
		c := configured(t, slot)
		slot.Refuse(pool.NewError(pool.RequestError, pool.InvalidPayload, "size is below 1"))
		bad := serving
		bad.Size = 0
		number, err := c.Configure(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Accepted(t.Context(), number); err == nil || !strings.Contains(err.Error(), "size is below 1") {
			t.Errorf("got %v", err)
		}
		if !c.Serving() {
			t.Error("a refused change took the slot out of service")
		}
	})
	t.Run("not reachable says why", func(t *testing.T) {
		slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
		slot.Stop()
		c := start(t, slot)
		until(t, c, func() bool { return strings.Contains(c.State().Problem, "pool.sock") })
		number, err := c.Configure(serving)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.Accepted(ctx, number); err == nil || !strings.Contains(err.Error(), "slot a is not reachable: dial unix") {
			t.Errorf("got %v", err)
		}
		slot.Start()
		if err := c.Accepted(t.Context(), number); err != nil {
			t.Errorf("after the slot came: %v", err)
		}
	})
	t.Run("another slot at its socket", func(t *testing.T) {
		slot := slottest.New(t, t.TempDir(), "b", slottest.Echo)
		c := start(t, slot)
		until(t, c, func() bool { return strings.Contains(c.State().Problem, `there is slot "b"`) })
	})
}

func TestReadyFollowsTheRevision(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	slot.Unready(true)
	c := start(t, slot)
	accept(t, c, serving)
	until(t, c, func() bool { return c.State().Status.Starting == 2 })
	if c.Ready("r1") {
		t.Error("ready with no worker up")
	}
	slot.Unready(false)
	until(t, c, func() bool { return c.Ready("r1") })
	slot.Unready(true)
	until(t, c, func() bool { return c.State().Status.Ready == 0 })
	if !c.Ready("r1") {
		t.Error("a slot that had workers up isn't ready any more because they are busy starting")
	}
	next := serving
	next.Revision = "r2"
	accept(t, c, next)
	until(t, c, func() bool { return c.State().Status.Revision == "r2" })
	if c.Ready("r1") || c.Ready("r2") {
		t.Errorf("after a change of revision: r1 %t, r2 %t", c.Ready("r1"), c.Ready("r2"))
	}
}

func TestIdleConnectionsArePruned(t *testing.T) {
	const callers = 8
	var inside sync.WaitGroup
	inside.Add(callers)
	slot := slottest.New(t, t.TempDir(), "a", func(context.Context, slottest.Call) (string, error) {
		inside.Done()
		inside.Wait()
		return "{}", nil
	})
	c := configured(t, slot)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() { _, _ = c.Do(t.Context(), request("x", "{}")) })
	}
	wg.Wait()
	if n := c.idleConns(); n != callers {
		t.Fatalf("%d idle connections after %d parallel calls", n, callers)
	}
	c.noteStatus(slotproto.Status{Slot: "a"}, time.Now().Add(idleTime/2))
	if n := c.idleConns(); n != callers {
		t.Errorf("%d idle connections are left after half their time", n)
	}
	c.noteStatus(slotproto.Status{Slot: "a"}, time.Now().Add(2*idleTime))
	if n := c.idleConns(); n != 0 {
		t.Errorf("%d idle connections are left after their time", n)
	}
}

func (c *Client) idleConns() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}
