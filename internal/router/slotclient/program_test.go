package slotclient

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

// TestAProgramIsSentToASlotOnce, and again when the slot has dropped it or was restarted; no caller notices.
func TestAProgramIsSentToASlotOnce(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", func(_ context.Context, call slottest.Call) (string, error) {
		return call.Command + call.Program + call.Fixed + call.Payload, nil
	})
	c := configured(t, slot)
	run := func(hash string, bodies int) {
		t.Helper()
		req := request("echo", `{"b":2}`)
		req.Program = &pool.Program{Hash: hash, Body: []byte(`{"a":1}`)}
		reply, err := c.Do(t.Context(), req)
		if err != nil || string(reply.Payload) != "echo"+hash+`{"a":1}{"b":2}` {
			t.Errorf("%s: %q, %v", hash, reply.Payload, err)
		}
		if n := slot.Bodies(); n != bodies {
			t.Errorf("%s: %d bodies were sent, want %d", hash, n, bodies)
		}
	}
	run("h1", 1)
	run("h1", 1)
	run("h2", 2)
	run("h1", 2)
	slot.Forget()
	run("h1", 3)
	run("h1", 3)
	if n := slot.Opened(); n != 1 {
		t.Errorf("%d data connections, want 1: a program that isn't held leaves its connection in step", n)
	}
	slot.Stop()
	until(t, c, func() bool { return !c.Serving() })
	slot.Start()
	until(t, c, c.Serving)
	run("h1", 4)
	if reply, err := c.Do(t.Context(), request("echo", "{}")); err != nil || string(reply.Payload) != "echo{}" {
		t.Errorf("a plain command: %q, %v", reply.Payload, err)
	}
}

func TestP26_AProgramPastItsDeadlineIsNotSent(t *testing.T) {
	slot := slottest.New(t, t.TempDir(), "a", slottest.Echo)
	c := configured(t, slot)
	program := &pool.Program{Hash: "h1", Body: []byte("{}")}
	_, err := c.Do(t.Context(), Request{Command: "echo", Payload: []byte("{}"), Program: program, Deadline: time.Now().Add(-time.Second)})
	if err == nil || slot.Bodies() != 0 {
		t.Errorf("%v, %d bodies sent; want none", err, slot.Bodies())
	}
	reply, err := c.Do(t.Context(), Request{Command: "echo", Payload: []byte("{}"), Program: program, Deadline: time.Now().Add(time.Minute)})
	if err != nil || string(reply.Payload) != "{}" {
		t.Errorf("what wasn't sent is taken for sent: %q, %v", reply.Payload, err)
	}
}

func TestASuccessCostsNothingToJudge(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = notHeld(nil) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
