package slot_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
	"github.com/dspex/workerpool-operator/internal/pool/worker"
	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

const patience = 20 * time.Second

// rig is a slot that serves on a socket, and what its clients need.
type rig struct {
	*testing.T
	spec   worker.Spec
	slot   *slot.Slot
	server *slot.Server
	socket string
	end    func() // drains and closes; idempotent
}

func newRig(t *testing.T, change func(*slot.Options)) *rig {
	t.Helper()
	return newRigOf(t, slot.DefaultMaxConnections, change)
}

func newRigOf(t *testing.T, maxConnections int, change func(*slot.Options)) *rig {
	t.Helper()
	spec := pooltest.Spec(t)
	leaks := goleak.IgnoreCurrent()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	host, err := worker.NewHost(log)
	if err != nil {
		t.Fatal(err)
	}
	opt := slot.Options{
		Name: "a", Socket: spec.Marker, Marker: spec.Marker, PythonDir: spec.PythonDir, WorkingDir: spec.WorkingDir, Env: os.Environ(), Host: host, Log: log,
	}
	if change != nil {
		change(&opt)
	}
	l, err := slot.Listen(opt.Socket)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, spec: spec, slot: slot.New(opt), socket: opt.Socket}
	r.server = slot.NewServer(r.slot, maxConnections)
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(t.Context(), l) }()
	ended := false
	r.end = func() {
		if ended {
			return
		}
		ended = true
		_ = l.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		r.slot.Close(ctx)
		r.server.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(func() {
		r.end()
		if err := host.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, leaks)
	})
	return r
}

// config is a good configuration of the suite's fixture module.
func (r *rig) config(change func(*slotproto.Config)) slotproto.Config {
	c := slotproto.Config{
		Pool: "tested", Revision: "r1", Version: pool.V2, Worker: &slotproto.Worker{Python: r.spec.Python, Module: "fixture"},
		Size: 1, Queue: 100, Checkout: patience, Op: patience, Drain: patience,
	}
	if change != nil {
		change(&c)
	}
	return c
}

// client is one connection to the slot.
type client struct {
	*rig
	conn net.Conn
	r    *frame.Reader
	w    *frame.Writer
	id   uint64
}

func (r *rig) dial() *client {
	r.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		r.Fatal(err)
	}
	return &client{rig: r, conn: conn, r: frame.NewReader(conn, 0), w: frame.NewWriter(conn)}
}

// connect dials and says Hello.
func (r *rig) connect(role slotproto.Role, instance string) *client {
	r.Helper()
	c := r.dial()
	c.send(frame.Frame{Kind: frame.Hello, Payload: c.json(slotproto.Hello{Role: role, Instance: instance, Protocol: slotproto.Protocol})})
	if f := c.read(); f.Kind != frame.Hello || !strings.Contains(string(f.Payload), `"slot":"a"`) {
		r.Fatalf("Hello was answered with kind %d, %s", f.Kind, f.Payload)
	}
	return c
}

func (c *client) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		c.Fatal(err)
	}
	return b
}

func (c *client) send(f frame.Frame) {
	c.Helper()
	if err := c.w.Write(&f); err != nil {
		c.Fatal(err)
	}
}

func (c *client) read() frame.Frame {
	c.Helper()
	var f frame.Frame
	if err := c.r.Read(&f); err != nil {
		c.Fatal(err)
	}
	return f
}

// closed reports whether the slot has closed the connection, without a frame.
func (c *client) closed() bool {
	var f frame.Frame
	return c.r.Read(&f) != nil
}

// configure returns nil when the slot took the configuration.
func (c *client) configure(cfg slotproto.Config) *pool.Error {
	c.Helper()
	c.id++
	c.send(frame.Frame{Kind: frame.Configure, ID: c.id, Payload: c.json(cfg)})
	for {
		switch f := c.read(); f.Kind {
		case frame.Result:
			return nil
		case frame.Error:
			return c.failure(f)
		case frame.Status:
		default:
			c.Fatalf("a frame of kind %d on the control connection", f.Kind)
		}
	}
}

// await reads Status frames until one is as wanted. What the slot said before the call, and which may still be on its way,
// doesn't count: it can't know of what the test has just done.
func (c *client) await(what string, wanted func(slotproto.Status) bool) slotproto.Status {
	c.Helper()
	c.id++
	c.send(frame.Frame{Kind: frame.Ping, ID: c.id})
	var s slotproto.Status
	fresh := false
	for until := time.Now().Add(patience); time.Now().Before(until); {
		f := c.read()
		if f.Kind == frame.Pong && f.ID == c.id {
			fresh = true
		}
		if f.Kind != frame.Status || !fresh {
			continue
		}
		s = slotproto.Status{}
		if err := json.Unmarshal(f.Payload, &s); err != nil {
			c.Fatal(err)
		}
		if wanted(s) {
			return s
		}
	}
	c.Fatalf("waited %s for: %s; last status %+v", patience, what, s)
	return s
}

// awaitBusy looks at the slot itself: Status isn't pushed for each request.
func (r *rig) awaitBusy(n int) {
	r.Helper()
	for until := time.Now().Add(patience); r.slot.Status().Busy != n; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			r.Fatalf("waited %s for %d busy workers", patience, n)
		}
	}
}

func (c *client) awaitReady(n int) slotproto.Status {
	c.Helper()
	return c.await("ready workers", func(s slotproto.Status) bool { return s.Ready == n && s.Starting == 0 && s.Busy == 0 })
}

// begin sends a request and returns its id.
func (c *client) begin(command string, args any) uint64 {
	c.Helper()
	c.id++
	c.send(frame.Frame{Kind: frame.Request, ID: c.id, Meta: []byte(command), Payload: c.json(args)})
	return c.id
}

// reply reads the answer to request id: its result as text, or its failure.
func (c *client) reply(id uint64) (string, *pool.Error) {
	c.Helper()
	f := c.read()
	if f.ID != id {
		c.Fatalf("answer to request %d instead of %d", f.ID, id)
	}
	if f.Kind == frame.Error {
		return "", c.failure(f)
	}
	return string(f.Payload), nil
}

func (c *client) failure(f frame.Frame) *pool.Error {
	c.Helper()
	var e pool.Error
	if err := json.Unmarshal(f.Payload, &e); err != nil {
		c.Fatal(err)
	}
	if e.Context["slot"] != "a" {
		c.Errorf("the failure doesn't name its slot: %s", f.Payload)
	}
	e.Sent = f.Flags&frame.FlagSent != 0
	return &e
}

func (c *client) call(command string, args any) (string, *pool.Error) {
	c.Helper()
	return c.reply(c.begin(command, args))
}

type args map[string]any

func wants(t *testing.T, err *pool.Error, want pool.Type) {
	t.Helper()
	if err == nil || err.Type != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func tempSocket(t *testing.T) string { return filepath.Join(t.TempDir(), "s.sock") }

func countLines(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "\n")
}
