package slotclient

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

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
	slot = slottest.New(t, t.TempDir(), "a", func(context.Context, slottest.Call) (string, error) {
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
