package slot_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// streaming is a rig whose slot runs that version, with its control connection.
func streaming(t *testing.T, version pool.Version, change func(*slotproto.Config)) (*rig, *client) {
	t.Helper()
	r := newRig(t, nil)
	control := r.connect(slotproto.Control, "i")
	if err := control.configure(r.config(func(c *slotproto.Config) {
		if c.Version = version; change != nil {
			change(c)
		}
	})); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	return r, control
}

// beginStream sends a request for a stream and returns its id.
func (c *client) beginStream(command string, arguments any, idle time.Duration) uint64 {
	c.Helper()
	c.id++
	call := frame.Call{Command: command, Stream: true, Idle: idle}
	c.send(frame.Frame{Kind: frame.Request, Flags: call.Flags(), ID: c.id, Meta: call.Meta(), Payload: c.json(arguments)})
	return c.id
}

// items reads so many, giving no credit.
func (c *client) items(id uint64, n int) (items []string) {
	c.Helper()
	for range n {
		f := c.read()
		if f.Kind != frame.Chunk || f.ID != id {
			c.Fatalf("a frame of kind %d for request %d instead of item %d: %s", f.Kind, f.ID, len(items), f.Payload)
		}
		items = append(items, string(f.Payload))
	}
	return items
}

// rest takes a stream to its end, giving the credit of each item back.
func (c *client) rest(id uint64) (n int, end frame.Frame) {
	c.Helper()
	for ; ; n++ {
		f := c.read()
		if f.Kind != frame.Chunk {
			return n, f
		}
		c.send(*frame.NewCredit(0, id, frame.ChunkCost(f.Payload)))
	}
}

// silent fails the test if anything comes within a while.
func (c *client) silent() {
	c.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	var f frame.Frame
	if err := c.r.Read(&f); err == nil {
		c.Errorf("a frame of kind %d came without credit", f.Kind)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(2 * patience))
}

func TestP109_CreditEndToEnd(t *testing.T) {
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			r, _ := streaming(t, version, nil)
			data, path := r.connect(slotproto.Data, "i"), filepath.Join(t.TempDir(), "made")
			id := data.beginStream("items", args{"n": 500, "path": path}, 0)
			data.items(id, 16)
			data.silent()
			if made := countLines(t, path); made > 60 { // both windows, what is between them, and the one that waits
				t.Errorf("%d items were made for a router that has given credit for 16", made)
			}
			data.send(*frame.NewCredit(0, id, 3))
			data.items(id, 3)
			data.silent()
			data.send(*frame.NewCredit(0, id, 1))
			n, end := data.rest(id)
			if n != 500-19 || end.Kind != frame.Result || string(end.Payload) != "500" || end.Budget <= 0 {
				t.Errorf("%d more items, then kind %d, %s, after %s; want 481 and 500", n, end.Kind, end.Payload, end.Budget)
			}
			data.send(*frame.NewCredit(0, id, 1)) // late: the end was on its way
			if got, err := data.call("echo", args{"value": 1}); err != nil || got != "1" {
				t.Errorf("a request after a stream on its connection: %s, %v", got, err)
			}
			if n, _ := data.rest(data.beginStream("items", args{"n": 40}, 0)); n != 40 {
				t.Errorf("%d items of a second stream; want 40", n)
			}
		})
	}
}

func TestP109_ASlowRouterBlocksNoOtherRequest(t *testing.T) {
	r, control := streaming(t, pool.V2, func(c *slotproto.Config) { c.Worker.Module, c.Worker.Concurrency = "sharing", 4 })
	slow := r.connect(slotproto.Data, "i")
	id := slow.beginStream("items", args{"n": 300}, 0)
	slow.items(id, 16)
	for range 3 {
		data := r.connect(slotproto.Data, "i")
		if n, end := data.rest(data.beginStream("items", args{"n": 300}, 0)); n != 300 || end.Kind != frame.Result {
			t.Fatalf("%d items beside a slow router, then kind %d: %s", n, end.Kind, end.Payload)
		}
		if _, err := data.call("echo", args{"value": 1}); err != nil {
			t.Fatal(err)
		}
	}
	slow.send(*frame.NewCredit(0, id, 16))
	if n, end := slow.rest(id); n != 284 || end.Kind != frame.Result {
		t.Errorf("%d more items, then kind %d: %s", n, end.Kind, end.Payload)
	}
	if n := control.awaitReady(1).Spawned; n != 1 {
		t.Errorf("%d workers started; want one that served all", n)
	}
}

