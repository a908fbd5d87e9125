package slot_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/router/slotclient"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// routerOf is a router's end of the slot, configured.
func routerOf(r *rig, change func(*slotproto.Config)) *slotclient.Client {
	r.Helper()
	c := slotclient.New(slotclient.Options{Name: "a", Socket: r.socket, Instance: "router", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	r.Cleanup(func() { cancel(); <-ended })
	number, err := c.Configure(r.config(change))
	if err == nil {
		err = c.Accepted(ctx, number)
	}
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// TestP109_FromWorkerToRouter has a reader in the router that stops: the handler stops soon after, other requests of the
// same router and worker go on, and at the end all items have come in order.
func TestP109_FromWorkerToRouter(t *testing.T) {
	for name, module := range map[string]string{"v1": "fixture", "v2": "fixture", "v2 shared": "sharing"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			c := routerOf(r, func(cfg *slotproto.Config) {
				cfg.Version, cfg.Worker.Module = pool.Version(name[:2]), module
				if module == "sharing" {
					cfg.Worker.Concurrency = 3
				}
			})
			path, stopped, goOn := filepath.Join(t.TempDir(), "made"), make(chan struct{}), make(chan struct{})
			got := 0
			slow := request("items", args{"n": 2000, "path": path})
			slow.Stream = func(_ context.Context, item []byte) error {
				if want, _ := json.Marshal(got); string(item) != string(want) {
					t.Errorf("item %d is %s", got, item)
				}
				if got++; got == 100 {
					close(stopped)
					<-goOn
				}
				return nil
			}
			ended := make(chan error, 1)
			go func() {
				reply, err := c.Do(t.Context(), slow)
				if err == nil && string(reply.Payload) != "2000" {
					err = errors.New("the end says " + string(reply.Payload))
				}
				ended <- err
			}()
			<-stopped
			if module == "sharing" {
				for range 20 {
					if _, err := c.Do(t.Context(), request("echo", args{"value": 1})); err != nil {
						t.Fatalf("beside a slow reader: %v", err)
					}
				}
			}
			time.Sleep(200 * time.Millisecond)
			if made := countLines(t, path); made > 160 {
				t.Errorf("%d items were made for a reader that has taken 100", made)
			}
			close(goOn)
			if err := <-ended; err != nil || got != 2000 {
				t.Errorf("%d items, %v", got, err)
			}
		})
	}
}

func request(command string, a args) slotclient.Request {
	payload, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return slotclient.Request{Command: command, Payload: payload, Deadline: time.Now().Add(patience)}
}
