package slot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/workerpool-operator/internal/frame"
	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

func TestP107_ConcurrencyOfASlotsWorkers(t *testing.T) {
	for name, tc := range map[string]struct {
		version  pool.Version
		preload  slotproto.Preload
		command  string // meet: returns once three are inside
		queued   int
		inactive string
	}{
		"v1 says that it is inactive": {version: pool.V1, command: "hold", queued: 2, inactive: "worker.concurrency of 3 is inactive under v1"},
		"v2":                          {version: pool.V2, command: "meet"},
		"v2, forked":                  {version: pool.V2, command: "meet", preload: slotproto.PreloadZygote},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			control := r.connect(slotproto.Control, "i")
			if err := control.configure(r.config(func(c *slotproto.Config) {
				c.Version, c.Worker.Module, c.Worker.Preload, c.Worker.Concurrency = tc.version, "sharing", tc.preload, 3
			})); err != nil {
				t.Fatal(err)
			}
			control.awaitReady(1)
			path := filepath.Join(t.TempDir(), "go")
			arguments := args{"path": path}
			if tc.command == "meet" {
				arguments = args{"n": 3}
			}
			ended := make(chan *pool.Error, 3)
			for range 3 {
				data := r.connect(slotproto.Data, "i")
				go func() {
					_, err := data.call(tc.command, arguments)
					ended <- err
				}()
			}
			status := control.await("requests", func(s slotproto.Status) bool { return s.Queued == tc.queued })
			if said := strings.Join(status.Inactive, "; "); !strings.HasPrefix(said, tc.inactive) || (said == "") != (tc.inactive == "") {
				t.Errorf("inactive: %q; want %q", said, tc.inactive)
			}
			if status.ForkRefused != "" {
				t.Errorf("workers aren't forked: %s", status.ForkRefused)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			if n := control.awaitReady(1).Spawned; n != 1 {
				t.Errorf("%d workers started; want 1", n)
			}
		})
	}
}

func TestNegativeConcurrencyIsRefused(t *testing.T) {
	r := newRig(t, nil)
	err := r.connect(slotproto.Control, "i").configure(r.config(func(c *slotproto.Config) { c.Worker.Concurrency = -1 }))
	wants(t, err, pool.InvalidPayload)
	if !strings.Contains(err.Message, "worker.concurrency") {
		t.Errorf("message %q doesn't name it", err.Message)
	}
}

func TestP112_BatchThroughASlot(t *testing.T) {
	r := newRig(t, nil)
	control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
	if err := control.configure(r.config(nil)); err != nil {
		t.Fatal(err)
	}
	control.awaitReady(1)
	data.id++
	data.send(frame.Frame{
		Kind: frame.Request, Flags: frame.FlagBatch, ID: data.id, Meta: []byte("echo"),
		Payload: []byte(`{"inputs":[{"value":"a"},{"value":"b"}]}`),
	})
	if got, err := data.reply(data.id); err != nil || got != `{"outputs":[{"result":"a"},{"result":"b"}]}` {
		t.Errorf("got %s, %v", got, err)
	}
}