// TestP109_ALargeItemWaitsForItsRouter has items larger than what any buffer between holds, and a router that doesn't read.
func TestP109_ALargeItemWaitsForItsRouter(t *testing.T) {
	r, _ := streaming(t, pool.V2, nil)
	data := r.connect(slotproto.Data, "i")
	id := data.beginStream("items", args{"n": 4, "size": 3 << 20}, 0)
	time.Sleep(300 * time.Millisecond)
	if n, end := data.rest(id); n != 4 || end.Kind != frame.Result {
		t.Errorf("%d items, then kind %d: %s", n, end.Kind, end.Payload)
	}
}

// TestP109_CreditAheadOfTheFirstItem comes while the request still waits, and must not disturb it.
func TestP109_CreditAheadOfTheFirstItem(t *testing.T) {
	r, _ := streaming(t, pool.V2, nil)
	path := filepath.Join(t.TempDir(), "go")
	first, data := r.connect(slotproto.Data, "i"), r.connect(slotproto.Data, "i")
	held := first.begin("hold", args{"path": path})
	r.awaitBusy(1)
	id := data.beginStream("items", args{"n": 1000}, 0)
	credits := make([]*frame.Frame, 100)
	for i := range credits {
		credits[i] = frame.NewCredit(0, id, 10)
	}
	if err := data.w.Write(credits...); err != nil { // together, so that they fill what the request was read into
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := first.reply(held); err != nil {
		t.Fatal(err)
	}
	data.items(id, 1000)
	if end := data.read(); end.Kind != frame.Result || string(end.Payload) != "1000" {
		t.Errorf("then kind %d: %s", end.Kind, end.Payload)
	}
}

func TestP109_ErrorsAndLimitsOfAStream(t *testing.T) {
	r, _ := streaming(t, pool.V2, nil)
	data := r.connect(slotproto.Data, "i")
	for name, tc := range map[string]struct {
		arguments args
		idle      time.Duration
		items     int
		want      pool.Type
	}{
		"the handler raises": {args{"n": 20, "then": "raise"}, 0, 20, pool.PythonError},
		"it is silent":       {args{"n": 20, "then": "sleep"}, 100 * time.Millisecond, 20, pool.CommandTimeout},
		"a wrong argument":   {args{"m": 20}, 0, 0, pool.InvalidPayload},
	} {
		t.Run(name, func(t *testing.T) {
			n, end := data.rest(data.beginStream("items", tc.arguments, tc.idle))
			if n != tc.items || end.Kind != frame.Error {
				t.Fatalf("%d items, then kind %d; want %d and an Error", n, end.Kind, tc.items)
			}
			err := data.failure(end)
			wants(t, err, tc.want)
			if !err.Sent {
				t.Errorf("%v isn't told as sent", err)
			}
		})
	}
}

func TestP109_ARouterThatLeavesEndsItsStream(t *testing.T) {
	for name, leave := range map[string]func(control, data *client, id uint64){
		"its data connection":    func(_, data *client, _ uint64) { _ = data.conn.Close() },
		"its control connection": func(control, _ *client, _ uint64) { _ = control.conn.Close() },
		"a cancel":               func(control, _ *client, id uint64) { control.send(frame.Frame{Kind: frame.Cancel, ID: id}) },
		"what is no credit": func(_, data *client, id uint64) {
			data.send(frame.Frame{Kind: frame.Request, ID: id, Meta: []byte("echo"), Payload: []byte("{}")})
		},
		"credit of another stream": func(_, data *client, id uint64) { data.send(*frame.NewCredit(0, id+1, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			r, control := streaming(t, pool.V2, nil)
			data, path := r.connect(slotproto.Data, "i"), filepath.Join(t.TempDir(), "made")
			id := data.beginStream("items", args{"n": 1_000_000, "path": path}, 0)
			data.items(id, 16)
			leave(control, data, id)
			for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(path + ".closed"); err == nil {
					break
				} else if time.Now().After(until) {
					t.Fatal("the generator isn't closed")
				}
			}
			r.awaitBusy(0)
		})
	}
}
