package slot_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// wish sends a request of a session for the worker that served it last.
func (c *client) wish(mode pool.AffinityMode, session, command string, arguments args) uint64 {
	c.Helper()
	c.id++
	call := frame.Call{Command: command, Session: session, Affinity: string(mode)}
	c.send(frame.Frame{Kind: frame.Request, ID: c.id, Flags: call.Flags(), Meta: call.Meta(), Payload: c.json(arguments)})
	return c.id
}

func TestP68_AffinityThroughASlot(t *testing.T) {
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			r := newRig(t, nil)
			control, one, other := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i"), r.connect(slotproto.Data, "i")
			if err := control.configure(r.config(func(c *slotproto.Config) { c.Version, c.Size = version, 2 })); err != nil {
				t.Fatal(err)
			}
			control.awaitReady(2)
			path := filepath.Join(t.TempDir(), "go")
			running := one.wish(pool.AffinityStrict, "s1", "occupy", args{"path": path})
			r.awaitBusy(1)
			_, err := other.reply(other.wish(pool.AffinityStrictNow, "s1", "pid", args{}))
			wants(t, err, pool.WorkerBusy)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			home, err := one.reply(running)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if pid, err := other.reply(other.wish(pool.AffinityStrictNow, "s1", "pid", args{})); err != nil || pid != home {
					t.Errorf("served by %s, %v; want %s", pid, err, home)
				}
			}
			// A worker that was told of it would end: see its test_p68.
			if got, err := other.reply(other.wish(pool.AffinityHint, "s1", "context", args{})); err != nil || got != `["s1", ""]` && got != `["s1",""]` {
				t.Errorf("the handler saw %s, %v", got, err)
			}
		})
	}
}

func TestP68_AffinityThatCantBeIsABreachOfTheProtocol(t *testing.T) {
	r := newRig(t, nil)
	for name, call := range map[string]frame.Call{
		"no such mode": {Command: "echo", Session: "s1", Affinity: "sticky"},
		"no session":   {Command: "echo", Affinity: "hint"},
	} {
		data := r.connect(slotproto.Data, "i")
		data.send(frame.Frame{Kind: frame.Request, ID: 1, Flags: call.Flags(), Meta: call.Meta(), Payload: []byte("{}")})
		if !data.closed() {
			t.Errorf("%s: it was answered", name)
		}
	}
}
