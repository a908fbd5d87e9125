package slot_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestP29_CancelOverTheControlConnection(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	other := r.connect(slotproto.Control, "another")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	id := data.begin("sleep", args{"ms": 1000, "value": "kept"})
	other.send(frame.Frame{Kind: frame.Cancel, ID: id})
	if got, err := data.reply(id); err != nil || got != `"kept"` {
		t.Errorf("another instance's cancel: got %s, %v", got, err)
	}
	id = data.begin("sleep", args{"ms": 60000})
	control.send(frame.Frame{Kind: frame.Cancel, ID: id})
	_, err := data.reply(id)
	wants(t, err, pool.Cancelled)
	if _, err := data.call("echo", args{"value": 1}); err != nil {
		t.Errorf("after a cancel: %v", err)
	}
}

// TestRecallOverTheControlConnection: what waits comes back unsent, what a worker has goes on.
func TestRecallOverTheControlConnection(t *testing.T) {
	r := newRig(t, nil)
	control, first, second := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	running := first.begin("sleep", args{"ms": 500, "value": "kept"})
	r.awaitBusy(1)
	second.id = running // ids are an instance's
	waiting := second.begin("echo", args{"value": 1})
	for _, id := range []uint64{running, waiting} {
		control.send(frame.Frame{Kind: frame.Recall, ID: id})
	}
	_, err := second.reply(waiting)
	wants(t, err, pool.NotAvailable)
	if err != nil && err.Sent {
		t.Error("it came back as sent")
	}
	if got, err := first.reply(running); err != nil || got != `"kept"` {
		t.Errorf("the one that a worker had: %s, %v", got, err)
	}
}

func TestP29_EndOfTheControlConnectionCancels(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	id := data.begin("sleep", args{"ms": 60000})
	r.awaitBusy(1)
	_ = control.conn.Close()
	_, err := data.reply(id)
	wants(t, err, pool.Cancelled)
}

// TestP29_ARequestReadAfterTheEndOfItsControlConnection: nobody could cancel it, so it doesn't run.
func TestP29_ARequestReadAfterTheEndOfItsControlConnection(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	id := data.begin("sleep", args{"ms": 60000})
	r.awaitBusy(1)
	_ = control.conn.Close()
	if _, err := data.reply(id); err == nil || err.Type != pool.Cancelled {
		t.Fatalf("the one that ran: %v", err) // the slot has noticed
	}
	late := r.connect(slotproto.Data, "i")
	for name, c := range map[string]*client{"opened before": data, "opened after": late} {
		if _, err := c.call("echo", args{"value": 1}); err == nil || err.Type != pool.NotAvailable || err.Sent {
			t.Errorf("a connection %s: %v; want pool_not_available, unsent", name, err)
		}
	}
	r.connect(slotproto.Control, "i")
	if _, err := r.connect(slotproto.Data, "i").call("echo", args{"value": 1}); err != nil {
		t.Errorf("a connection of the router that has come back: %v", err)
	}
	if _, err := data.call("echo", args{"value": 1}); err == nil || err.Type != pool.NotAvailable {
		t.Errorf("the old connection of that router: %v; want pool_not_available", err)
	}
}

func TestADataConnectionAnswersPings(t *testing.T) {
	r := newRig(t, nil)
	data := r.connect(slotproto.Data, "i")
	data.send(frame.Frame{Kind: frame.Ping, ID: 9})
	if f := data.read(); f.Kind != frame.Pong || f.ID != 9 {
		t.Errorf("a ping was answered with kind %d, id %d", f.Kind, f.ID)
	}
}

// TestARecallBesideAConfigure: what a configuration changes is read by requests meanwhile. It shows with -race.
func TestARecallBesideAConfigure(t *testing.T) {
	r := newRig(t, nil)
	recall := make(chan struct{})
	close(recall)
	if err := r.slot.Configure(t.Context(), r.config(nil)); err != nil {
		t.Fatal(err)
	}
	stop, began := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for _, act := range []func(){
		func() {
			_, err := r.slot.Do(t.Context(), pool.Request{Command: "echo", Payload: []byte("{}"), Deadline: time.Now().Add(patience), Recall: recall})
			if err == nil || err.Type != pool.NotAvailable || !strings.Contains(err.Message, "tested") {
				t.Errorf("a request that was recalled: %v", err)
			}
		},
		func() { r.slot.Status() },
	} {
		all.Go(func() {
			for {
				act()
				select {
				case began <- struct{}{}:
				case <-stop:
					return
				}
			}
		})
	}
	for i := range 30 {
		if err := r.slot.Configure(t.Context(), r.config(func(c *slotproto.Config) {
			c.Queue, c.Revision = 100+i, []string{"r1", "r2"}[i/20]
		})); err != nil {
			t.Fatal(err)
		}
		<-began
	}
	close(stop)
	all.Wait()
}

