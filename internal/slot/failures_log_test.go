package slot_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/slot"
	"github.com/dspex/workerpool-operator/internal/slot/slotproto"
)

// logBook is a slot's log.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// with returns the entries with that message.
func (b *logBook) with(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry["msg"] == message {
			found = append(found, entry)
		}
	}
	return found
}

// TestP54_FailuresAreLoggedWithTheirPlaceAndNoValue: of each kind once, the others counted, under both versions.
func TestP54_FailuresAreLoggedWithTheirPlaceAndNoValue(t *testing.T) {
	const secret = "s3cret-4711"
	for _, version := range []pool.Version{pool.V1, pool.V2} {
		t.Run(string(version), func(t *testing.T) {
			var log logBook
			r := newRig(t, func(o *slot.Options) { o.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
			control, data := r.connect(slotproto.Control, "i"), r.connect(slotproto.Data, "i")
			if err := control.configure(r.config(func(c *slotproto.Config) { c.Version, c.Op = version, 2*time.Second })); err != nil {
				t.Fatal(err)
			}
			control.awaitReady(1)
			for range 5 {
				_, err := data.call("fail", args{"text": secret})
				wants(t, err, pool.PythonError)
			}
			_, err := data.call("hold", args{"path": filepath.Join(t.TempDir(), secret)})
			wants(t, err, pool.CommandTimeout)
			_, err = data.call("mark_then_exit", args{"path": filepath.Join(t.TempDir(), secret)})
			wants(t, err, pool.PortExited)
			_, err = data.call("fail", args{"wrong": secret})
			wants(t, err, pool.InvalidPayload)
			r.end() // writes what wasn't told yet

			entries := map[any]map[string]any{}
			for _, entry := range log.with(t, "request failed") {
				if entries[entry["type"]] != nil {
					t.Errorf("logged again: %v", entry)
				}
				entries[entry["type"]] = entry
				if entry["revision"] != "r1" || entry["pool"] != "tested" || entry["worker"] == nil {
					t.Errorf("it doesn't say whose it is: %v", entry)
				}
			}
			raised, timedOut, exited := entries["python_error"], entries["command_timeout"], entries["port_exited"]
			if len(entries) != 3 || raised == nil || timedOut == nil || exited == nil {
				t.Fatalf("logged %v; want one failure of each of three kinds", entries)
			}
			if place, _ := raised["place"].(string); raised["exception"] != "ValueError" || raised["command"] != "fail" || !strings.HasSuffix(place, " in fail") {
				t.Errorf("what was raised: %v", raised)
			}
			if stack, _ := timedOut["stack"].(string); !strings.Contains(stack, " in hold") {
				t.Errorf("the timeout doesn't say where the handler was: %v", timedOut)
			}
			if text, _ := exited["error"].(string); !strings.Contains(text, "exit") {
				t.Errorf("the crash doesn't say how the process ended: %v", exited)
			}
			more := 0.0
			for _, entry := range log.with(t, "more requests failed in the same way") {
				if n, is := entry["requests"].(float64); is && entry["command"] == "fail" {
					more += n
				}
			}
			if more != 4 {
				t.Errorf("%v more are counted, want 4", more)
			}
			if log.mu.Lock(); strings.Contains(log.text.String(), secret) {
				t.Error("an argument is in the log")
			}
			log.mu.Unlock()
		})
	}
}
