package router

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/dspex/workerpool-operator/internal/control/controlpb"
	"github.com/dspex/workerpool-operator/internal/router/slottest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(buildDir)
		os.Exit(code)
	}))
}

// secret is a worker's environment, which nothing may show.
const secret = "sk-very-secret"

// snapshot returns stable r1 (v1) in slot a and canary r2 (v2) in slot b, at a weight in 1/10000.
func snapshot(weight uint32) *controlpb.Snapshot {
	slot := func(name, hash, version string) *controlpb.Slot {
		return &controlpb.Slot{Name: name, Size: 4, Revision: &controlpb.Revision{
			Hash: hash, Version: version, Module: "summarizer.commands",
			Env: []*controlpb.EnvVar{{Name: "API_KEY", Value: secret}},
		}}
	}
	return &controlpb.Snapshot{
		Slots:  []*controlpb.Slot{slot("a", "r1", "v1"), slot("b", "r2", "v2")},
		Stable: "a", Canary: "b", CanaryWeight: weight,
		Limits: &controlpb.Limits{QueueLimit: 100, CheckoutMs: 2000, OperationMs: 5000, DrainMs: 5000},
	}
}

// at gives a snapshot its place in a leader's order.
func at(s *controlpb.Snapshot, epoch, sequence uint64) *controlpb.Snapshot {
	s = proto.CloneOf(s)
	s.Epoch, s.Sequence = epoch, sequence
	return s
}

// changed returns a copy of s with a change.
func changed(s *controlpb.Snapshot, change func(*controlpb.Snapshot)) *controlpb.Snapshot {
	s = proto.CloneOf(s)
	change(s)
	return s
}

// rig is a router between an HTTP client and two fake slots.
type rig struct {
	*Router
	t      *testing.T
	config Config
	a, b   *slottest.Slot
	client *http.Client
	logs   *logBuffer
	stop   context.CancelFunc
	done   chan error
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// slotName is a Handler that returns the slot's name, unless the command is one of scripted's.
func slotName(name string, scripted map[string]slottest.Handler) slottest.Handler {
	return func(ctx context.Context, call slottest.Call) (string, error) {
		if h := scripted[call.Command]; h != nil {
			return h(ctx, call)
		}
		return `"` + name + `"`, nil
	}
}

// newRig starts slots and router, with bootstrap in force (nil: none), and waits until both slots have been seen
// ready.
func newRig(t *testing.T, bootstrap *controlpb.Snapshot, scripted map[string]slottest.Handler) *rig {
	t.Helper()
	dir := shortDir(t)
	r := &rig{
		t: t,
		a: slottest.New(t, filepath.Join(dir, "slots"), "a", slotName("a", scripted)),
		b: slottest.New(t, filepath.Join(dir, "slots"), "b", slotName("b", scripted)),
	}
	r.config = Config{
		Pool: "summarizer", Instance: "test", Version: "v0.0.0-test", SlotsDir: filepath.Join(dir, "slots"),
		Socket: filepath.Join(dir, "pool.sock"), StateDir: filepath.Join(dir, "state"),
	}
	if err := os.Mkdir(r.config.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if bootstrap != nil {
		text, err := protojson.Marshal(bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		r.config.Bootstrap = text
	}
	r.start()
	if bootstrap != nil {
		r.until(func() bool { return r.table.Load() != nil && ready(r.Router, bootstrap) })
	}
	return r
}

// ready reports whether every slot of s that has a revision has been seen with workers up.
func ready(r *Router, s *controlpb.Snapshot) bool {
	for _, slot := range s.GetSlots() {
		if rev := slot.GetRevision(); rev != nil && !r.slots[slot.GetName()].Ready(rev.GetHash()) {
			return false
		}
	}
	return true
}

// start runs a router with the rig's config, as a fresh process would.
func (r *rig) start() {
	r.t.Helper()
	r.logs = &logBuffer{}
	r.config.Logger = slog.New(slog.NewJSONHandler(io.MultiWriter(r.logs, r.t.Output()), nil))
	r.Router = New(r.config)
	transport := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.config.Socket)
		},
	}
	r.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r.stop, r.done = cancel, done
	router := r.Router
	go func() { done <- router.Run(ctx); close(done) }()
	r.t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		for range done { // until it is closed
		}
	})
	r.until(func() bool { _, err := os.Stat(r.config.Socket); return err == nil })
}

// end stops the router and waits until it has drained.
func (r *rig) end() {
	r.t.Helper()
	r.client.CloseIdleConnections()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Fatal(err)
	}
}

// restart ends the router and starts another on the same files.
func (r *rig) restart() {
	r.t.Helper()
	r.end()
	r.start()
}

// until waits for what has no event of its own to wait for.
func (r *rig) until(holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("it never came to be; log:\n%s", r.logs)
		}
	}
}

// apply puts s in force and waits until its slots are ready.
func (r *rig) apply(s *controlpb.Snapshot) {
	r.t.Helper()
	if err := r.Apply(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
	r.until(func() bool { return ready(r.Router, s) })
}

// answer is a reply of the router.
type answer struct {
	code    int
	header  http.Header
	body    string
	failure struct {
		Category, Type, Message string
		Context                 map[string]any
	}
}

// slot is the name that slotName answered with.
func (a *answer) slot() string {
	var name string
	_ = json.Unmarshal([]byte(a.body), &name)
	return name
}

// post sends a command; header holds pairs of names and values.
func (r *rig) post(command, body string, header ...string) *answer {
	r.t.Helper()
	return r.send(http.MethodPost, "/v1/commands/"+command, bytes.NewReader([]byte(body)), header...)
}

func (r *rig) send(method, path string, body io.Reader, header ...string) *answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://pool"+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Errorf("%s %s: %v", method, path, err)
		return &answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Errorf("%s %s: %v", method, path, err)
	}
	a := &answer{code: response.StatusCode, header: response.Header, body: string(text)}
	if a.code >= 400 {
		var envelope map[string]json.RawMessage
		if err := json.Unmarshal(text, &envelope); err != nil || json.Unmarshal(envelope["error"], &a.failure) != nil {
			r.t.Errorf("%s %s: error %d isn't in its form: %s", method, path, a.code, text)
		}
	}
	checkDocumented(r.t, method, path, a)
	return a
}

// sawTheEnd reports whether a caller that the router still has a connection with sends nothing more.
func (r *rig) sawTheEnd() bool {
	l := r.listeners[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.held {
		if c.ended.Load() {
			return true
		}
	}
	return false
}

// hasAllRoom fails the test unless all room for large bodies is free.
func (r *rig) hasAllRoom() {
	r.t.Helper()
	r.bodies.mu.Lock()
	defer r.bodies.mu.Unlock()
	if b := r.bodies; b.open.taken+b.reserved.taken != 0 || len(b.arriving)+len(b.queue) > 0 {
		r.t.Errorf("room is lost: %+v, %+v, %d arrive, %d wait", b.open, b.reserved, len(b.arriving), len(b.queue))
	}
}

// revisionFigures returns the status' row of a revision.
func (r *rig) revisionFigures(revision string) RevisionStatus {
	for _, row := range r.status().Revisions {
		if row.Revision == revision {
			return row
		}
	}
	return RevisionStatus{}
}

// shortDir is a folder whose path leaves room for a socket's name (108 bytes in all).
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