func TestP33_RequestOverTheLimit(t *testing.T) {
	r := newRig(t, func(o *slot.Options) { o.MaxPayload = 1000 })
	data := r.connect(slotproto.Data, "i")
	data.send(frame.Frame{Kind: frame.Request, ID: 1, Payload: make([]byte, 1001)})
	f := data.read()
	err := data.failure(f)
	wants(t, err, pool.FrameTooLarge)
	if f.Kind != frame.Error || err.Category != pool.RequestError || err.Sent {
		t.Errorf("kind %d, %v, sent %v", f.Kind, err, err.Sent)
	}
	if !data.closed() {
		t.Error("the connection is used on although it is out of step")
	}
}

func TestBadConfigurationIsRefusedAndTheOldOneStays(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	for name, change := range map[string]func(*slotproto.Config){
		"version": func(c *slotproto.Config) { c.Version = "v3" },
		"module":  func(c *slotproto.Config) { c.Worker.Module = "" },
		"size":    func(c *slotproto.Config) { c.Size = 0 },
		"queue":   func(c *slotproto.Config) { c.Queue = -1 },
		"timeout": func(c *slotproto.Config) { c.Op = 0 },
	} {
		err := control.configure(r.config(change))
		wants(t, err, pool.InvalidPayload)
		if !strings.Contains(err.Message, name) {
			t.Errorf("message %q doesn't name %s", err.Message, name)
		}
	}
	if s := control.awaitReady(1); s.Spawned != 1 {
		t.Errorf("%d workers started", s.Spawned)
	}
}

func TestP42_JunkEndsOnlyItsConnection(t *testing.T) {
	r := newRig(t, nil)
	hello := func(h slotproto.Hello) []byte {
		c := client{rig: r}
		b, err := frame.Append(nil, &frame.Frame{Kind: frame.Hello, Payload: c.json(h)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, bytes := range map[string][]byte{
		"random":           bytes.Repeat([]byte{0xa5, 0x17}, 500),
		"HTTP":             []byte("GET / HTTP/1.1\r\nHost: pool\r\n\r\n"),
		"another protocol": hello(slotproto.Hello{Role: slotproto.Data, Instance: "i", Protocol: 9}),
		"another role":     hello(slotproto.Hello{Role: "boss", Instance: "i", Protocol: 1}),
		"no instance":      hello(slotproto.Hello{Role: slotproto.Data, Protocol: 1}),
	} {
		c := r.dial()
		if _, err := c.conn.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if !c.closed() {
			t.Errorf("%s: the connection was answered", name)
		}
	}
	wrong := r.connect(slotproto.Data, "i")
	wrong.send(frame.Frame{Kind: frame.Configure, ID: 1})
	if !wrong.closed() {
		t.Error("Configure was taken on a data connection")
	}
	if _, err := r.connect(slotproto.Data, "i").call("echo", args{}); err == nil || err.Type != pool.NotAvailable {
		t.Errorf("a good connection afterwards: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	r := newRigOf(t, 2, nil)
	first := r.connect(slotproto.Data, "i")
	r.connect(slotproto.Data, "i")
	refused := func() bool {
		c := r.dial()
		c.send(frame.Frame{Kind: frame.Hello, Payload: c.json(slotproto.Hello{Role: slotproto.Data, Instance: "i", Protocol: 1})})
		return c.closed()
	}
	if !refused() {
		t.Error("a third connection was taken")
	}
	_ = first.conn.Close()
	for refused() { // until the slot has noticed
	}
}

func TestControlConnectionsComeInWhenTheSlotIsFull(t *testing.T) {
	r := newRigOf(t, 1, nil)
	control := r.connect(slotproto.Control, "i")
	r.connect(slotproto.Data, "i")
	_ = control.conn.Close()
	again := r.connect(slotproto.Control, "i")
	if err := again.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	again.awaitReady(1)
}

func TestListen(t *testing.T) {
	path := tempSocket(t)
	l, err := slot.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode %v, %v; every user must be able to connect", info.Mode(), err)
	}
	if _, err := slot.Listen(path); err == nil || !strings.Contains(err.Error(), "another supervisor") {
		t.Errorf("a socket that is served was replaced: %v", err)
	}
	l.SetUnlinkOnClose(false) // as after a SIGKILL
	_ = l.Close()
	again, err := slot.Listen(path)
	if err != nil {
		t.Fatalf("a stale socket wasn't replaced: %v", err)
	}
	defer again.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

// TestWhatIsKnownOfASlotIsOfWhatItAccepted: a Status comes before the answer to a configuration, so that no one takes how the slot
// was before it for how it is under it.
func TestWhatIsKnownOfASlotIsOfWhatItAccepted(t *testing.T) {
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	for _, size := range []int{1, 3, 2} {
		control.id++
		cfg := r.config(func(c *slotproto.Config) { c.Size = size })
		control.send(frame.Frame{Kind: frame.Configure, ID: control.id, Payload: control.json(cfg)})
		var last slotproto.Status
		for f := control.read(); f.Kind != frame.Result; f = control.read() {
			if f.Kind != frame.Status {
				t.Fatalf("a frame of kind %d", f.Kind)
			}
			last = slotproto.Status{}
			if err := json.Unmarshal(f.Payload, &last); err != nil {
				t.Fatal(err)
			}
		}
		if last.Desired != size {
			t.Errorf("size %d was accepted, and the last word before is of %d workers", size, last.Desired)
		}
	}
}
